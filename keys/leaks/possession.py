"""Whose secret this is: for whoever holds one, or found it in public, and says so without being anybody here."""

import os
from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from audit import tenancy
from keys import peppers, secret
from keys.errors import Malformed
from keys.models import KeySecret

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One version of a key's secret that somebody presented, by what it opens; nothing of the secret itself."""

    organization_id: str
    key_id: str
    version: int


def find(texts: Collection[str]) -> dict[str, Held]:
    """Return what each of the texts opens or once opened, of any organization; what opened nothing is left out.

    One statement, whatever the texts are, so that an answer takes as long for an unknown secret as for one that is no
    secret at all. What is malformed is not looked up: bytes that nobody knows are, in its place.
    """
    digests = {digest: text for text in texts for digest in _digests(text)}
    with tenancy.everywhere(tenancy.Reason.POSSESSION):
        rows = KeySecret.objects.filter(digest__in=list(digests)).values_list(
            "digest", "organization_id", "key_id", "version"
        )
        return {
            digests[bytes(digest)]: Held(organization_id=organization_id, key_id=key_id, version=version)
            for digest, organization_id, key_id, version in rows
        }


def _digests(text: str) -> list[bytes]:
    found = peppers.digests(text)
    try:
        secret.parse(text, settings.KEY_BRAND)
    except Malformed:
        return [os.urandom(_DIGEST_BYTES) for _ in found]
    return found
