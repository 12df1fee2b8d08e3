"""Governed execution: approvals that people give to service keys, and the record of what was done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from keystead.asking import ABSENT, Moment, creating, given, moment, query, reading
from keystead.calls import Call, path_of
from keystead.governance import digest

APPROVALS = "/v1/approvals"
EXECUTIONS = "/v1/executions"


@dataclass(frozen=True)
class Step:
    """A step of a plan, or of what was done: its name, and the digest of its parameters (`governance.digest`)."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, parameters: Any) -> Step:
        """Return a step with the digest of its parameters."""
        return cls(name, digest(parameters))


@dataclass(frozen=True)
class DoneStep(Step):
    """A step that was done, and how it went in a few words."""

    result: str = ""


@dataclass(frozen=True)
class Approval:
    """What a key asked to be allowed.

    Args:
        status: `requested`, `granted`, `denied`, `expired` or `used_up`.
        parameters_digest: what the service compares with what it is told to do.
        uses_left: of `uses`.
    """

    id: str
    key: str
    status: str
    scope: str
    parameters_digest: str
    reason: str
    valid_until: datetime
    uses: int
    uses_left: int
    requested_at: datetime
    requested_by: str
    resource: str = ""
    incident: str = ""
    parameters: Any = None
    steps: tuple[Step, ...] = ()
    decided_at: datetime | None = None
    decided_by: str | None = None
    note: str = ""

    def permits(self, parameters: Any) -> bool:
        """Tell whether it is granted, and for these parameters: the portal sees to its scope, time and uses."""
        return self.status == "granted" and self.parameters_digest == digest(parameters)


@dataclass(frozen=True)
class Approvals:
    """A page of approvals, and the cursor of the next."""

    data: tuple[Approval, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class ComparedStep:
    """One line of a parity trace: `state` is `equal`, `missing`, `extra` or `changed`."""

    name: str
    state: str
    planned: str | None = None
    done: str | None = None


@dataclass(frozen=True)
class ComparedParameters:
    """The digests of what was planned, and of what was done."""

    done: str
    planned: str | None = None


@dataclass(frozen=True)
class Parity:
    """Planned and done, side by side."""

    verdict: str
    parameters: ComparedParameters
    steps: tuple[ComparedStep, ...] = ()


@dataclass(frozen=True)
class Execution:
    """What was done, as the service key told it, beside what was approved."""

    id: str
    key: str
    execution: str
    parameters_digest: str
    recorded_at: datetime
    parity: Parity
    approval: str | None = None
    incident: str = ""
    request_id: str = ""
    steps: tuple[DoneStep, ...] = ()


def request_approval(
    *,
    scope: str,
    reason: str,
    parameters: Any = ABSENT,
    parameters_digest: str | None = None,
    resource: str | None = None,
    steps: Sequence[Step] | None = None,
    key: str | None = None,
    incident: str | None = None,
    valid_for_seconds: int | None = None,
    valid_until: Moment | None = None,
    uses: int | None = None,
    idempotency_key: str | None = None,
) -> Call[Approval]:
    """Ask a person to let a bound service key do something; with the scope approvals:request.

    Args:
        scope: one that the key carries, of risk `write` or `admin`.
        reason: at most 1,000 bytes, for whoever decides.
        parameters: what is planned; they see it. Its digest is sent along.
        parameters_digest: instead of parameters that they shall not see: `governance.digest`.
        resource: on what, at most 128 bytes.
        steps: the plan that the execution will be compared with, at most 100.
        key: the bound key's id; the client's own unless given.
        valid_for_seconds, valid_until: at most a day; an hour unless given.
        uses: how often it may be used, 1 unless given.
        idempotency_key: your own, so that a request that you repeat is one; drawn unless given.

    Raises:
        ApiError: PermissionDenied, NotFound, Conflict, Invalid.
        ValueError, TypeError: the parameters have no digest.
    """
    planned = (
        {} if parameters is ABSENT else {"parameters": parameters, "parameters_digest": digest(parameters)}
    )
    body = given(
        scope=scope,
        reason=reason,
        parameters_digest=parameters_digest,
        resource=resource,
        steps=None if steps is None else [_plain(step) for step in steps],
        key=key,
        incident=incident,
        valid_for_seconds=valid_for_seconds,
        valid_until=moment(valid_until),
        uses=uses,
    )
    return creating(APPROVALS, {**body, **planned}, Approval, idempotency_key)


def list_approvals(
    *,
    status: str | None = None,
    key: str | None = None,
    incident: str | None = None,
    page_size: int | None = None,
) -> Call[Approvals]:
    """List the approvals of the client's project and below, the newest first.

    Args:
        status: `requested`, `granted`, `denied`, `expired` or `used_up`.
        page_size: 1 to 200 a call.
    """
    return reading(APPROVALS, Approvals, query(status=status, key=key, incident=incident, limit=page_size))


def get_approval(approval_id: str) -> Call[Approval]:
    """Return an approval as it is now.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(path_of(APPROVALS, approval_id, like="an approval's id: those look like apr_…"), Approval)


def record_execution(
    *,
    execution: str,
    steps: Sequence[Step],
    parameters: Any = ABSENT,
    parameters_digest: str | None = None,
    approval: str | None = None,
    incident: str | None = None,
    request_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Execution]:
    """Record what was done, by the service key itself; the answer's `parity` compares it with what was approved.

    Args:
        execution: your own id of it, at most 128 bytes, once for each key: repeating the same is no second one.
        steps: what was done, in order; `DoneStep` with how it went.
        parameters: what it was done with, of which the digest alone is sent.
        parameters_digest: that digest, instead.
        approval: what the key was granted.

    Raises:
        ApiError: PermissionDenied, Conflict (the same execution, told differently), Invalid.
        ValueError, TypeError: the parameters have no digest, or neither is given.
    """
    if (parameters is ABSENT) == (parameters_digest is None):
        raise ValueError("Give either the parameters or their digest.")
    body = given(
        execution=execution,
        approval=approval,
        incident=incident,
        request_id=request_id,
        parameters_digest=digest(parameters) if parameters_digest is None else parameters_digest,
        steps=[_plain(step) for step in steps],
    )
    return creating(EXECUTIONS, body, Execution, idempotency_key)


def get_execution(execution_id: str) -> Call[Execution]:
    """Return an execution with its parity trace: the client's own, or with the scope approvals:request another's.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(
        path_of(EXECUTIONS, execution_id, like="an execution's id: those look like exe_…"), Execution
    )


def _plain(step: Step) -> dict[str, str]:
    return {name: value for name, value in asdict(step).items() if value or name != "result"}
