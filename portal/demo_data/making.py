"""Makes the demo's organizations, all or none, and tells of them in one document, the only place of their secrets."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, Final

from audit import ledger, tenancy
from audit.actors import Actor
from keys import clock, verification
from keys.models import ApiKey, Scope
from keys.secret import Kind
from keys.services import Draft, Owner, create_key
from orgs import services
from orgs.models import Environment, Organization, Plan, Project, StaffRole, User
from orgs.roles import Role
from portal.demo_data import ageing, governed, heliograph, history, northline, people, quiet
from portal.demo_data.catalogue import add_scopes
from portal.demo_data.keyspecs import KeySpec, Made, Place, make_key
from portal.demo_data.people import SignIn
from portal.demo_data.plans import add_plans

MAKER: Final = Actor.system("demo")
CUSTOMERS: Final = (northline, heliograph, quiet)
PROGRESS_EVERY: Final = 500
YEAR: Final = timedelta(days=365)
OFFICE: Final = "203.0.113.17"

type Document = dict[str, Any]


@dataclass(slots=True)
class Demo:
    """What is being made, as of one present."""

    now: datetime
    tell: Callable[[str], None]
    sign_ins: list[SignIn] = field(default_factory=list)
    organizations: list[Document] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)


def make(base_url: str, write: Callable[[Document], None], tell: Callable[[str], None]) -> None:
    """Make everything in one transaction, and write the document as its last act before it commits.

    So the document is there whenever the data is; where the commit fails, it tells of ids that nobody has.

    Args:
        base_url: where the portal answers.
        write: takes the document. Secret: it holds every password and key.
        tell: takes lines of progress.
    """
    operator_id = tenancy.operator_id()
    with tenancy.everywhere(tenancy.Reason.COMMAND), ledger.recording(operator_id, MAKER):
        demo = Demo(clock.now(), tell)
        add_scopes(actor=MAKER)
        add_plans(actor=MAKER)
        verify_key = _make_operator(demo)
        for customer in CUSTOMERS:
            _make_customer(demo, customer)
        signed_in = [asdict(sign_in) for sign_in in demo.sign_ins]
        write(
            {
                "base_url": base_url,
                "verify_key": verify_key,
                "people": signed_in,
                "organizations": demo.organizations,
            }
        )
    ageing.write_uses([use for made in demo.made for use in made.uses])
    history.write(demo.made, operator_id, demo.now)
    _use_now(demo.made)
    governed.run(demo.made)


def refresh(document: Document, base_url: str) -> bool:
    """Bring an earlier document up to date; return whether what it tells of is still here."""
    ids = [str(organization.get("id")) for organization in document.get("organizations", [])]
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        if Organization.objects.filter(pk__in=ids).count() != len(CUSTOMERS):
            return False
        found, now = {key.id: key for key in ApiKey.objects.filter(organization_id__in=ids)}, clock.now()
    document["base_url"] = base_url
    for organization in document["organizations"]:
        for key in organization["keys"]:
            key["status"] = found[key["id"]].status(now).value
    return True


def has_customers() -> bool:
    """Return whether anybody but the operator lives in this database."""
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        return Organization.objects.filter(is_operator=False).exists()


def _make_operator(demo: Demo) -> str:
    """Name the operator, give it people, and return the key of its back end. Secret."""
    operator = Organization.objects.get(is_operator=True)
    services.change_organization(operator, actor=MAKER, name="Keystead Operations", slug=operator.slug)
    olga, password = people.create(
        "operator@keystead.example", "Olga Petrova", actor=MAKER, is_superuser=True
    )
    demo.sign_ins.append(SignIn(olga.email, password, "superuser", operator.slug))
    services.appoint_owner(operator, olga, actor=MAKER)
    dave, password = people.create(
        "support@keystead.example",
        "Dave Whitfield",
        actor=people.identity(olga),
        staff_role=StaffRole.SUPPORT,
    )
    demo.sign_ins.append(SignIn(dave.email, password, "support", operator.slug))
    return _api_key(demo, operator, olga, "gateway", ["keys:verify", "keys:read", "keys:write"])


def _make_customer(demo: Demo, customer: ModuleType) -> None:
    """Make a customer from its module: people, projects, environments, keys."""
    demo.tell(f"making {customer.NAME}")
    owner = _create_person(demo, customer, customer.PEOPLE[0])
    organization = services.create_organization(
        customer.NAME, actor=MAKER, slug=customer.SLUG, plan=Plan.objects.get(pk=customer.PLAN), owner=owner
    )
    services.change_overrides(organization, customer.AGREED, actor=MAKER)
    with tenancy.within(organization.id):
        place = _furnish(demo, customer, organization, owner)
        admin_key = _api_key(demo, organization, owner, "admin", _every_scope())
        made = list(_make_keys(demo, customer.specs(), place))
        governed.ask(made, place)
    demo.made += made
    described = [_described(each, demo.now) for each in made]
    demo.organizations.append(
        {
            "slug": organization.slug,
            "id": organization.id,
            "admin_key": admin_key,
            "environments": list(place.environments),
            "keys": described,
        }
    )


def _create_person(demo: Demo, customer: ModuleType, person: Sequence[str]) -> User:
    first, role, name, _ = person
    user, password = people.create(f"{first}@{customer.SLUG}.example", name, actor=MAKER)
    demo.sign_ins.append(SignIn(user.email, password, role, customer.SLUG))
    return user


def _furnish(demo: Demo, customer: ModuleType, organization: Organization, owner: User) -> Place:
    """Make what an organization's keys refer to, as its owner would have."""
    by = people.member(owner, organization)
    projects = {"": Project.objects.get(organization=organization, parent=None)}
    for name, parent in customer.PROJECTS:
        projects[name] = services.create_project(projects[parent], name, actor=by)
    environments = {"production": Environment.objects.get(organization=organization)}
    for slug, name, mode in customer.ENVIRONMENTS:
        environments[slug] = services.create_environment(
            organization, slug, actor=by, name=name, mode=mode, is_production=False
        )
    members = {customer.PEOPLE[0][0]: owner}
    for person in customer.PEOPLE[1:]:
        first, role, _, project = person
        members[first] = _create_person(demo, customer, person)
        people.join(members[first], Role(role), by=by, project=projects[project] if project else None)
    callers = {first: people.caller(user, organization) for first, user in members.items()}
    return Place(projects, environments, members, callers)


def _make_keys(demo: Demo, specs: Iterable[KeySpec], place: Place) -> Iterable[Made]:
    for number, spec in enumerate(specs, start=1):
        if number % PROGRESS_EVERY == 0:
            demo.tell(f"{number:,} keys")
        yield make_key(spec, place, demo.now)


def _api_key(demo: Demo, organization: Organization, owner: User, name: str, scopes: Sequence[str]) -> str:
    """Make a control-plane key at the root, granted by the owner who has just stepped up; return its secret."""
    draft = Draft(
        kind=Kind.CONTROL_PLANE,
        name=name,
        project=Project.objects.get(organization=organization, parent=None),
        environment=Environment.objects.get(organization=organization, slug="production"),
        scopes=scopes,
        owner=Owner(team="Platform"),
        description="For the API; its secret is in the demo's own file.",
        expires=demo.now + YEAR,
    )
    return create_key(draft, actor=people.caller(owner, organization)).secret


def _every_scope() -> list[str]:
    return list(Scope.objects.values_list("name", flat=True))


def _described(made: Made, now: datetime) -> Document:
    key = made.key
    return {"id": key.id, "name": key.name, "secret": made.secret, "status": key.status(now).value}


def _use_now(made: Iterable[Made]) -> None:
    """Let a service ask for the keys that are in use at this moment."""
    for each in made:
        if each.key.name in northline.USED_NOW:
            presented, ask = verification.credential(each.secret), verification.Ask(ip=OFFICE)
            verification.ask(verification.Call(verifier=None, presented=presented, ask=ask))
