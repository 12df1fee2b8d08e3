"""How far rotations have come: when each secret was used where, how often in the last hour, and by whom.

What is folded (`keys_rotationseen`, `keys_rotationuse`) and the key's latest calls that are not yet are read in one
statement, and so in one snapshot: a call is in exactly one of the two. Of those calls a bounded number is read, so that
a key with thousands of them a second is as quick as any: what lies before them is folded within seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from keys.models import ApiKey, Grain, Rotation, RotationTarget, SecretUse
from keys.pages.words import lasting
from keys.rotation import MAX_TARGETS, Seen, TargetState, Watch
from keys.usage.questions import Window, floor
from keys.usage.rows import bounds, counted, rows

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
WEEK: Final = timedelta(days=7)
MOST_SOURCES: Final = 500
_CALLS_OF_ONE: Final = 20_000
_CALLS_OF_EACH: Final = 2_000

_EVIDENCE: Final = """
WITH r AS MATERIALIZED (
    SELECT id, key_id, old_version, new_version FROM keys_rotation WHERE id = ANY(%(ids)s)
), tail AS MATERIALIZED (
    SELECT r.id AS rotation_id, coalesce(t.name, '') AS name, c.version = r.new_version AS is_new,
           CASE WHEN c.version = r.old_version THEN c.ip END AS ip,
           CASE WHEN c.version = r.old_version THEN c.user_agent ELSE '' END AS user_agent,
           false AS is_other, c.calls, c.at AS last_at
      FROM r CROSS JOIN keys_usagemark m
     CROSS JOIN LATERAL (SELECT * FROM keys_call
         WHERE key_id = r.key_id AND at >= %(hour)s AND at >= m.rolled_at - interval '2 minutes'
         ORDER BY at DESC LIMIT %(most)s) c
      LEFT JOIN keys_rotationtarget t ON t.rotation_id = r.id AND t.name = c.region COLLATE "C"
     WHERE c.xid >= m.rolled_until AND c.version IN (r.old_version, r.new_version)
       AND c.code = 'VALID' AND c.cost > 0
), uses AS MATERIALIZED (
    SELECT rotation_id, name, is_new, ip, user_agent, is_other, calls, last_at FROM tail
    UNION ALL
    SELECT rotation_id, name, is_new, ip, user_agent, is_other, calls, last_at FROM keys_rotationuse
     WHERE rotation_id = ANY(%(ids)s) AND minute > %(hour)s
)
SELECT 'calls', rotation_id, name, is_new, NULL, '', false, sum(calls)::bigint, max(last_at)
  FROM uses GROUP BY 2, 3, 4
UNION ALL
SELECT 'seen', rotation_id, name, v.is_new, NULL, '', false, 0, v.at
  FROM keys_rotationseen CROSS JOIN LATERAL (VALUES (false, old_last_used_at), (true, new_last_used_at)) v (is_new, at)
 WHERE rotation_id = ANY(%(ids)s)
UNION ALL
(SELECT 'source', rotation_id, name, false, host(ip), user_agent, is_other, sum(calls)::bigint, max(last_at)
   FROM uses WHERE NOT is_new AND %(sources)s
  GROUP BY 2, 3, 5, 6, 7 ORDER BY 8 DESC, 9 DESC, 3, 5, 6 LIMIT %(most_sources)s)
"""


# Where a key was used: the busiest first.
_REGIONS: Final = """
SELECT r.region FROM ({rows}) r WHERE r.code = 'VALID' AND r.region <> ''
 GROUP BY 1 ORDER BY sum(r.calls) DESC, 1 LIMIT %(most)s
"""


class _Row(NamedTuple):
    kind: str
    rotation_id: str
    name: str
    is_new: bool
    ip: str | None
    user_agent: str
    is_other: bool
    number: int
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A target, or with the name "" what lies outside all of them: last uses, and calls within the last hour."""

    name: str
    seen: Seen
    old_calls: int
    new_calls: int
    state: TargetState | None = None
    moved_at: datetime | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who used the old secret in the last hour. `is_other`: many who are not told apart."""

    ip: str | None
    user_agent: str
    target: str
    calls: int
    last_at: datetime | None
    is_other: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one rotation has come.

    Args:
        rotation: with its key and targets.
        targets: in their order.
        elsewhere: outside all targets.
        old_at: when the old secret was last used anywhere, exactly.
        sources: the busiest who used the old secret in the last hour, at most 500, where they were asked for.
        as_of: when it was read.
    """

    rotation: Rotation
    targets: Sequence[Place]
    elsewhere: Place
    old_at: datetime | None
    sources: Sequence[Source]
    as_of: datetime

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to wait for; of a staged rotation alone."""
        seen = [target.seen for target in self.targets]
        return self.rotation.watch.is_complete(seen, self.old_at, self.as_of)

    @property
    def moved(self) -> list[Place]:
        """The targets that have moved."""
        return [target for target in self.targets if target.state is TargetState.MOVED]

    @property
    def breaking(self) -> list[Place]:
        """The targets that would fail without the old secret: they used it lately, and have not moved."""
        return [
            target for target in self.targets if target.state is not TargetState.MOVED and target.old_calls
        ]

    @property
    def is_breaking_elsewhere(self) -> bool:
        """Whether somebody outside the targets would."""
        has_moved = bool(self.targets) and not self.is_used_elsewhere
        return bool(self.elsewhere.old_calls) and not has_moved

    @property
    def breaking_calls(self) -> int:
        """Calls within the last hour of those who would fail."""
        elsewhere = self.elsewhere.old_calls if self.is_breaking_elsewhere else 0
        return elsewhere + sum(target.old_calls for target in self.breaking)

    @property
    def breaking_addresses(self) -> int:
        """How many addresses those calls came from; of as many sources as were read."""
        names = {target.name for target in self.breaking} | ({""} if self.is_breaking_elsewhere else set())
        return len({source.ip for source in self.sources if source.ip and source.target in names})

    @property
    def is_used_elsewhere(self) -> bool:
        """Whether the old secret is in use outside the targets: that alone keeps the rotation from completing."""
        return not self.rotation.watch.is_quiet(self.elsewhere.seen.old_at, self.as_of)

    @property
    def using(self) -> list[Place]:
        """The targets in which the new secret was used within the last hour: they would fail without that."""
        return [target for target in self.targets if target.new_calls]

    @property
    def new_calls(self) -> int:
        """Calls with the new secret within the last hour."""
        return self.elsewhere.new_calls + sum(target.new_calls for target in self.targets)

    @property
    def old_calls(self) -> int:
        """Calls with the old secret within the last hour."""
        return self.elsewhere.old_calls + sum(target.old_calls for target in self.targets)


@dataclass(slots=True)
class _Found:
    """The rows of one rotation."""

    calls: dict[tuple[str, bool], int] = field(default_factory=dict)
    last: dict[tuple[str, bool], datetime] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)

    def add(self, row: _Row) -> None:
        place = row.name, row.is_new
        match row.kind:
            case "source":
                self.sources.append(_source(row))
            case "calls":
                self.calls[place] = row.number
        if row.at is not None and row.kind in {"calls", "seen"}:
            self.last[place] = max(row.at, self.last.get(place, row.at))

    def place(self, name: str) -> Place:
        return Place(
            name=name,
            seen=Seen(old_at=self.last.get((name, False)), new_at=self.last.get((name, True))),
            old_calls=self.calls.get((name, False), 0),
            new_calls=self.calls.get((name, True), 0),
        )


def regions(key: ApiKey, now: datetime) -> list[str]:
    """Return where a key was used within the last 7 days, the busiest first: what a staged rotation suggests."""
    window = Window(Grain.HOUR, floor(now - WEEK, Grain.HOUR), floor(now, Grain.HOUR) + HOUR)
    sql, parameters = counted({"organization_id": [key.organization_id], "key_id": [key.id]})
    found = rows(_REGIONS.format(rows=sql), {**parameters, **bounds(window), "most": MAX_TARGETS})
    return [name for (name,) in found]


def of(found: Rotation, now: datetime, *, has_sources: bool = False) -> Progress:
    """Return how far a rotation has come; read with its key."""
    return of_many([found], now, has_sources=has_sources)[found.id]


def of_many(found: Sequence[Rotation], now: datetime, *, has_sources: bool = False) -> Mapping[str, Progress]:
    """Return how far each rotation has come, by its id, in three statements; read with their keys."""
    if not found:
        return {}
    ids = [one.id for one in found]
    evidence = _evidence(ids, now, has_sources=has_sources)
    targets: dict[str, list[RotationTarget]] = {id_: [] for id_ in ids}
    for target in RotationTarget.objects.filter(rotation_id__in=ids):
        targets[target.rotation_id].append(target)
    uses = _old_uses(found)
    return {
        one.id: _progress(
            one, targets[one.id], evidence[one.id], uses.get((one.key_id, one.old_version)), now
        )
        for one in found
    }


def _evidence(ids: Sequence[str], now: datetime, *, has_sources: bool) -> Mapping[str, _Found]:
    parameters = {
        "ids": ids,
        "hour": now - HOUR,
        "most": _CALLS_OF_ONE if len(ids) == 1 else _CALLS_OF_EACH,
        "sources": has_sources,
        "most_sources": MOST_SOURCES,
    }
    found = {id_: _Found() for id_ in ids}
    for row in rows(_EVIDENCE, parameters):
        read = _Row(*row)
        found[read.rotation_id].add(read)
    return found


def _old_uses(found: Iterable[Rotation]) -> Mapping[tuple[str, int], datetime]:
    uses = SecretUse.objects.filter(key_id__in={one.key_id for one in found}, last_used_at__isnull=False)
    return {(use.key_id, use.version): use.last_used_at for use in uses if use.last_used_at}


def _progress(
    one: Rotation, targets: Sequence[RotationTarget], found: _Found, old_at: datetime | None, now: datetime
) -> Progress:
    watch = one.watch
    places = [found.place(target.name) for target in targets]
    return Progress(
        rotation=one,
        targets=[
            Place(
                name=place.name,
                seen=place.seen,
                old_calls=place.old_calls,
                new_calls=place.new_calls,
                state=watch.state(place.seen, now),
                moved_at=target.moved_at,
                words=_words(watch, place.seen, now),
            )
            for target, place in zip(targets, places, strict=True)
        ],
        elsewhere=_elsewhere(found.place(""), old_at, has_targets=bool(targets)),
        old_at=old_at,
        sources=found.sources,
        as_of=now,
    )


def _words(watch: Watch, seen: Seen, now: datetime) -> str:
    """Return how far a target has come, in words."""
    quiet = now - max(watch.since, seen.old_at or watch.since)
    match watch.state(seen, now):
        case TargetState.MOVED:
            return f"Moved, quiet {lasting(_rounded(quiet))}"
        case TargetState.MOVING if seen.old_at is not None and quiet < MINUTE:
            return "New seen, old still used"
        case TargetState.MOVING:
            return f"New seen, old quiet {lasting(_rounded(quiet))}"
        case _ if seen.old_at is None:
            return "Not seen yet"
        case _:
            return (
                "Old quiet, new not seen" if watch.is_quiet(seen.old_at, now) else "Still on the old secret"
            )


def _rounded(length: timedelta) -> int:
    """Return a length in seconds, as exactly as people care to know it."""
    seconds = int(length.total_seconds())
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= unit), 1)
    return seconds - seconds % unit


def _elsewhere(place: Place, old_at: datetime | None, *, has_targets: bool) -> Place:
    """Without targets everything lies outside them, and verification knows the last use to the moment."""
    if has_targets:
        return place
    seen = Seen(old_at=old_at, new_at=place.seen.new_at)
    return Place(name="", seen=seen, old_calls=place.old_calls, new_calls=place.new_calls)


def _source(row: _Row) -> Source:
    return Source(
        ip=row.ip,
        user_agent=row.user_agent,
        target=row.name,
        calls=row.number,
        last_at=row.at,
        is_other=row.is_other,
    )
