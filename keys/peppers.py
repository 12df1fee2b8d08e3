"""The peppers of this deployment: two versions can be valid at once while digests move to the newest."""

from django.conf import settings

from keys import secret


def newest() -> int:
    """Return the version that new digests are made with."""
    return max(settings.KEY_PEPPERS)


def digest(text: str) -> bytes:
    """Return the digest of a secret under the newest pepper, 32 bytes."""
    return secret.digest(text, settings.KEY_PEPPERS[newest()])


def digests(text: str) -> list[bytes]:
    """Return the digests of a presented secret under every valid pepper, the newest first."""
    peppers = settings.KEY_PEPPERS
    return [secret.digest(text, peppers[version]) for version in sorted(peppers, reverse=True)]
