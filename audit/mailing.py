"""Mail that entries cause: made once for each person and entry, sent at least once, given up after three days.

The ledger is the outbox. Of each ledger it is known how far mail was made of it; making mails and moving on is one
transaction. Entries of one ledger commit in the order of their index, so that nothing appears behind the cursor.
"""

import hashlib
import logging
import smtplib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.conf import settings
from django.core import mail
from django.db import connection
from django.utils import timezone

from audit import notices, ports, queue, tenancy
from audit.acts import Act
from audit.errors import EntryInvalid
from audit.models import Entry, Mail, NoticeCursor, Sealed
from audit.models.notice import MAX_ERROR
from audit.notices import People, Told

# A break-glass act or a policy can cause ten thousand entries; no more are held in memory at once.
MOST_ENTRIES: Final = 20_000
MOST_MAILS: Final = 500
QUEUE: Final = "mail"
KEPT_DAYS: Final = 30
# After each failed attempt; a mail that a killed worker held comes back after the first of them.
BACKOFF_SECONDS: Final = [120, 300, 1_800, 7_200, 21_600]
GIVE_UP_HOURS: Final = 72
BEHIND = """
    SELECT o.id FROM orgs_organization o LEFT JOIN audit_noticecursor c ON c.organization_id = o.id
    WHERE EXISTS (
        SELECT FROM unnest(%s::text[]) a (act), LATERAL (
            SELECT FROM audit_entry e WHERE e.organization_id = o.id AND e.act = a.act
                AND (e.epoch, e.index) > (coalesce(c.epoch, 1), coalesce(c.index, -1)) LIMIT 1) found)
    ORDER BY o.id
"""
# Guarded: of two workers one gets it, and it is out of reach until the back-off is over.
CLAIM = """
    UPDATE audit_mail SET attempts = attempts + 1,
        due_at = now() + make_interval(secs => (%s::integer[])[least(attempts + 1, %s)])
    WHERE id = (SELECT id FROM audit_mail WHERE state = 'waiting' AND due_at <= now() ORDER BY due_at, id
        LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, organization_id, epoch, index, user_id, roles, project_id, subject, text
"""
GIVE_UP = """
    UPDATE audit_mail SET state = 'given_up', text = ''
    WHERE state = 'waiting' AND created_at < now() - make_interval(hours => %s)
"""
logger = logging.getLogger(__name__)


class Mailer(Protocol):
    """Django's e-mail backend, as far as it is used here."""

    def open(self) -> bool | None: ...
    def close(self) -> None: ...
    def send_messages(self, messages: Sequence[mail.EmailMessage]) -> int | None: ...


class ServerUnreachableError(Exception):
    """The mail server does not take anything at the moment; the next one would fail like this one."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this process, and no other one, tries to send now."""

    id: int
    organization_id: str
    epoch: int
    index: int
    user_id: str
    roles: list[str]
    project_id: str
    subject: str
    text: str

    @property
    def message_id(self) -> str:
        """The same at each attempt, so that mailboxes know one that comes twice for what it is."""
        about = f"{self.organization_id} {self.epoch} {self.index} {self.user_id}"
        host = settings.KEYSTEAD_BASE_URL.partition("://")[2].partition(":")[0]
        return f"<{hashlib.sha256(about.encode()).hexdigest()[:32]}@{host}>"


def is_on() -> bool:
    """Tell whether this deployment sends mail (`KEYSTEAD_EMAIL_URL`)."""
    return bool(settings.MAILERS)


def on_appended(organization_id: str, acts: Sequence[Act]) -> None:
    """Let the worker make mails of what was appended, if any act may be told by mail (`audit.ports.on_appended`)."""
    if is_on() and any(notices.is_mailed(act) for act in acts):
        queue.put(
            "audit.compose_mails",
            lock=f"mail {organization_id}",
            arguments={"organization_id": organization_id},
            queue=QUEUE,
            delay_seconds=settings.MAIL_GATHERING_SECONDS,
        )


def behind() -> list[str]:
    """Return the ids of organizations with entries that may be told by mail and were not looked at."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(BEHIND, [[str(act) for act in notices.RULES]])
        return [organization_id for (organization_id,) in cursor.fetchall()]


def compose(organization_id: str) -> bool:
    """Make the mails of an organization's entries since the last time; return whether there are more.

    Where no mail is sent, its entries are passed over: whoever sets mail up later is not told of the past.
    """
    with tenancy.within(organization_id):
        done = locked_cursor(organization_id)
        entries = Entry.objects.of(organization_id)
        last = entries.newest_first().values_list("epoch", "index").first()
        if last is None or last <= (done.epoch, done.index):
            return False
        wanted = entries.after(done.epoch, done.index).filter(act__in=list(notices.RULES)).oldest_first()
        found = list(wanted[:MOST_ENTRIES]) if is_on() else []
        has_more = len(found) == MOST_ENTRIES
        done.epoch, done.index = found[-1].place if has_more else last
        _make(organization_id, found)
        done.save(update_fields=["epoch", "index"])
    return has_more


def locked_cursor(organization_id: str) -> NoticeCursor:
    """Return where an organization's mails stand, alone with it until the transaction ends."""
    NoticeCursor.objects.bulk_create([NoticeCursor(organization_id=organization_id)], ignore_conflicts=True)
    return NoticeCursor.objects.select_for_update().get(pk=organization_id)


def _make(organization_id: str, entries: Sequence[Entry]) -> None:
    told = list(_told(organization_id, entries))
    if not told:
        return
    now = timezone.now()
    letters = notices.letters(
        told,
        _may_be_told(organization_id, told),
        organization=_name(organization_id),
        base_url=settings.KEYSTEAD_BASE_URL,
    )
    Mail.objects.bulk_create(
        [
            Mail(
                organization_id=organization_id,
                epoch=letter.place[0],
                index=letter.place[1],
                user_id=letter.user_id,
                act=letter.act,
                roles=sorted(letter.standing.roles),
                project_id=letter.standing.project_id,
                subject=letter.subject,
                text=letter.text,
                created_at=now,
                due_at=now,
            )
            for letter in letters
        ],
        ignore_conflicts=True,
        batch_size=1000,
    )
    if letters:
        queue.put("audit.send_mails", lock="audit.send_mails", arguments={}, queue=QUEUE)


def _may_be_told(organization_id: str, told: Sequence[Told]) -> People:
    every = {rule.roles for rule in notices.RULES.values()}
    projects = {each.project_id for each in told} - {""}
    return People(
        holders={roles: _ids(organization_id, roles, ()) for roles in every},
        local={roles: _local(organization_id, roles, projects) for roles in every},
        owners=frozenset(_ids(organization_id, (), {each.owner_id for each in told} - {""})),
    )


def _told(organization_id: str, entries: Sequence[Entry]) -> Iterator[Told]:
    """Yield what entries say; one whose bytes are no entry any more is for the ledger's verifiers, not for mail."""
    subjects = _subjects(organization_id, {entry.target for entry in entries})
    who = _names(organization_id, entries)
    for entry in entries:
        try:
            parsed = entry.parsed()
            act = Act(parsed.act)
        # An act that there is not is no error of the form: somebody changed one letter of it.
        except (EntryInvalid, ValueError):
            logger.warning("%s: no mail of entry %s: its bytes are no entry", organization_id, entry.index)
            continue
        about = subjects.get(entry.target, ports.Subject())
        yield Told(
            epoch=entry.epoch,
            index=entry.index,
            act=act,
            at=parsed.t,
            target=entry.target,
            actor=parsed.actor,
            who=who.get(entry.place, ""),
            name=about.name or str(parsed.data.get("name") or ""),
            path=about.path,
            owner_id=about.owner_id,
            project_id=about.project_id,
            data=parsed.data,
        )


def _subjects(organization_id: str, targets: Collection[str]) -> Mapping[str, ports.Subject]:
    found: dict[str, ports.Subject] = {}
    for answer in ports.subjects:
        found |= answer(organization_id, targets)
    return found


def _names(organization_id: str, entries: Sequence[Entry]) -> Mapping[tuple[int, int], str]:
    """Return the actors' names, as the entries' openings hold them."""
    rows = Sealed.objects.filter(
        organization_id=organization_id, field="name", index__in=[entry.index for entry in entries]
    )
    return {(row.epoch, row.index): row.value for row in rows}


def _ids(organization_id: str, roles: Collection[str], user_ids: Collection[str]) -> list[str]:
    if not roles and not user_ids:
        return []
    return sorted(person.id for person in _people(organization_id, roles, user_ids))


def _people(
    organization_id: str, roles: Collection[str], user_ids: Collection[str]
) -> Iterator[ports.Recipient]:
    for answer in ports.recipients:
        yield from answer(organization_id, roles, user_ids)


def _local(
    organization_id: str, roles: Collection[str], project_ids: Collection[str]
) -> Mapping[str, Mapping[str, str]]:
    if not roles or not project_ids:
        return {}
    found: dict[str, Mapping[str, str]] = {}
    for answer in ports.project_recipients:
        found |= answer(organization_id, roles, project_ids)
    return found


def _name(organization_id: str) -> str:
    return next((answer(organization_id) for answer in ports.organization_name), organization_id)


def send_due(most: int = MOST_MAILS) -> int:
    """Send what is due, at most `most`, and give up what could not be sent for three days; return how many went.

    A mail whose sending was not recorded goes again, with the same Message-ID. Where the mail server can't be
    reached, the rest waits for the next time.
    """
    _execute(GIVE_UP, [GIVE_UP_HOURS])
    if not is_on():
        return 0
    sent = 0
    with _mailer() as mailer:
        for _ in range(most):
            claimed = _claim()
            if claimed is None:
                break
            try:
                sent += _send(claimed, mailer)
            except ServerUnreachableError as error:
                logger.warning("the mail server can't be used: %s", error)
                break
    return sent


@contextmanager
def _mailer() -> Iterator[Mailer]:
    mailer: Mailer = mail.mailers["default"]
    try:
        yield mailer
    finally:
        mailer.close()


def _claim() -> Claimed | None:
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(CLAIM, [BACKOFF_SECONDS, len(BACKOFF_SECONDS)])
        row = cursor.fetchone()
    return Claimed(*row) if row else None


def _send(claimed: Claimed, mailer: Mailer) -> bool:
    """Send one mail and record it. Raises `ServerUnreachableError` after recording it, where the server takes none."""
    reader = _reader(claimed)
    if reader is None:
        _record(claimed, state=Mail.State.DROPPED, text="")
        return False
    try:
        mailer.open()
    except OSError as error:
        raise _failed(claimed, error) from error
    try:
        mailer.send_messages([_message(claimed, reader)])
    # ValueError: an address that no header can hold.
    except (smtplib.SMTPException, ValueError) as error:
        failure = _failed(claimed, error)
        if isinstance(error, smtplib.SMTPServerDisconnected):
            raise failure from error
        return False
    except OSError as error:
        raise _failed(claimed, error) from error
    _record(claimed, state=Mail.State.SENT, sent_at=timezone.now(), text="", error="")
    return True


def _reader(claimed: Claimed) -> ports.Recipient | None:
    """Return whose mail it is, if they still stand where they stood: they may have left since it was made."""
    with tenancy.within(claimed.organization_id):
        in_person = not claimed.roles or _stands_at_project(claimed)
        roles, ids = ((), (claimed.user_id,)) if in_person else (claimed.roles, ())
        people = _people(claimed.organization_id, roles, ids)
        return next((person for person in people if person.id == claimed.user_id), None)


def _stands_at_project(claimed: Claimed) -> bool:
    place = claimed.project_id
    local = _local(claimed.organization_id, claimed.roles, [place] if place else [])
    return claimed.user_id in local.get(place, {})


def _message(claimed: Claimed, reader: ports.Recipient) -> mail.EmailMessage:
    return mail.EmailMessage(
        subject=claimed.subject,
        body=claimed.text,
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[reader.email],
        headers={"Message-ID": claimed.message_id, "Auto-Submitted": "auto-generated"},
    )


def _failed(claimed: Claimed, error: Exception) -> ServerUnreachableError:
    """Record why a mail did not go, without the server's words, which may hold an address."""
    code = getattr(error, "smtp_code", "")
    told = f"{type(error).__name__} {code}".strip()[:MAX_ERROR]
    _record(claimed, error=told)
    return ServerUnreachableError(told)


def _record(claimed: Claimed, **columns: Any) -> None:
    with tenancy.within(claimed.organization_id):
        Mail.objects.filter(pk=claimed.id, state=Mail.State.WAITING).update(**columns)


def forget_old() -> None:
    """Delete what was sent or given up 30 days ago."""
    _execute(
        "DELETE FROM audit_mail WHERE state <> 'waiting' AND created_at < now() - make_interval(days => %s)",
        [KEPT_DAYS],
    )


def _execute(sql: str, parameters: Sequence[int]) -> None:
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(sql, parameters)
