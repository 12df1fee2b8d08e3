"""What is asked of a verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from keystead.secret import Secret

MAX_SECRET: Final = 4_096
MAX_COST: Final = 1_000_000


class Question(NamedTuple):
    """A presented secret, and what it should be good for; the fields are those of `POST /v1/keys/verify`."""

    secret: Secret
    scopes: tuple[str, ...] | str | None = None
    environment: str | None = None
    project: str | None = None
    entitlement: str | None = None
    ip: str | None = None
    endpoint: str | None = None
    region: str | None = None
    user_agent: str | None = None
    cost: int = 1
    request_id: str | None = None
    trace: Mapping[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """Return what is sent, secret included: what was not said is left out."""
        said = {name: value for name, value in self._asdict().items() if value is not None}
        if isinstance(self.scopes, tuple):
            said["scopes"] = list(self.scopes)
        return said

    def is_sendable(self) -> bool:
        """Tell whether the secret may be one at all; what may not is refused here as the portal would."""
        secret = self.secret
        return len(secret) <= MAX_SECRET and secret.isprintable() and secret.isascii()


def ask(
    secret: str,
    *,
    scopes: Sequence[str] | str | None = None,
    environment: str | None = None,
    project: str | None = None,
    entitlement: str | None = None,
    ip: str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    user_agent: str | None = None,
    cost: int = 1,
    request_id: str | None = None,
    trace: Mapping[str, str] | None = None,
) -> Question:
    """Ask whether a presented secret is good for what it should be (KEYS §7).

    Args:
        secret: as it was presented, of whatever length and form; secret.
        scopes: a list (all are needed), or a query such as `a:read AND (b:read OR b:*)`.
        environment: a slug, or `live` or `test`.
        project: a project's id.
        entitlement: what the key's organization must have bought.
        ip: the client's address; a key that is bound to addresses is refused without one.
        endpoint: where the call went, `GET /v1/incidents`, at most 256 bytes; a route, so that it can be counted.
        region: where it was served, at most 64 bytes.
        user_agent: the client's, at most 256 bytes.
        cost: 0 to 1,000,000 units of the key's limit and quota; 0 looks and leaves no trace.
        request_id: your own id of the call, at most 128 bytes.
        trace: `incident`, `approval`, `execution`, at most 128 bytes each.

    Raises:
        ValueError: `cost` is out of its range.
    """
    if isinstance(cost, bool) or not 0 <= cost <= MAX_COST:
        raise ValueError(f"cost is 0 to {MAX_COST:,}.")
    wanted = scopes if scopes is None or isinstance(scopes, str) else tuple(scopes)
    fields = (
        Secret(secret),
        wanted,
        environment,
        project,
        entitlement,
        ip,
        endpoint,
        region,
        user_agent,
        cost,
        request_id,
        trace,
    )
    # Past NamedTuple's own function: the local mode answers so often that a call less is felt.
    return tuple.__new__(Question, fields)
