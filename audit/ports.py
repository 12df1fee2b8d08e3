"""What audit needs of the apps above, and no more: who reads the log, who hears of entries (`AppConfig.ready`)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.http import HttpRequest, HttpResponseBase

from audit.actors import Actor
from audit.acts import Act
from audit.requests import Request


class Reader(Protocol):
    """A signed-in person in one organization."""

    @property
    def id(self) -> str:
        """The person's id, as entries name them."""

    @property
    def actor(self) -> Actor:
        """The person as services record them."""

    @property
    def organization_id(self) -> str:
        """Whose ledger."""

    @property
    def reads_whole_log(self) -> bool:
        """Whether every entry is shown."""

    @property
    def reads_own_log(self) -> bool:
        """Whether at least the person's own entries are shown."""

    @property
    def may_erase(self) -> bool:
        """Whether the person may erase personal data from the log."""

    @property
    def may_change_webhooks(self) -> bool:
        """Whether the person sees and changes the organization's webhooks."""


class ReaderRequest(Request):
    """A request of a signed-in person."""

    member: Reader


class StaffRequest(Request):
    """A request of support staff for a page of no organization; `actor` is the person as services record them."""

    actor: Actor


# Called for each organization in the transaction that appended entries to its ledger, after they were: to put jobs
# into the queue that commit with them. (organization's id, acts in their order; a mass act has 10,000 of them).
on_appended: list[Callable[[str, Sequence[Act]], None]] = []
# The same, only where the organization has a webhook that is enabled.
on_heard: list[Callable[[str, Sequence[Act]], None]] = []

# Facts that a webhook's body carries beside those of its entry, by act: (organization's id, the entry's data) → what
# is added to `data`. Asked at each attempt, so that they may be such as do not stay; never a secret in the clear.
webhook_facts: dict[Act, Callable[[str, Mapping[str, Any]], Mapping[str, Any]]] = {}

# Returns where to confirm one's password first, None where that was done in the last minutes; orgs answers. The
# address that was asked for must answer GET: people come back to it.
step_up: list[Callable[[HttpRequest], HttpResponseBase | None]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A person who may be told: an enabled account with standing in the organization. Personal data."""

    id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an entry is about, in words for a mail: its name, whose it is ("" for nobody's), and its page's path.

    `project_id`: the project that all of it lies in, whose admins may hear of it; "" for the whole organization's.
    """

    name: str = ""
    owner_id: str = ""
    path: str = ""
    project_id: str = ""


# One callable of the organizations' app. (organization's id, roles held in the whole organization, ids of people) →
# whoever holds one of the roles or is one of the people; nobody where the organization is suspended.
recipients: list[Callable[[str, Collection[str], Collection[str]], Sequence[Recipient]]] = []
# One callable too. (organization's id, roles, ids of projects) → by project, whoever holds one of the roles there or at
# a project above it, each with the topmost project where they hold it; nobody where the organization is suspended.
project_recipients: list[
    Callable[[str, Collection[str], Collection[str]], Mapping[str, Mapping[str, str]]]
] = []
# One callable too: the organization's name.
organization_name: list[Callable[[str], str]] = []
# Each says what it knows of the targets of entries. (organization's id, targets).
subjects: list[Callable[[str, Collection[str]], Mapping[str, Subject]]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """An organization as the support console lists it."""

    id: str
    name: str
    is_operator: bool = False
    is_suspended: bool = False


class SupportDirectory(Protocol):
    """What the support console asks of the organizations' app, under `everywhere`: who and whose."""

    def is_support(self, user_id: str) -> bool:
        """Return whether an account may sign in and has the role; held so until the transaction ends."""

    def customers(self, ids: Collection[str]) -> Mapping[str, Customer]:
        """Return organizations by id."""

    def find_customers(self, text: str, limit: int) -> Sequence[Customer]:
        """Return those of which id or short name is this text, or whose name holds it; by name."""

    def find_people(self, text: str, limit: int) -> Sequence[str]:
        """Return the ids of people with this e-mail address, or whose name or address begins like this."""


# One directory.
support: list[SupportDirectory] = []


# Each says which of some ids a person may stop for good, and on which page: (the person, ids) → {id: the page's path}.
revocable: list[Callable[[Reader, Collection[str]], Mapping[str, str]]] = []
# One callable of the organizations' app: an account's id or e-mail address → its id and its addresses in lower case;
# ("", ()) where there is no such account. Personal data.
person: list[Callable[[str], tuple[str, Sequence[str]]]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """A sealed field that an erasure takes out of the ledger, with what it held: personal data."""

    act: str
    target: str
    field: str
    value: str


# Called in the transaction that erases these fields, before they go, so that copies of them go with them.
# (organization's id, fields).
on_erased: list[Callable[[str, Sequence[Unsealed]], None]] = []
# Called as an erasure begins, in its transaction, which leaves an entry: for what else an app keeps of somebody with
# these addresses and has no more use for. (organization's id, addresses in lower case).
on_person_erased: list[Callable[[str, Sequence[str]], None]] = []
