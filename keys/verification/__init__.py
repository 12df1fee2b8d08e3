"""Verification: read the truth, decide, count, leave the record, answer. No cached verdict. Spec KEYS §7.

`asking` says what is asked, `records` reads, `keys.verdict` and `keys.limits` decide, `counting` writes, `engine` does
it for a group, `batcher` makes the groups, `running` holds the engine of this process.
"""

from keys.verification.asking import (
    NO_CREDENTIAL,
    Answer,
    Ask,
    Call,
    Credential,
    Judged,
    Own,
    credential,
    recent,
)
from keys.verification.own import authenticate
from keys.verification.running import DATABASE, ask

__all__ = [
    "DATABASE",
    "NO_CREDENTIAL",
    "Answer",
    "Ask",
    "Call",
    "Credential",
    "Judged",
    "Own",
    "ask",
    "authenticate",
    "credential",
    "recent",
]
