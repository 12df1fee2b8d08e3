"""Keys for the tests, made by the services; a catalogue to choose from; what the ledger gained."""

import base64
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.test import Client

from audit import tenancy
from audit.models import Entry
from keys import callers, services, verification
from keys.errors import NameTaken
from keys.models import ApiKey, Recipient
from keys.secret import Kind
from keys.services import Created, Draft, Owner, ScopeDraft
from orgs.models import Organization, Project, User
from orgs.roles import Risk
from tests import builders

API = (Kind.CONTROL_PLANE, Kind.SERVICE)
SCOPES = {
    "ingest:write": (Risk.WRITE, (Kind.INGESTION,)),
    "incidents:read": (Risk.READ, API),
    "incidents:write": (Risk.WRITE, API),
    "incidents:*": (Risk.ADMIN, (Kind.CONTROL_PLANE,)),
    "admin:projects": (Risk.ADMIN, (Kind.CONTROL_PLANE,)),
}
SECRET = re.compile(r"ks_(?:in|cp|sv)_(?:live|test)_[0-9A-Za-z]{49}")


def catalogue() -> None:
    """Declare the scopes that tests speak of, once."""
    for name, (risk, kinds) in SCOPES.items():
        with suppress(NameTaken), tenancy.everywhere(tenancy.Reason.COMMAND):
            draft = ScopeDraft(description=f"About {name}", risk=risk, kinds=kinds)
            services.create_scope(name, draft, actor=builders.OPERATOR)


def create(where: Organization, by: User, **changes) -> Created:
    """Make a key in the root project, owned by a team, with one read scope unless told."""
    fields = {
        "kind": Kind.CONTROL_PLANE,
        "name": builders.unique("key"),
        "project": builders.root(where),
        "environment": builders.production(where),
        "scopes": ["incidents:read"],
        "owner": Owner(team="NOC"),
    }
    with tenancy.within(where.id):
        return services.create_key(
            Draft(**{**fields, **changes}), actor=callers.of_member(builders.member(by, where))
        )


def rotate(key: ApiKey, where: Organization, by: User, **how):
    """Rotate a key as a member."""
    with tenancy.within(where.id):
        return services.rotate_key(key, actor=callers.of_member(builders.member(by, where)), **how)


@dataclass(frozen=True)
class Receiver:
    """A recipient, and the private key that opens what is sealed to it."""

    recipient: Recipient
    private_key: X25519PrivateKey

    def open(self, sealed: bytes, rotation_id: str) -> str:
        """Return the secret that was sealed for a rotation."""
        suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
        info = f"keystead/rotation/v1/{rotation_id}".encode()
        return suite.decrypt(sealed, self.private_key, info=info).decode()


def recipient(where: Organization, by: User, name: str = "vault") -> Receiver:
    """Register a public key as a member."""
    private_key = X25519PrivateKey.generate()
    public_key = base64.b64encode(private_key.public_key().public_bytes_raw()).decode()
    with tenancy.within(where.id):
        found = services.register_recipient(name, public_key, actor=builders.member(by, where))
    return Receiver(found, private_key)


def verify(secret: str, where: Organization, ip: str = "203.0.113.9", **asked: Any) -> str:
    """Present a secret to the organization's verifier and return the code; a valid one counts as use."""
    return judged(secret, where, ip=ip, **asked).verdict.code


def judged(secret: str, where: Organization, **asked: Any) -> verification.Judged:
    """Return what the organization's verifier is told of a secret."""
    call = verification.Call(
        verifier=None,
        organization_id=where.id,
        presented=verification.credential(secret),
        ask=verification.Ask(**asked),
    )
    found = verification.ask(call).presented
    assert found is not None
    return found


def read(key_id: str, where: Organization) -> ApiKey:
    """Read a key as it is now."""
    with tenancy.within(where.id):
        return ApiKey.objects.select_related("project", "environment", "owner_user").get(pk=key_id)


def count(where: Organization) -> int:
    """Return how many keys an organization has."""
    with tenancy.within(where.id):
        return ApiKey.objects.of(where.id).count()


def entries(where: Organization) -> list[dict]:
    """Return the organization's ledger, oldest first."""
    with tenancy.within(where.id):
        return [json.loads(bytes(entry.leaf)) for entry in Entry.objects.of(where.id).order_by("index")]


def form(where: Organization, client: Client, at: Project | None = None, **changes) -> dict:
    """Return what a browser sends for a plain new key, with the token of a page that it has just loaded."""
    return {
        "token": token(client),
        "kind": "control_plane",
        "environment": builders.production(where).id,
        "project": (at or builders.root(where)).id,
        "name": builders.unique("key"),
        "description": "",
        "owner": "team",
        "owner_team": "NOC",
        "scopes": ["incidents:read"],
        "expires": "default",
        "expires_on": "",
        "allowed_ips": "",
        "tags": "",
        "rotation_interval_days": "",
        "may_rotate_itself": "on",
        **changes,
    }


def token(client: Client, path: str = "/keys/new") -> str:
    """Load a form and return its one-time token."""
    found = re.search(r'name="token" value="([^"]+)"', client.get(path).content.decode())
    assert found, path
    return found[1]


def secrets_in(response) -> list[str]:
    """Return the secrets that an answer shows, each once."""
    return sorted(set(SECRET.findall(response.content.decode())))
