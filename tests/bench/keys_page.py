"""The Keys page at 100, 10,000 and 100,000 keys of an organization: server time of the first and hundredth page."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.test import Client

from audit import tenancy
from keys import clock, listing
from keys.models import ApiKey
from orgs.models import Environment, Organization
from tests import builders
from tests.bench.loading import organization_with
from tests.bench.report import Row, bound

SMALL, MIDDLE, LARGE = 100, 10_000, 100_000
ROUNDS = 5
PAGE = 50
HUNDREDTH = 99
LIMIT = 2.0


@dataclass(frozen=True)
class Side:
    """One organization, and its owner's browser."""

    organization: Organization
    client: Client
    parameters: Mapping[str, Mapping[str, str]]

    def milliseconds(self, query: Mapping[str, str]) -> float:
        """Return the server time of one page."""
        start = time.perf_counter()
        response = self.client.get(f"/?{urlencode(query)}")
        assert response.status_code == 200, response.status_code
        return (time.perf_counter() - start) * 1000

    def hundredth(self, query: Mapping[str, str]) -> dict[str, str] | None:
        """Return the query of the hundredth page; None where there are fewer."""
        filters = _filters(self.organization, query)
        sort = query.get("sort", listing.DEFAULT_SORT)
        with tenancy.within(self.organization.id):
            found = listing.apply(ApiKey.objects.of(self.organization.id), filters, clock.now())
            page = listing.page(found, filters=filters, sort=sort, limit=HUNDREDTH * PAGE)
        return {**query, "cursor": page.next} if page.next else None


def _filters(organization: Organization, query: Mapping[str, str]) -> listing.Filters:
    given = {name: query[name] for name in ("kind", "environment", "owner", "scope") if name in query}
    status = query.get("status", "not_ended")
    tags = (tuple(query["tag"].split("=", 1)),) if "tag" in query else ()
    return listing.Filters(
        organization_id=organization.id,
        tags=tags,
        search=query.get("q", ""),
        status="" if status == "any" else status,
        **given,
    )


def _side(count: int) -> Side:
    organization, owner = organization_with(count)
    with tenancy.within(organization.id):
        production = Environment.objects.get(organization=organization, mode="live").slug
    values = {
        "no filter": {"status": "any"},
        "not ended": {},
        "active": {"status": "active"},
        "kind": {"kind": "service"},
        "environment": {"environment": production},
        "owner": {"owner": owner.id},
        "team": {"owner": "common"},
        "scope": {"scope": "keys:read"},
        "tag": {"tag": "team=common"},
        "name": {"q": "noc"},
    }
    return Side(organization, builders.signed_in(owner), values)


# What few keys have; its page is measured against that of the value that many have, because both are full.
RARE = {
    "active": {"status": "disabled"},
    "not ended": {"status": "revoked"},
    "team": {"owner": "rare"},
    "scope": {"scope": "keys:verify"},
    "tag": {"tag": "team=rare"},
}


@dataclass(frozen=True)
class Times:
    """Milliseconds of one filter in one order: the first page at each size, and the hundredth at the largest."""

    name: str
    sort: str
    small: float
    middle: float
    large: float
    hundredth: float | None

    @property
    def ratio(self) -> float:
        """The slower page of many keys against that of few."""
        return max(self.large, self.hundredth or 0) / self.small


def measure() -> Iterator[Row]:
    """Yield for each filter its worst order, and the worst ratio of all."""
    small, middle, large = (_side(count) for count in (SMALL, MIDDLE, LARGE))
    worst = 0.0
    for name, query in large.parameters.items():
        for label, wanted in ((name, query), (f"{name}, rare", RARE.get(name))):
            if wanted is None:
                continue
            found = max(_sorts(label, name, wanted, small, middle, large), key=lambda times: times.ratio)
            worst = max(worst, found.ratio)
            yield Row(
                figure=f"Keys page, {label}, by {found.sort}: {SMALL} / {MIDDLE:,} / {LARGE:,} keys",
                measured=_told(found),
            )
    yield bound(f"Keys page at {LARGE:,} keys ÷ at {SMALL}, the worst", worst, "", at_most=LIMIT)


def _sorts(
    label: str, name: str, wanted: Mapping[str, str], small: Side, middle: Side, large: Side
) -> Iterator[Times]:
    for sort in listing.SORTS:
        value = middle.parameters[name] if wanted is large.parameters[name] else wanted
        pages = [
            (small, {**small.parameters[name], "sort": sort}),
            (middle, {**value, "sort": sort}),
            (large, {**wanted, "sort": sort}),
        ]
        further = large.hundredth(pages[-1][1])
        found = _medians([*pages, (large, further)] if further else pages)
        yield Times(label, sort, *found, *(() if further else (None,)))


def _medians(pages: Sequence[tuple[Side, Mapping[str, str]]]) -> list[float]:
    """Load the pages in turn, round after round, so that what slows the machine meets all of them."""
    rounds = [[side.milliseconds(query) for side, query in pages] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _told(found: Times) -> str:
    further = f" · hundredth page {found.hundredth:.0f} ms" if found.hundredth else ""
    return f"{found.small:.0f} / {found.middle:.0f} / {found.large:.0f} ms{further}"
