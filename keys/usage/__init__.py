"""Reading usage: exact at every moment, whether the roll-up has run or not.

What is rolled up (`keys_usage`, and the same calls by place and by key alone) and the calls that are not yet
(`keys_call` from the mark on) are read in one statement, and so in one snapshot: a call is in exactly one of the two.
Row-level security says whose rows there are: callers run within one organization, or everywhere.
"""

from keys.usage.answers import (
    Health,
    LastUsed,
    Overview,
    Point,
    Report,
    Seen,
    Series,
    Share,
    Summary,
    Totals,
    Traffic,
    Unknown,
)
from keys.usage.counting import overview, report, sparklines
from keys.usage.evidence import health, latest, scope_uses, summary, traffic, unknown, unused_scopes
from keys.usage.many import calls_of_day
from keys.usage.questions import MAX_BUCKETS, MAX_POINTS, OTHER, GroupBy, Question, Window

__all__ = [
    "MAX_BUCKETS",
    "MAX_POINTS",
    "OTHER",
    "GroupBy",
    "Health",
    "LastUsed",
    "Overview",
    "Point",
    "Question",
    "Report",
    "Seen",
    "Series",
    "Share",
    "Summary",
    "Totals",
    "Traffic",
    "Unknown",
    "Window",
    "calls_of_day",
    "health",
    "latest",
    "overview",
    "report",
    "scope_uses",
    "sparklines",
    "summary",
    "traffic",
    "unknown",
    "unused_scopes",
]
