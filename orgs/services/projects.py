"""The tree of projects. A project never moves; what changes is its name, its narrowing and whether it is in use."""

from collections.abc import Sequence

from django.db.models import Value
from django.db.models.functions import Concat, Substr
from django.utils import timezone

from audit.actors import Actor
from audit.acts import Act
from orgs import ports
from orgs.errors import Gone, Invalid, StillInUse, Taken
from orgs.models import Project
from orgs.models.organization import LABELS, ProjectQuerySet, new_project_id
from orgs.services.common import lock, recording, refusing

MAX_DEPTH = 8


def create_project(parent: Project, name: str, *, actor: Actor) -> Project:
    """Make a project below another and record `project.created`.

    Raises:
        Invalid: a name that reads like a path, or more than `MAX_DEPTH` levels (field `name`, `parent`).
        Taken: a project beside it has this name (field `name`).
        Gone: the parent was archived in the meantime.
    """
    _check_name(name)
    with refusing(Taken), recording(parent.organization_id, actor) as entry:
        lock(parent.organization_id)
        above = _current(parent)
        if above.depth >= MAX_DEPTH:
            raise Invalid(f"Projects go {MAX_DEPTH} levels deep, no further.", field="parent")
        project_id = new_project_id()
        project = Project.objects.create(
            id=project_id,
            organization_id=above.organization_id,
            parent=above,
            name=name,
            path=f"{above.path}{project_id}/",
            label_path=f"{above.label_path}{LABELS}{name}",
        )
        entry(Act.PROJECT_CREATED, target=project.id, data={"name": name, "parent": above.id})
    return project


def rename_project(project: Project, name: str, *, actor: Actor) -> bool:
    """Give a project another name, in the paths of all below it too, and record `project.changed`.

    Returns:
        Whether the name was another.

    Raises:
        Invalid, Taken, Gone: as `create_project`.
    """
    _check_name(name)
    with refusing(Taken), recording(project.organization_id, actor) as entry:
        lock(project.organization_id)
        found = _current(project)
        if found.name != name:
            label_path = found.label_path.removesuffix(found.name) + name
            Project.objects.filter(pk=found.pk).update(name=name)
            rest = Substr("label_path", len(found.label_path) + 1)
            _family(found).update(label_path=Concat(Value(label_path), rest))
            changes = {"before": {"name": found.name}, "after": {"name": name}}
            entry(Act.PROJECT_CHANGED, target=found.id, data=changes)
    return found.name != name


def set_project_scopes(project: Project, scopes: Sequence[str] | None, *, actor: Actor) -> bool:
    """Narrow what keys of a project and below may do, and record `project.changed`.

    Args:
        project: where.
        scopes: the only scopes that count there, checked by the form; None narrows nothing, empty everything.
        actor: who does it.

    Returns:
        Whether anything changed.

    Raises:
        Gone: the project was archived in the meantime.
    """
    wanted = None if scopes is None else sorted(set(scopes))
    with recording(project.organization_id, actor) as entry:
        lock(project.organization_id)
        found = _current(project)
        if found.scopes != wanted:
            Project.objects.filter(pk=found.pk).update(scopes=wanted)
            changes = {"before": {"scopes": found.scopes}, "after": {"scopes": wanted}}
            entry(Act.PROJECT_CHANGED, target=found.id, data=changes)
    project.scopes = wanted
    return found.scopes != wanted


def archive_project(project: Project, *, actor: Actor) -> int:
    """Take a project and all below it out of use, and record `project.archived` for each.

    Returns:
        How many projects were archived.

    Raises:
        Invalid: it is the organization's root.
        StillInUse: working keys are left in it or below.
        Gone: it was archived in the meantime.
    """
    if project.parent_id is None:
        raise Invalid("The organization's own project can't be archived.")
    with recording(project.organization_id, actor) as entry:
        lock(project.organization_id)
        found = _current(project)
        if keys := sum(count(found) for count in ports.on_archiving):
            raise StillInUse(
                f"{keys} working {'key is' if keys == 1 else 'keys are'} left here or below. Revoke first."
            )
        family = list(_family(found).filter(archived_at__isnull=True).values_list("id", flat=True))
        Project.objects.filter(pk__in=family).update(archived_at=timezone.now())
        for project_id in family:
            entry(Act.PROJECT_ARCHIVED, target=project_id)
    return len(family)


def _current(project: Project) -> Project:
    """Return the project as it is under the organization's lock."""
    found = (
        Project.objects.of(project.organization_id).filter(pk=project.pk, archived_at__isnull=True).first()
    )
    if found is None:
        raise Gone
    return found


def _family(project: Project) -> ProjectQuerySet:
    return Project.objects.of(project.organization_id).filter(path__startswith=project.path)


def _check_name(name: str) -> None:
    if LABELS in f" {name} ":
        raise Invalid("A name has no stroke that stands alone: it would read like a path.", field="name")
