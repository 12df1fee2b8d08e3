"""What is stored encrypted, over every organization: under which key each value is, and its way to the newest one.

These are webhooks' secrets; a test holds that nothing else calls `encryption.encrypt`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from audit import encryption, tenancy
from audit.models import EndpointSecret

PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One encrypted value as it was read. `key` is its key's place in `ENCRYPTION_KEYS`, None where no key fits."""

    pk: tuple[str, int]
    token: bytes
    key: int | None

    def __str__(self) -> str:
        return f"secret {self.pk[1]} of webhook {self.pk[0]}"


def values() -> Iterator[Value]:
    """Yield every encrypted value, without an open transaction in between: what is written meanwhile may be missed."""
    last: tuple[str, int] | None = None
    while page := _page(last):
        for pk, token in page:
            yield Value(pk=pk, token=token, key=encryption.place(token))
        last = page[-1][0]


def renew(value: Value) -> bool:
    """Encrypt one value under the newest key, in a transaction of its own; return whether it was changed.

    It is not where it is gone, or is not what was read any more: somebody else has written it since. Raises
    `DecryptionFailed`, and changes nothing then.
    """
    renewed = encryption.renewed(value.token)
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        as_read = EndpointSecret.objects.filter(pk=value.pk, sealed=value.token)
        return bool(as_read.update(sealed=renewed))


def _page(last: tuple[str, int] | None) -> list[tuple[tuple[str, int], bytes]]:
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        rows = EndpointSecret.objects.order_by("pk")
        after = rows if last is None else rows.filter(pk__gt=last)
        return [(pk, bytes(token)) for pk, token in after.values_list("pk", "sealed")[:PAGE]]
