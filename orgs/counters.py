"""A cache in the database whose counters are exact.

Django's `DatabaseCache.incr` reads, adds and writes, and so loses counts under concurrency; a sign-in limit built on
it can be outrun. Here the row is locked in between.
"""

from typing import Any

from django.core.cache.backends.db import DatabaseCache
from django.db import connection, transaction


class CounterCache(DatabaseCache):
    """`DatabaseCache` with an atomic `incr`."""

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """Add `delta` to a counter and return the sum; raises `ValueError` where there is none."""
        made = self.make_and_validate_key(key, version=version)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT expires FROM orgs_counter WHERE cache_key = %s FOR UPDATE", [made])
                row = cursor.fetchone()
            value = self.get(key, version=version)
            if row is None or value is None:
                raise ValueError(f"no counter {key!r}")
            left = (row[0] - _now()).total_seconds()
            self.set(key, value + delta, timeout=max(1, int(left)), version=version)
        return value + delta


def _now() -> Any:
    from django.utils import timezone  # noqa: PLC0415

    return timezone.now()
