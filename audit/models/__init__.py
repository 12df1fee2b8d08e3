"""The models of audit: a file for each noun."""

from audit.models.entry import Entry, EntryQuerySet, Head, Sealed

__all__ = ["Entry", "EntryQuerySet", "Head", "Sealed"]
