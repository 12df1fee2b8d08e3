"""What the worker does for keys. Each job may run at any moment, twice at once, or be cut off half-way."""

from keys.tasks import approvals, expiry, health, noticing, rotations, usage

__all__ = ["approvals", "expiry", "health", "noticing", "rotations", "usage"]
