"""What an endpoint subscribes to: exact acts (`key.revoked`), a subject (`key.*`) or everything (`*`). Pure."""

from collections.abc import Iterable
from typing import Final

from audit.acts import ANY, GROUPS, Act
from audit.errors import WebhookInvalid

EVERYTHING: Final = "*"
MOST: Final = 200
KNOWN: Final = frozenset({EVERYTHING, *(subject + ANY for subject in GROUPS), *map(str, Act)})


def normal(patterns: Iterable[str]) -> list[str]:
    """Return patterns sorted, without those that another covers; raises `WebhookInvalid` for none and for unknown ones.

    An unknown act is refused, not kept for later: a typing error would else be silence.
    """
    given = list(patterns)
    if not given:
        raise WebhookInvalid("Choose at least one kind of event.", field="acts")
    for i, pattern in enumerate(given):
        if pattern not in KNOWN:
            raise WebhookInvalid("There is no act of this name.", field=f"acts[{i}]")
    chosen = set(given)
    return sorted(pattern for pattern in chosen if not (set(covering(pattern)) - {pattern}) & chosen)


def covering(act: str) -> tuple[str, ...]:
    """Return the patterns that an act, or a pattern, falls under, itself included."""
    subject = act.partition(".")[0]
    return act, subject + ANY, EVERYTHING


def matches(patterns: Iterable[str], act: str) -> bool:
    """Whether an act is subscribed to."""
    return not set(covering(act)).isdisjoint(patterns)
