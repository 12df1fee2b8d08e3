"""The entries that the log page's filters leave, as CSV or as JSON lines, oldest first.

Each page is read in a transaction of its own: an erasure meanwhile has the whole export made again.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from audit import access, paging, searching, tenancy
from audit.errors import ExportInvalid
from audit.exports import facts
from audit.forms import LogFilter
from audit.models import Entry, Format
from audit.searching import Wanted

PAGE: Final = 1000

type Place = tuple[int, int]


class Table:
    """Entries as text. Of `total` entries in the log `done` were looked at, and `entries` are in the table."""

    def __init__(self, organization_id: str, format_: Format, filters: Mapping[str, str]) -> None:
        self.organization_id = organization_id
        self.is_csv = format_ == Format.CSV
        self.filters = dict(filters)
        self.entries = self.done = self.total = 0
        self._before: dict[int, int] = {}

    def pieces(self) -> Iterator[bytes]:
        """Yield the table in pieces. Raises `ExportInvalid` where the filters can't be understood."""
        end = self._measured()
        after: Place = (0, -1)
        yield _csv([list(facts.COLUMNS)]) if self.is_csv else b""
        while page := self._page(after, end):
            after = page[-1].entry.place
            self.entries += len(page)
            self.done = self._before[after[0]] + after[1] + 1
            yield _csv(map(facts.row, page)) if self.is_csv else b"".join(map(facts.line, page))
        self.done = self.total

    def _measured(self) -> Place:
        """Note how long the log of each epoch is, and return where the last one ends now."""
        ends: list[Place] = []
        with tenancy.within(self.organization_id):
            rows = Entry.objects.of(self.organization_id).newest_first()
            while newest := (rows.filter(epoch__lt=ends[-1][0]) if ends else rows).first():
                ends.append(newest.place)
        for epoch, index in reversed(ends):
            self._before[epoch] = self.total
            self.total += index + 1
        return ends[0] if ends else (0, -1)

    def _page(self, after: Place, end: Place) -> Sequence[access.Found]:
        """Return the next entries, none at the end; a look that gave up before it goes on where it stopped."""
        reached: Place | None = after
        while reached:
            with tenancy.within(self.organization_id):
                found = searching.find(
                    self._wanted(), most=PAGE, after=reached, before=(end[0], end[1] + 1), oldest_first=True
                )
                if found.places:
                    rows = paging.entries_at(Entry.objects.of(self.organization_id), found.places)
                    return access.opened(self.organization_id, rows)
            reached = found.reached
            if reached:
                self.done = self._before[reached[0]] + reached[1] + 1
        return []

    def _wanted(self) -> Wanted:
        wanted = LogFilter(self.filters).wanted()
        if wanted is None:
            raise ExportInvalid("The filters can't be understood any more.")
        return wanted


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
