"""What the worker does for audit. Each job may run at any moment, twice at once, or be cut off half-way."""

from audit.tasks import erasing, exports, keeping, notices, search, support, webhooks

__all__ = ["erasing", "exports", "keeping", "notices", "search", "support", "webhooks"]
