"""What the worker does for audit. Each job may run at any moment, twice at once, or be cut off half-way."""

from audit.tasks import keeping, notices, search, webhooks

__all__ = ["keeping", "notices", "search", "webhooks"]
