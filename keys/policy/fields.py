"""The bounds of a key's own fields (KEYS §2). The database repeats them; these say it kindly.

Text that is stored is shown to others and written to logs: NUL (which PostgreSQL refuses), control characters
(which forge log lines), lone surrogates (which no UTF-8 can carry) and the invisible marks that reorder what
a reader sees are refused everywhere. So is what looks like a secret, which is kept nowhere.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Final

from keys.errors import Invalid
from keys.scopes import MAX_SCOPES, RESERVED, CatalogueScope, covers, is_wildcard, validate
from keys.secret import Kind, redact
from orgs.roles import Risk

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
TAG: Final = re.compile(r"[a-z0-9_-]{1,32}")
MAX_NAME: Final = 63
MIN_NAME: Final = 2
MAX_TAGS: Final = 20
MAX_TAG_BYTES: Final = 64
MAX_TEXT_BYTES: Final = 1_000
MAX_TEAM: Final = 100

# The resources of the product's own API, its control plane: an `ingestion` key may not even write to them.
_OWN_RESOURCES: Final = frozenset(scope.partition(":")[0] for scope in RESERVED)
# Embeddings, overrides and isolates: they make a name read as another.
_REORDERING: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def check_name(name: str) -> str:
    """Return the name of a key if it is one.

    Raises:
        Invalid: not 2 to 63 of a-z, 0-9 and hyphen, the first no hyphen (field `name`).
    """
    if NAME.fullmatch(name) is None:
        raise Invalid(
            "A name is 2 to 63 lower-case letters, digits and hyphens, and does not begin with a hyphen.",
            field="name",
        )
    return name


def suggest_name(service: str, environment: str) -> str:
    """Return a valid name like `service-environment` for whatever was typed; not checked to be free."""
    ascii_only = unicodedata.normalize("NFKD", f"{service}-{environment}").encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:MAX_NAME].rstrip("-")
    return slug if len(slug) >= MIN_NAME else "api-key"


def check_description(text: str) -> str:
    """Return the description, its line ends made LF.

    Raises:
        Invalid: more than 1,000 bytes of UTF-8, a forbidden character, or a secret (field `description`).
    """
    return _text(text, "description", MAX_TEXT_BYTES, lines=True)


def check_note(text: str) -> str:
    """Return the note of a revocation, its line ends made LF.

    Raises:
        Invalid: more than 1,000 bytes of UTF-8, a forbidden character, or a secret (field `note`).
    """
    return _text(text, "note", MAX_TEXT_BYTES, lines=True)


def check_line(text: str, field: str, max_bytes: int) -> str:
    """Return one line of text that is kept and shown to others.

    Raises:
        Invalid: more bytes of UTF-8 than `max_bytes`, a forbidden character, or a secret (field `field`).
    """
    return _text(text, field, max_bytes)


def check_reason(text: str) -> str:
    """Return the reason of a request, its line ends made LF, without the space around it.

    Raises:
        Invalid: empty, more than 1,000 bytes of UTF-8, a forbidden character, or a secret (field `reason`).
    """
    reason = _text(text, "reason", MAX_TEXT_BYTES, lines=True).strip()
    if not reason:
        raise Invalid("Say why: whoever decides has nothing else to go by.", field="reason")
    return reason


def check_team(name: str) -> str:
    """Return the name of the team that owns a key, without the spaces around it.

    Raises:
        Invalid: empty, more than 100 characters, a forbidden character, or a secret (field `owner`).
    """
    team = _text(name, "owner", MAX_TEAM * 4).strip()
    if not 1 <= len(team) <= MAX_TEAM:
        raise Invalid(f"A team's name has 1 to {MAX_TEAM} characters.", field="owner")
    return team


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags, name to value.

    Raises:
        Invalid: more than 20; a name that is not 1 to 32 of a-z, 0-9, `_` and `-`; a value of more than 64
            bytes of UTF-8, or with a forbidden character or a secret (field `tags`, or `tags.<name>` for a value).
    """
    if len(tags) > MAX_TAGS:
        raise Invalid(f"A key has at most {MAX_TAGS} tags.", field="tags")
    if any(TAG.fullmatch(name) is None for name in tags):
        raise Invalid("A tag's name is 1 to 32 of a-z, 0-9, _ and -.", field="tags")
    return {name: _text(value, f"tags.{name}", MAX_TAG_BYTES) for name, value in tags.items()}


def check_scopes(
    scopes: Collection[str], kind: Kind, catalogue: Mapping[str, CatalogueScope]
) -> tuple[str, ...]:
    """Return the scopes of a key, sorted, each once.

    An ingestion key sits in devices and pages that others can open. So it carries only scopes that write,
    that the catalogue gives to ingestion, and that are not the product's own; and a wildcard only where the
    catalogue declares that very wildcard so.

    Raises:
        Invalid: none, more than 64, one that the catalogue does not know, or one that this kind may not carry
            (field `scopes`).
    """
    chosen = tuple(sorted({validate(scope) for scope in scopes}))
    if not 1 <= len(chosen) <= MAX_SCOPES:
        raise Invalid(f"A key has 1 to {MAX_SCOPES} scopes.", field="scopes")
    for scope in chosen:
        _check_carried(scope, kind, catalogue)
    return chosen


def _check_carried(scope: str, kind: Kind, catalogue: Mapping[str, CatalogueScope]) -> None:
    covered = [known for name, known in catalogue.items() if covers(scope, name)]
    if not covered:
        raise Invalid(f"The catalogue has no scope {scope}.", field="scopes")
    is_undeclared = is_wildcard(scope) and scope not in catalogue
    if not all(_may_carry(kind, known) for known in covered) or (kind is Kind.INGESTION and is_undeclared):
        raise Invalid(f"A key of kind {kind} can't carry {scope}.", field="scopes")


def _may_carry(kind: Kind, scope: CatalogueScope) -> bool:
    if kind not in scope.kinds:
        return False
    return kind is not Kind.INGESTION or (
        scope.risk is Risk.WRITE and scope.name.partition(":")[0] not in _OWN_RESOURCES
    )


def _text(text: str, field: str, max_bytes: int, *, lines: bool = False) -> str:
    plain = text.replace("\r\n", "\n") if lines else text
    if len(plain) > max_bytes or any(_is_forbidden(character, lines=lines) for character in plain):
        raise Invalid(_complaint(max_bytes), field=field)
    if len(plain.encode()) > max_bytes:
        raise Invalid(_complaint(max_bytes), field=field)
    if redact(plain) != plain:
        raise Invalid("This looks like a secret. It was not kept; don't store it here.", field=field)
    return plain


def _complaint(max_bytes: int) -> str:
    return f"At most {max_bytes:,} bytes, without control characters."


def _is_forbidden(character: str, *, lines: bool) -> bool:
    if lines and character in "\n\t":
        return False
    return character in _REORDERING or unicodedata.category(character) in {"Cc", "Cs"}
