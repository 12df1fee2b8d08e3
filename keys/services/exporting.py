"""Taking the list of keys out of the portal, without secrets; recorded before a byte leaves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Final

from audit import ledger
from audit.acts import Act
from keys import export
from keys.errors import Invalid
from orgs.members import Member

MAX_ROWS: Final = 100_000


def check_rows(number: int) -> None:
    """Refuse an export of more rows than one may have, before any is fetched; raises `Invalid`."""
    if number > MAX_ROWS:
        raise Invalid(f"More than {MAX_ROWS:,} keys. Narrow the list first.", field="filters")


def export_keys(
    rows: Iterable[Sequence[str]],
    file: IO[str],
    *,
    header: Sequence[str],
    filters: Mapping[str, str],
    actor: Member,
) -> int:
    """Write keys as CSV and record `export.made` with the filters and the number of rows; return that number.

    Nothing of the file may be handed out before the transaction is committed: then no export goes unrecorded.

    Args:
        rows: a text for each column of `header`; whatever looks like a secret is hidden. At most 100,000.
        file: opened with `newline=""`.
        filters: names and values as the page has them; what the person typed freely (`q`) is sealed.
        actor: who exports, in which organization.

    Raises:
        Invalid: there are more rows.
    """
    with ledger.recording(actor.organization_id, actor) as entry:
        count = export.write(file, header, _bounded(rows))
        entry(
            Act.EXPORT_MADE,
            target=actor.organization_id,
            data={
                "what": "keys",
                "format": "csv",
                "rows": count,
                "filters": {name: value for name, value in filters.items() if name != "q"},
            },
            sealed={"q": filters.get("q", "")},
        )
    return count


def _bounded(rows: Iterable[Sequence[str]]) -> Iterable[Sequence[str]]:
    for number, row in enumerate(rows, start=1):
        check_rows(number)
        yield row
