"""The local mode: verdicts kept in this process for a moment, for services that ask very often.

    Keystead(local=LocalOptions(max_staleness=2.0))

What is kept is dropped as soon as the portal says that it may be narrower: revocations, disabled keys, changed scopes,
addresses and expiry, demotions, suspensions and completed rotations hold here within a second. While nothing is heard
of the portal for a second, nothing kept is believed and each call asks the portal. Keys with a rate limit or a quota
are always asked for, refusals are never kept, and uses of kept verdicts are reported to the portal once.

`kept` holds verdicts, `hearing` hears of changes, `uses` counts, `reporting` tells, `mode` puts them together.
"""

from keystead.local.mode import LocalMode, LocalOptions

__all__ = ["LocalMode", "LocalOptions"]
