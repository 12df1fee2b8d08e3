"""A key put together step by step, for those who like to read it as a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class KeyBuilder(Generic[R]):
    """A key to be created; each step returns a new builder, `issue` creates (with an async client: await it)."""

    create: Callable[..., R] = field(repr=False)
    draft: Mapping[str, Any] = field(default_factory=dict)

    def for_org(self, org_id: str) -> KeyBuilder[R]:
        """Create for a customer; with a key of the operator's organization alone."""
        return self._with(org_id=org_id)

    def named(self, name: str) -> KeyBuilder[R]:
        """Give the key's name, `[a-z0-9][a-z0-9-]{1,62}`."""
        return self._with(name=name)

    def described(self, description: str) -> KeyBuilder[R]:
        """Say what the key is for, in at most 1,000 bytes."""
        return self._with(description=description)

    def of_kind(self, kind: str) -> KeyBuilder[R]:
        """Choose `ingestion`, `control_plane` or `service`."""
        return self._with(kind=kind)

    def in_environment(self, environment: str) -> KeyBuilder[R]:
        """Choose the environment by its slug."""
        return self._with(environment=environment)

    def in_project(self, project: str) -> KeyBuilder[R]:
        """Choose the project by its id."""
        return self._with(project=project)

    def with_scopes(self, scopes: Sequence[str]) -> KeyBuilder[R]:
        """Give the scopes, 1 to 64."""
        return self._with(scopes=tuple(scopes))

    def owned_by_team(self, name: str) -> KeyBuilder[R]:
        """Name the team that answers for the key."""
        return self._with(owner={"type": "team", "name": name})

    def owned_by_member(self, user_id: str) -> KeyBuilder[R]:
        """Name the member that answers for the key, by id."""
        return self._with(owner={"type": "member", "id": user_id})

    def tagged(self, **tags: str) -> KeyBuilder[R]:
        """Add tags, at most 20 in all."""
        return self._with(tags={**self.draft.get("tags", {}), **tags})

    def from_addresses(self, networks: Sequence[str]) -> KeyBuilder[R]:
        """Bind the key to these CIDRs, at most 64."""
        return self._with(allowed_ips=tuple(networks))

    def limited_to(self, requests: int, *, window_seconds: int) -> KeyBuilder[R]:
        """Let through at most so many in any such window."""
        return self._with(rate_limit={"requests": requests, "window_seconds": window_seconds})

    def in_tier(self, tier: str) -> KeyBuilder[R]:
        """Limit the key by a tier of the operator's, by its slug."""
        return self._with(rate_limit={"tier": tier})

    def expires_in_days(self, days: int) -> KeyBuilder[R]:
        """End the key's secret in so many days."""
        return self._with(expires_in_days=days)

    def expires_at(self, moment: datetime) -> KeyBuilder[R]:
        """End the key's secret at a time, which needs a zone."""
        return self._with(expires_at=moment)

    def never_expires(self) -> KeyBuilder[R]:
        """Let the key's secret not end, where the policy allows it."""
        return self._with(expires_at=None)

    def rotated_every_days(self, days: int) -> KeyBuilder[R]:
        """Ask for a rotation every so many days."""
        return self._with(rotation_interval_days=days)

    def once_as(self, idempotency_key: str) -> KeyBuilder[R]:
        """Create one key however often this is issued with the same Idempotency-Key."""
        return self._with(idempotency_key=idempotency_key)

    def issue(self) -> R:
        """Create the key; raises as `keys.create` does.

        Raises:
            ValueError: it has no name, kind, environment or scopes yet.
        """
        missing = [name for name in ("name", "kind", "environment", "scopes") if name not in self.draft]
        if missing:
            raise ValueError(f"A key needs {', '.join(missing)}.")
        return self.create(**self.draft)

    def _with(self, **changes: Any) -> KeyBuilder[R]:
        return replace(self, draft={**self.draft, **changes})
