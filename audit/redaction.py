"""Hiding secrets in text that will be kept.

What a secret looks like is the business of a layer above (`keys.secret.redact`), which adds its filter here in
`AppConfig.ready()`. It is a net below the forms and services that refuse such text: a ledger can't be cleaned.
"""

from collections.abc import Callable
from typing import Final

filters: Final[list[Callable[[str], str]]] = []


def redact(text: str) -> str:
    """Return the text with everything in it that looks like a secret cut down to what may be seen."""
    for each in filters:
        text = each(text)
    return text


def holds_secret(text: str) -> bool:
    """Say whether something in the text looks like a secret."""
    return redact(text) != text
