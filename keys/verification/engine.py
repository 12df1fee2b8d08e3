"""Verification of a group of calls: read the truth, decide each, count and record, and only then answer.

No verdict is kept from one group to the next. The rules are `verdict.decide` and `limits.Meter`, both pure; SQL
fetches and counts. Runs on a login of its own, which reads every organization's keys and may write nothing but evidence
of use, counters, and a digest under a newer pepper. Source: spec KEYS §7, DESIGN decision 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from keys import peppers, verdict
from keys.governance import Approval
from keys.limits import Bounds, Meter
from keys.scopes import Layers, holds
from keys.verdict import Code
from keys.verification import counting, records
from keys.verification.asking import Answer, Ask, Call, Credential, Judged
from keys.verification.batcher import LANES, Batcher
from keys.verification.channel import Channel
from keys.verification.counting import Evidence, Recorded, Used
from keys.verification.records import Known, Truth
from keys.verification.unknown import Unknown, network_of

OWN_USE_EVERY: Final = timedelta(minutes=1)
# Scopes that this process has noted today: a hint that spares writing, nothing more.
MAX_NOTED: Final = 20_000
SETTINGS: Final = (
    "-c plan_cache_mode=force_generic_plan -c lock_timeout=500 -c statement_timeout=900"
    " -c idle_in_transaction_session_timeout=2000"
)
NOT_FOUND: Final = Judged(verdict.NOT_FOUND, None)
MALFORMED: Final = Judged(verdict.MALFORMED, None)


class Engine:
    """The verification of one process; its methods are called on the event loop that started it."""

    def __init__(self, dsn: str, *, lanes: int = LANES) -> None:
        """`dsn` is libpq's, of the verification's login."""
        self._dsn = dsn
        self._unknown = Unknown()
        self._noted = Noted()
        self._batcher: Batcher[Call, Answer] = Batcher(self._channel, self._serve, lanes=lanes)

    async def start(self) -> None:
        """Begin to serve; the database need not be there yet."""
        await self._batcher.start()
        self._unknown.start(self._connect)

    async def stop(self) -> None:
        """End; what is counted of unknown calls is written first."""
        await self._batcher.stop()
        await self._unknown.stop()

    async def ask(self, call: Call) -> Answer:
        """Return what is to be answered; by then it is recorded.

        Raises:
            Unavailable: the database can't be reached or is too slow: the answer is 503, never a verdict.
        """
        return await self._batcher.submit(call)

    async def _connect(self) -> AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, options=SETTINGS)

    async def _channel(self) -> Channel:
        return Channel(await self._connect())

    async def _serve(self, channel: Channel, calls: Sequence[Call]) -> Sequence[Answer]:
        group = Group(calls, await self._read(channel, calls), self._noted)
        group.decide()
        keys, organizations, approvals = group.to_lock()
        meter = await counting.lock(channel, keys, organizations, approvals) if keys else None
        group.finish(meter)
        if meter is not None or not group.evidence.is_empty:
            await counting.write(channel, group.evidence, meter)
        self._noted.add(group.evidence.scopes)
        self._noted.add_secrets(group.evidence.secrets)
        for organization_id, network, code in group.unknown:
            self._unknown.add(organization_id, network, code)
        return group.answers

    @staticmethod
    async def _read(channel: Channel, calls: Sequence[Call]) -> Truth:
        digests = {digest: None for call in calls for digest in call.digests}
        projects = {call.ask.project: None for call in calls if call.ask and call.ask.project}
        truth = await records.read(channel, list(digests), list(projects))
        named = _named_approvals(calls, truth)
        return truth._replace(approvals=await records.read_approvals(channel, named)) if named else truth


class Noted:
    """What this process has noted lately: hints that spare a write, and never more than that.

    Scopes of keys, today; and when each secret was used.
    """

    def __init__(self) -> None:
        self._day: date | None = None
        self._seen: set[tuple[str, str]] = set()
        self._secrets: dict[tuple[str, int], datetime] = {}

    def has(self, use: tuple[str, str], day: date) -> bool:
        """Tell whether a scope of a key is noted for a day already."""
        return day == self._day and use in self._seen

    def add(self, uses: Mapping[tuple[str, str], tuple[str, date]]) -> None:
        """Remember what was committed."""
        for use, (_, day) in uses.items():
            if day != self._day or len(self._seen) >= MAX_NOTED:
                self._day, self._seen = day, set()
            self._seen.add(use)

    def is_due(self, known: Known) -> bool:
        """Tell whether a caller's own use is to be noted: once a minute of its key, and of an old secret.

        A rotation waits for the old one to be quiet, which the uses of the new one must not hide.
        """
        row, latest = known.row, known.row.now - OWN_USE_EVERY
        if row.last_used_at is None or row.last_used_at <= latest:
            return True
        return (
            row.version != row.newest_version
            and self._secrets.get((row.key_id, row.version), latest) <= latest
        )

    def add_secrets(self, uses: Mapping[tuple[str, int], datetime]) -> None:
        """Remember what was committed."""
        if len(self._secrets) >= MAX_NOTED:
            self._secrets.clear()
        self._secrets.update(uses)


class Group:
    """The calls of one group on their way: decided, then counted in the order of their arrival."""

    def __init__(self, calls: Sequence[Call], truth: Truth, noted: Noted) -> None:
        self.calls = calls
        self.truth = truth
        self.noted = noted
        self.newest = peppers.newest()
        self.evidence = Evidence()
        # Organization of the verifier, network, code.
        self.unknown: list[tuple[str, str, Code]] = []
        self.verifiers: list[Judged | None] = []
        self.presented: list[Judged | None] = []
        self.answers: list[Answer] = []
        self._judged: dict[tuple[Credential, str | None], Judged] = {}

    def decide(self) -> None:
        """Judge every verifier and every presented secret by what was read."""
        for call in self.calls:
            verifier = self._verifier(call)
            self.verifiers.append(verifier)
            self.presented.append(self._presented(call, verifier))

    def to_lock(self) -> tuple[list[str], list[str], list[str]]:
        """Return the keys, organizations and approvals whose counters decide on calls that are valid so far, sorted.

        Where any counts, every other key is among them whose use will be noted: all that a group locks it locks in one
        order, so that two groups never wait for each other.
        """
        keys, organizations = set(), set()
        for known, bounds, _ in self._counting():
            keys.add(known.row.key_id)
            if bounds.organization_quota is not None:
                organizations.add(known.row.organization_id)
        approvals = self._to_use()
        if keys or approvals:
            keys.update(self._used())
        return sorted(keys), sorted(organizations), sorted(approvals)

    def finish(self, meter: Meter | None) -> None:
        """Count, in the order of arrival, and gather what is to be written."""
        for call, own, presented in zip(self.calls, self.verifiers, self.presented, strict=True):
            verifier = self._spend(own, call.own.cost, meter, of_key=True) if own and call.own else own
            if verifier is not None and call.own is not None:
                self._note_own(verifier, call)
            found = presented
            if presented is not None and call.ask is not None:
                found = self._count(presented, call.ask, meter, verifier)
                if found.known is not None and call.ask.is_recorded:
                    self._record(call, found, verifier)
            self.answers.append(Answer(verifier, found))

    def _known(self, credential: Credential) -> Known | None:
        for digest in credential.digests:
            if digest in self.truth.rows:
                return self.truth.rows[digest]
        return None

    def _verifier(self, call: Call) -> Judged | None:
        if call.verifier is None or call.own is None:
            return None
        asked = (call.verifier, call.own.ip)
        if asked not in self._judged:
            self._judged[asked] = self._judge(
                call.verifier, verdict.Request(visible_organization_id=None, ip=call.own.ip)
            )
        return self._judged[asked]

    def _judge(self, credential: Credential, request: verdict.Request) -> Judged:
        if credential.is_malformed:
            return MALFORMED
        known = self._known(credential)
        if known is None:
            return NOT_FOUND
        found = verdict.decide(known.record, request, known.row.now)
        return NOT_FOUND if found is verdict.NOT_FOUND else Judged(found, known)

    def _presented(self, call: Call, verifier: Judged | None) -> Judged | None:
        if call.presented is None or call.ask is None:
            return None
        sees: str | None = call.organization_id
        if verifier is not None:
            if verifier.known is None or not verifier.verdict.is_valid:
                return None
            if call.own and call.own.scope and not holds(verifier.verdict.scopes, call.own.scope):
                return None
            sees = None if verifier.known.place.is_operator else verifier.known.row.organization_id
        found = self._judge(call.presented, self._request(call.ask, call.presented, sees))
        if found.known is None:
            who = verifier.known.row.organization_id if verifier and verifier.known else call.organization_id
            if who is not None:
                self.unknown.append((who, network_of(call.ask.ip), found.verdict.code))
        return found

    def _request(self, ask: Ask, presented: Credential, sees: str | None) -> verdict.Request:
        path: Sequence[str] | None = None
        layers: Layers = ()
        if ask.project is not None:
            path = ()
            known, named = self._known(presented), self.truth.projects.get(ask.project)
            if known and named and named.organization_id == known.row.organization_id:
                path, layers = named.path, named.layers
        return verdict.Request(
            visible_organization_id=sees,
            query=ask.query,
            environment=ask.environment,
            project_path=path,
            project_layers=layers,
            ip=ask.ip,
            entitlement=ask.entitlement,
            approval=self._approval(ask, presented) if self.truth.approvals else None,
        )

    def _approval(self, ask: Ask, presented: Credential) -> Approval | None:
        """Return the approval that a call names, if it is one of the key that it presents."""
        known, found = self._known(presented), self.truth.approvals.get(ask.trace.get("approval", ""))
        is_of_key = known is not None and found is not None and found.key_id == known.row.key_id
        return found if is_of_key else None

    def _counting(self) -> Iterator[tuple[Known, Bounds, int]]:
        """Yield what is to be counted: the key, the bounds that hold for the call, and its cost."""
        for call, own, presented in zip(self.calls, self.verifiers, self.presented, strict=True):
            if own and own.known and call.own and call.own.cost and own.verdict.is_valid:
                bounds = _of_key(own.known.bounds)
                if bounds.counts:
                    yield own.known, bounds, call.own.cost
            if presented and presented.known and call.ask and presented.verdict.is_valid:
                bounds = presented.known.bounds
                if bounds.counts:
                    yield presented.known, bounds, call.ask.cost

    def _used(self) -> Iterator[str]:
        """Yield the keys whose use may be noted."""
        for call, own, presented in zip(self.calls, self.verifiers, self.presented, strict=True):
            if own and own.known and own.verdict.is_valid and self.noted.is_due(own.known):
                yield own.known.row.key_id
            if presented and presented.known and presented.verdict.is_valid and call.ask and call.ask.cost:
                yield presented.known.row.key_id

    def _to_use(self) -> set[str]:
        """Return the approvals that calls which are valid so far will use."""
        if not self.truth.approvals:
            return set()
        return {
            presented.verdict.approval.id
            for call, presented in zip(self.calls, self.presented, strict=True)
            if presented and presented.verdict.approval and call.ask and call.ask.cost
        }

    def _count(self, judged: Judged, ask: Ask, meter: Meter | None, verifier: Judged | None) -> Judged:
        """Return the verdict on a presented secret after counting; what rests on an approval spends a use of it."""
        approval = judged.verdict.approval
        if approval is None or judged.known is None:
            return self._spend(judged, ask.cost, meter)
        spent = approval.spent
        if ask.cost:
            # What could not be locked counts as used up.
            spent = approval.uses if meter is None else meter.approvals.get(approval.id, approval.uses)
        if spent >= approval.uses:
            return Judged(verdict.Verdict(code=Code.APPROVAL_REQUIRED), judged.known)
        found = self._spend(judged, ask.cost, meter)
        if not found.verdict.is_valid:
            return found
        if ask.cost and meter is not None:
            spent += 1
            meter.approvals[approval.id] = spent
            self._use(approval.id, spent, ask, judged.known, verifier)
        told = replace(found.verdict, approval=replace(approval, spent=spent))
        return Judged(told, found.known, found.counted)

    def _use(self, approval_id: str, number: int, ask: Ask, known: Known, verifier: Judged | None) -> None:
        self.evidence.uses.append(
            Used(
                approval_id=approval_id,
                number=number,
                organization_id=known.row.organization_id,
                key_id=known.row.key_id,
                at=known.row.now,
                ip=ask.ip,
                request_id=ask.request_id,
                verifier_id=verifier.known.row.key_id if verifier and verifier.known else "",
            )
        )

    @staticmethod
    def _spend(judged: Judged, cost: int, meter: Meter | None, *, of_key: bool = False) -> Judged:
        """Return the verdict after counting; `of_key`: only its rate limit counts, and a look is not counted."""
        known = judged.known
        if known is None or meter is None or not judged.verdict.is_valid or (of_key and not cost):
            return judged
        bounds = _of_key(known.bounds) if of_key else known.bounds
        if not bounds.counts:
            return judged
        counted = meter.spend(known.row.key_id, known.row.organization_id, bounds, cost)
        found = judged.verdict
        if counted.refusal is not None:
            found = verdict.Verdict(code=Code(counted.refusal.value))
        return Judged(found, known, counted)

    def _note_own(self, verifier: Judged, call: Call) -> None:
        """Leave the last use of a caller's own key, at most once a minute."""
        if verifier.known is None or call.own is None or not verifier.verdict.is_valid:
            return
        if self.noted.is_due(verifier.known):
            self.evidence.use(verifier.known, call.own.ip)
        self._renew(verifier.known, call.verifier)

    def _record(self, call: Call, judged: Judged, verifier: Judged | None) -> None:
        known, ask = judged.known, call.ask
        if known is None or ask is None:
            return
        is_valid = judged.verdict.is_valid
        self.evidence.calls.append(
            Recorded(
                at=known.row.now,
                known=known,
                code=judged.verdict.code.value,
                endpoint=ask.endpoint,
                region=ask.region,
                ip=ask.ip,
                user_agent=ask.user_agent,
                request_id=ask.request_id,
                cost=ask.cost if is_valid else 0,
                trace=ask.trace,
                verifier_id=verifier.known.row.key_id if verifier and verifier.known else "",
            )
        )
        if is_valid and ask.cost > 0:
            self.evidence.use(known, ask.ip)
            self._note_scopes(known, ask)
            self._renew(known, call.presented)

    def _note_scopes(self, known: Known, ask: Ask) -> None:
        """Note which scopes were used, of those that somebody has declared: a wildcard covers any number of others."""
        if ask.query is None:
            return
        row, day = known.row, known.row.now.astimezone(UTC).date()
        for scope in ask.query.scopes:
            is_named = scope in row.scopes or scope in known.record.risks
            if is_named and holds(row.scopes, scope) and not self.noted.has((row.key_id, scope), day):
                self.evidence.scopes[row.key_id, scope] = (row.organization_id, day)

    def _renew(self, known: Known, presented: Credential | None) -> None:
        """Move a used secret's digest to the newest pepper."""
        row = known.row
        if presented is None or row.pepper_version >= self.newest:
            return
        old = next(digest for digest in presented.digests if digest in self.truth.rows)
        self.evidence.digests[row.key_id, row.version] = (old, presented.digests[0], self.newest)


def _named_approvals(calls: Sequence[Call], truth: Truth) -> list[str]:
    """Return the approvals that calls with bound keys name; of other keys none is read, whatever they name."""
    bound = {digest for digest, known in truth.rows.items() if known.row.is_bound}
    if not bound:
        return []
    named = {
        call.ask.trace.get("approval", ""): None
        for call in calls
        if call.ask and call.presented and not bound.isdisjoint(call.presented.digests)
    }
    return [id_ for id_ in named if records.APPROVAL_ID.fullmatch(id_)]


def _of_key(bounds: Bounds) -> Bounds:
    return Bounds(rate_limit=bounds.rate_limit) if bounds.counts else bounds
