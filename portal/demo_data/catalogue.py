"""The scopes of a network-operations API; with the built-in ones few enough for one key to hold them all."""

from typing import Final

from audit.actors import Actor
from keys.models import Scope
from keys.secret import Kind
from keys.services import ScopeDraft, create_scope
from orgs.roles import Risk

_API: Final = (Kind.CONTROL_PLANE, Kind.SERVICE)
_FEED: Final = (Kind.INGESTION, Kind.CONTROL_PLANE, Kind.SERVICE)

SCOPES: Final[tuple[tuple[str, Risk, tuple[Kind, ...], str], ...]] = (
    ("ingest:write", Risk.WRITE, _FEED, "Send telemetry"),
    ("metrics:write", Risk.WRITE, _FEED, "Send metrics"),
    ("events:write", Risk.WRITE, _FEED, "Send events"),
    ("write:logs", Risk.WRITE, _FEED, "Send log lines"),
    ("read:logs", Risk.READ, _API, "Search log lines"),
    ("metrics:read", Risk.READ, _API, "Query metrics"),
    ("incidents:read", Risk.READ, _API, "See incidents and their timelines"),
    ("incidents:write", Risk.WRITE, _API, "Open, comment and close incidents"),
    ("incidents:*", Risk.WRITE, _API, "Everything about incidents"),
    ("alerts:read", Risk.READ, _API, "See alerts"),
    ("alerts:ack", Risk.WRITE, _API, "Acknowledge alerts"),
    ("alerts:write", Risk.WRITE, _API, "Change alert rules"),
    ("replay:run", Risk.WRITE, _API, "Replay recorded traffic"),
    ("approvals:read", Risk.READ, _API, "See approvals"),
    ("reports:read", Risk.READ, _API, "See reports"),
    ("reports:export", Risk.READ, _API, "Download reports"),
    ("invoices:read", Risk.READ, _API, "See invoices"),
    ("invoices:write", Risk.WRITE, _API, "Correct invoices"),
    ("topology:read", Risk.READ, _API, "See the network's topology"),
    ("topology:write", Risk.WRITE, _API, "Change the network's topology"),
    ("circuits:read", Risk.READ, _API, "See circuits"),
    ("circuits:write", Risk.WRITE, _API, "Order and change circuits"),
    ("maintenance:read", Risk.READ, _API, "See maintenance windows"),
    ("maintenance:write", Risk.WRITE, _API, "Plan maintenance windows"),
    ("devices:read", Risk.READ, _API, "See devices"),
    ("devices:write", Risk.WRITE, _API, "Configure devices"),
    ("devices:reboot", Risk.ADMIN, _API, "Restart devices"),
    ("firmware:deploy", Risk.ADMIN, _API, "Install firmware on devices"),
    ("admin:projects", Risk.ADMIN, _API, "Manage projects of the network"),
    ("pager:send", Risk.WRITE, _API, "Page people; replaced by alerts:write"),
)
DEPRECATED: Final = frozenset({"pager:send"})


def add_scopes(*, actor: Actor) -> None:
    """Add to the catalogue what it lacks."""
    known = set(Scope.objects.values_list("name", flat=True))
    for name, risk, kinds, description in SCOPES:
        if name not in known:
            draft = ScopeDraft(
                description=description, risk=risk, kinds=kinds, is_deprecated=name in DEPRECATED
            )
            create_scope(name, draft, actor=actor)
