"""The demo's mailbox: an e-mail backend that keeps messages as files, and the public pages that show them.

Files, because the worker sends and the portal shows. Where mail is sent to a server, the pages are not there.
"""

import email
import email.policy
import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage as Parsed
from pathlib import Path
from typing import Any, Final, override

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from audit.requests import Request
from portal.mail import LOOPBACK, MAILBOX

MOST_KEPT: Final = 200
NAME: Final = re.compile(r"[0-9]{20}-[0-9]{1,10}-[0-9]{1,10}")
SUFFIX: Final = ".eml"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the mailbox, as its page shows it."""

    id: str
    at: datetime
    sender: str
    to: str
    subject: str
    text: str

    @property
    def paragraphs(self) -> list[tuple[str, bool]]:
        """The text's paragraphs, each with whether it is a link to this portal."""
        parts = [part.strip() for part in self.text.split("\n\n")]
        return [(part, part.startswith(f"{settings.KEYSTEAD_BASE_URL}/")) for part in parts if part]


def folder() -> Path:
    """Return where messages are kept."""
    return Path(settings.KEYSTEAD_HOME) / "mailbox"


class Backend(BaseEmailBackend):
    """Keeps each message in a file of its own, the newest two hundred."""

    @override
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Keep the messages; return how many."""
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            name = f"{time.time_ns():020}-{os.getpid()}-{next(_numbers)}"
            draft = folder() / f"{name}.new"
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(message.message().as_bytes())
            draft.rename(folder() / f"{name}{SUFFIX}")
        for old in sorted(folder().glob(f"*{SUFFIX}"), reverse=True)[MOST_KEPT:]:
            old.unlink(missing_ok=True)
        return len(email_messages)


def messages() -> list[Message]:
    """Return the mailbox, the newest first."""
    names = sorted((path.stem for path in folder().glob(f"*{SUFFIX}")), reverse=True)
    return [found for name in names if (found := message(name))]


def message(name: str) -> Message | None:
    """Return one message, or None where there is none of that name."""
    if NAME.fullmatch(name) is None:
        return None
    try:
        stored = (folder() / f"{name}{SUFFIX}").read_bytes()
    except OSError:
        return None
    parsed: Any = email.message_from_bytes(stored, policy=email.policy.default)
    return Message(
        id=name,
        at=datetime.fromtimestamp(int(name.partition("-")[0]) / 1e9, UTC),
        sender=str(parsed["From"] or ""),
        to=str(parsed["To"] or ""),
        subject=str(parsed["Subject"] or ""),
        text="".join(_texts(parsed)),
    )


def _texts(parsed: Parsed) -> Iterator[str]:
    for part in parsed.walk():
        if part.get_content_type() == "text/plain":
            yield part.get_content()


@login_not_required
@require_safe
def mailbox(request: Request) -> HttpResponse:
    """Show what was sent, to anybody on this machine."""
    _refuse_elsewhere(request)
    return render(request, "portal/mailbox.html", {"messages_sent": messages()})


@login_not_required
@require_safe
def mailbox_message(request: Request, name: str) -> HttpResponse:
    """Show one message."""
    _refuse_elsewhere(request)
    found = message(name)
    if found is None:
        raise Http404
    return render(request, "portal/mailbox_message.html", {"sent": found})


def is_here() -> bool:
    """Tell whether mail goes to the mailbox."""
    return settings.MAILERS.get("default", {}).get("BACKEND") == MAILBOX and settings.PLAIN_HTTP


def _refuse_elsewhere(request: Request) -> None:
    """Answer 404 in production, and to whoever reaches the demo from another machine."""
    if not is_here() or request.client_ip not in LOOPBACK or _host(request) not in LOOPBACK:
        raise Http404


def _host(request: HttpRequest) -> str:
    host = request.get_host()
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
