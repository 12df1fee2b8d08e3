"""Governed execution: what an approval is good for at a moment, who may grant it, and how what was done compares with
what was planned. Spec EVENTS, Governed execution.

Nothing here runs when time passes: whether an approval still counts follows from the clock and the rows.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.errors import Invalid
from keys.scopes import Risks, allows, covers, effective, holds
from keys.secret import Kind
from orgs.roles import Risk

MAX_HOURS: Final = 24
MAX_VALIDITY: Final = timedelta(hours=MAX_HOURS)
MIN_VALIDITY: Final = timedelta(seconds=60)
DEFAULT_VALIDITY: Final = timedelta(hours=1)
MAX_USES: Final = 100
MAX_STEPS: Final = 100
ASKING: Final = "approvals:request"
# What a bound key may do alone: whatever only reads.
_FREE: Final = frozenset({Risk.READ})


class Required(StrEnum):
    """Where an organization's new service keys must be bound to approvals."""

    NONE = "none"
    PRODUCTION = "production"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """An organization's own rules for approvals, never wider than the product's.

    Args:
        required: where a new service key must be bound.
        max_hours: the longest validity of an approval, 1 to 24.
        max_uses: how many calls one approval may let through, 1 to 100.
    """

    required: Required = Required.NONE
    max_hours: int = MAX_HOURS
    max_uses: int = MAX_USES

    @property
    def validity_words(self) -> str:
        """How long an approval may be valid, in a sentence."""
        hours = "1 hour" if self.max_hours == 1 else f"{self.max_hours} hours"
        return f"An approval is valid for a minute at least and {hours} at most here."

    @property
    def uses_words(self) -> str:
        """How many uses an approval may have, in a sentence."""
        return (
            "An approval has 1 use here."
            if self.max_uses == 1
            else f"An approval has 1 to {self.max_uses} uses here."
        )


def check_required(required: str) -> Required:
    """Return where new service keys must be bound; raises `Invalid` (field `approvals_required`)."""
    if required not in tuple(Required):
        raise Invalid("Choose one of the offered.", field="approvals_required")
    return Required(required)


def check_max_hours(hours: int) -> int:
    """Return an organization's longest validity, in hours; raises `Invalid` (field `approval_max_hours`)."""
    if not 1 <= hours <= MAX_HOURS:
        raise Invalid(f"1 to {MAX_HOURS} hours.", field="approval_max_hours")
    return hours


def check_max_uses(uses: int) -> int:
    """Return an organization's most uses of one approval; raises `Invalid` (field `approval_max_uses`)."""
    if not 1 <= uses <= MAX_USES:
        raise Invalid(f"1 to {MAX_USES} uses.", field="approval_max_uses")
    return uses


def must_be_bound(kind: Kind, rule: ApprovalRule, *, is_production: bool) -> bool:
    """Tell whether the organization's rule asks that a new key is bound to approvals: of service keys alone."""
    is_asked = rule.required is Required.ALWAYS or (rule.required is Required.PRODUCTION and is_production)
    return is_asked and kind is Kind.SERVICE


def check_binding(kind: Kind, rule: ApprovalRule, *, is_bound: bool, is_production: bool) -> None:
    """Refuse a new key that is bound where it can't be, or not bound where it must be.

    Raises:
        Invalid: not a service key, or the organization's rule asks for it (field `approval_bound`).
    """
    if is_bound and kind is not Kind.SERVICE:
        raise Invalid("Service keys alone are bound to approvals.", field="approval_bound")
    if not is_bound and must_be_bound(kind, rule, is_production=is_production):
        where = " in production" if rule.required is Required.PRODUCTION else ""
        raise Invalid(
            f"This organization's new service keys{where} must be bound to approvals.", field="approval_bound"
        )


class Decision(StrEnum):
    """What a person said to a request; empty while nobody has."""

    NONE = ""
    GRANTED = "granted"
    DENIED = "denied"


class ApprovalState(StrEnum):
    """What has become of a request at a moment."""

    REQUESTED = "requested"
    GRANTED = "granted"
    DENIED = "denied"
    EXPIRED = "expired"
    USED_UP = "used_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval as the rules need it, read with the counter of its uses.

    Args:
        id, key_id: its own id, and the one key that it is for.
        scope: what it lets the key do; a wildcard covers its resource.
        resource: on what, in the requester's words; the service compares it.
        parameters_digest: SHA-256 of the canonical JSON of the parameters, in hex; the service compares it.
        decision: what a person said.
        valid_until: from then on it is good for nothing.
        uses, spent: how often it may be used, and how often it was.
    """

    id: str
    key_id: str
    scope: str
    resource: str
    parameters_digest: str
    decision: Decision
    valid_until: datetime
    uses: int
    spent: int

    def state(self, now: datetime) -> ApprovalState:
        """Return what has become of it."""
        return state(self.decision, self.valid_until, self.uses, self.spent, now)

    def permits(self, scopes: Iterable[str], now: datetime) -> bool:
        """Tell whether it lets its key do all of this now, as far as its uses were counted when it was read."""
        return self.state(now) is ApprovalState.GRANTED and all(covers(self.scope, scope) for scope in scopes)


def state(decision: str, valid_until: datetime, uses: int, spent: int, now: datetime) -> ApprovalState:
    """Return what has become of a request. Used up and denied are for ever, and stay so when the time is over."""
    if decision == Decision.DENIED:
        return ApprovalState.DENIED
    if decision == Decision.GRANTED and spent >= uses:
        return ApprovalState.USED_UP
    if now >= valid_until:
        return ApprovalState.EXPIRED
    return ApprovalState.GRANTED if decision == Decision.GRANTED else ApprovalState.REQUESTED


def needs_approval(scope: str, risks: Risks) -> bool:
    """Tell whether a bound key needs an approval for a scope: for whatever may do more than read.

    What the catalogue does not know needs one too, and so does a wildcard over anything that does.
    """
    return not allows(scope, risks, _FREE)


def governed(scopes: Iterable[str], risks: Risks) -> tuple[str, ...]:
    """Return those of the scopes that a bound key needs an approval for."""
    return tuple(scope for scope in scopes if needs_approval(scope, risks))


def free(scopes: Collection[str], risks: Risks) -> tuple[str, ...]:
    """Return what is left of a bound key's scopes where no approval can be shown: in the product's own API.

    Those that only read, and to ask. Else it would make itself a key that is not bound, or rotate one.
    """
    kept = set(effective(scopes, (), risks, _FREE))
    return tuple(sorted(kept | ({ASKING} if holds(scopes, ASKING) else set())))


def valid_until(asked: datetime | int | None, now: datetime, rule: ApprovalRule) -> datetime:
    """Return the end of an approval's validity: a time, so many seconds from now, or an hour where nobody says.

    Raises:
        Invalid: less than a minute ahead, or more than the organization's rule allows (field `valid_until` or
            `valid_for_seconds`).
    """
    if isinstance(asked, datetime):
        end, field = asked, "valid_until"
    else:
        seconds = DEFAULT_VALIDITY.total_seconds() if asked is None else asked
        end, field = now + timedelta(seconds=seconds), "valid_for_seconds"
    if not MIN_VALIDITY <= end - now <= timedelta(hours=rule.max_hours):
        raise Invalid(rule.validity_words, field=field)
    return end


def check_uses(uses: int, rule: ApprovalRule) -> int:
    """Return how many calls an approval may let through; raises `Invalid` (field `uses`)."""
    if not 1 <= uses <= rule.max_uses:
        raise Invalid(rule.uses_words, field="uses")
    return uses


class Bar(StrEnum):
    """Why somebody may not decide on a request. The words are for them."""

    ROLE = "Owners and admins of the key's project decide on approvals."
    OWN = "You asked for this yourself. Somebody else decides."
    BEHIND = (
        "The key that asked is yours, was made or rotated by you, or its secret went to a recipient key of yours. "
        "Somebody else decides."
    )


def bar(user_id: str, *, requested_by: str, behind: Collection[str], has_role: bool) -> Bar | None:
    """Return why a person may not decide on a request, None where they may. Never one's own (PEOPLE, Roles).

    Args:
        user_id: who would decide.
        requested_by: the person or the key that asked.
        behind: the people behind that key: who made it, who made or can open the secret that asked, who owns it; then
            and now.
        has_role: whether the person's role at the key's project grants approvals, as it is at this moment.
    """
    if user_id == requested_by:
        return Bar.OWN
    if user_id in behind:
        return Bar.BEHIND
    return None if has_role else Bar.ROLE


@dataclass(frozen=True, slots=True)
class Step:
    """One step, planned or done: its name, and a digest of what it does."""

    name: str
    digest: str


class StepState(StrEnum):
    """How a step that was planned compares with the one that was done."""

    EQUAL = "equal"
    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of a parity trace; `planned` or `done` is the index of the step there, None where it is not there."""

    state: StepState
    planned: int | None
    done: int | None


class Parity(StrEnum):
    """The verdict of a parity trace."""

    EQUAL = "equal"
    MISMATCH = "mismatch"
    NO_PLAN = "no_plan"


def compare(planned: Sequence[Step], done: Sequence[Step]) -> tuple[Compared, ...]:
    """Set what was done beside what was planned, in one order that is true to both.

    As many steps as possible stand beside their equal, and of the rest as many as possible beside one of the same name:
    one step that is missing leaves the others equal. What was done in another order is missing and extra.
    """
    best = _table(planned, done)
    lines: list[Compared] = []
    i = j = 0
    while i < len(planned) and j < len(done):
        if _pairs(planned[i], done[j]) and best[i][j] == _with(best[i + 1][j + 1], planned[i], done[j]):
            state = StepState.EQUAL if planned[i] == done[j] else StepState.CHANGED
            lines.append(Compared(state, i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            lines.append(Compared(StepState.MISSING, i, None))
            i += 1
        else:
            lines.append(Compared(StepState.EXTRA, None, j))
            j += 1
    lines += [Compared(StepState.MISSING, rest, None) for rest in range(i, len(planned))]
    lines += [Compared(StepState.EXTRA, None, rest) for rest in range(j, len(done))]
    return tuple(lines)


def parity(
    lines: Sequence[Compared], *, has_plan: bool, planned_parameters: str | None, done_parameters: str
) -> Parity:
    """Return the verdict: other parameters than those approved are a mismatch, whether or not steps were planned."""
    if planned_parameters is not None and planned_parameters != done_parameters:
        return Parity.MISMATCH
    if not has_plan:
        return Parity.NO_PLAN
    is_equal = all(line.state is StepState.EQUAL for line in lines)
    return Parity.EQUAL if is_equal else Parity.MISMATCH


# Pairs that are equal, and pairs of one name: compared in this order.
type _Score = tuple[int, int]


def _table(planned: Sequence[Step], done: Sequence[Step]) -> list[list[_Score]]:
    """Return the best score of each pair of rests, from the ends forward."""
    best: list[list[_Score]] = [[(0, 0)] * (len(done) + 1) for _ in range(len(planned) + 1)]
    for i in reversed(range(len(planned))):
        for j in reversed(range(len(done))):
            found = max(best[i + 1][j], best[i][j + 1])
            if _pairs(planned[i], done[j]):
                found = max(found, _with(best[i + 1][j + 1], planned[i], done[j]))
            best[i][j] = found
    return best


def _pairs(planned: Step, done: Step) -> bool:
    return planned.name == done.name


def _with(rest: _Score, planned: Step, done: Step) -> _Score:
    return rest[0] + (planned.digest == done.digest), rest[1] + 1
