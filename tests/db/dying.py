"""Run with a database's environment: does each act again and again, killed one step later each time, till it lives.

A step is a statement that is about to be sent and may change something, a COMMIT that is about to be sent, or one that
was answered; what dies at a read leaves what dying at the step before it leaves. It is the process that is killed, or
the server's process that serves it, upon which PostgreSQL ends all of them. Each try is a fork, so that it begins with
nothing open. Prints of each act in which organization it was done, and how many tries were killed.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import django

django.setup()

from django.db import Error, connection, connections  # noqa: E402

from audit import ledger, tenancy  # noqa: E402
from audit.errors import LedgerUnavailable  # noqa: E402
from audit.services import erase_person  # noqa: E402
from keys import callers, clock, rotation, services  # noqa: E402
from keys.listing import Filters  # noqa: E402
from keys.models import ApiKey  # noqa: E402
from keys.scopes import all_of  # noqa: E402
from keys.services.auto_rotation import rotate_when_due  # noqa: E402
from keys.services.recipients import newest_recipient  # noqa: E402
from orgs.models import Organization, User  # noqa: E402
from orgs.roles import Role  # noqa: E402
from tests import builders, key_builders, ledgers  # noqa: E402
from tests import governance_builders as gov  # noqa: E402
from tests.clocks import later  # noqa: E402

MOST_STEPS = 200
RESTART_SECONDS = 30
# The ORM's own reads; the product's functions, which write, are not quoted.
READ = re.compile(r'SELECT (DISTINCT )?"|SELECT (1|COUNT\(\*\)|EXISTS) ')
# What a try ends with where its server was killed and it lived.
OUTLIVED = 3


@dataclass
class Death:
    """Kills at one step."""

    step: int
    whom: str
    seen: int = 0

    def __call__(self) -> None:
        """Count a step, and kill where it is the one."""
        self.seen += 1
        if self.seen == self.step:
            os.kill(os.getpid() if self.whom == "process" else self.server(), signal.SIGKILL)
            # A server that was killed is noticed by its supervisor before it takes another connection.
            time.sleep(0.05)

    @staticmethod
    def server() -> int:
        """Return the id of the server's process on the other end."""
        pid: int = connection.connection.info.backend_pid
        return pid

    def watch(self) -> None:
        """Count from now on."""
        connection.execute_wrappers.append(self._statement)
        commit = connection._commit

        def committed() -> None:
            self()
            commit()
            self()

        connection._commit = committed

    def _statement(self, execute: Callable[..., Any], sql: str, *asked: Any) -> Any:
        if not READ.match(sql):
            self()
        return execute(sql, *asked)


@dataclass
class Stage:
    """Who acts, and where."""

    where: Organization
    owner: User

    def caller(self) -> callers.Caller:
        return callers.of_member(builders.member(self.owner, self.where))

    def key(self, **fields: Any) -> ApiKey:
        # Forks count on from the same number.
        return key_builders.create(self.where, self.owner, name=f"dying-{os.getpid()}", **fields).key


def create(stage: Stage) -> Callable[[], object]:
    return stage.key


def rotate(stage: Stage, **how: Any) -> Callable[[], object]:
    return partial(key_builders.rotate, stage.key(), stage.where, stage.owner, **how)


def supersede(stage: Stage) -> Callable[[], object]:
    key = key_builders.rotate(stage.key(), stage.where, stage.owner).key
    return partial(key_builders.rotate, key, stage.where, stage.owner, mode=rotation.Mode.IMMEDIATE)


def stage_by_stage(stage: Stage) -> Callable[[], object]:
    return rotate(stage, mode=rotation.Mode.STAGED, targets=["us-east-1", "eu-west-2"])


def end(stage: Stage, ends: Callable[..., object]) -> Callable[[], object]:
    started = key_builders.rotate(stage.key(), stage.where, stage.owner).rotation
    caller = stage.caller()

    def act() -> None:
        with tenancy.within(stage.where.id):
            ends(started, actor=caller)

    return act


def revoke(stage: Stage) -> Callable[[], object]:
    key, caller = stage.key(), stage.caller()

    def act() -> None:
        with tenancy.within(stage.where.id):
            services.revoke_key(key, actor=caller)

    return act


def break_glass(stage: Stage) -> Callable[[], object]:
    key, caller = stage.key(), replace(stage.caller(), has_stepped_up=True)
    key_builders.create(stage.where, stage.owner, name=f"{key.name}-b")
    filters = Filters(organization_id=stage.where.id, search=key.name)

    def act() -> None:
        with tenancy.within(stage.where.id):
            services.break_glass(filters, actor=caller, reason="It was stolen")

    return act


def auto_rotate(stage: Stage) -> Callable[[], object]:
    with tenancy.within(stage.where.id):
        has_recipient = newest_recipient(stage.where.id) is not None
    if not has_recipient:
        key_builders.recipient(stage.where, stage.owner)
    key = stage.key(rotation_interval_days=1, auto_rotate=True)

    def act() -> None:
        with later(hours=12.1):
            rotate_when_due(stage.where.id, key.id)

    return act


def tell_of_expiry(stage: Stage) -> Callable[[], object]:
    key = stage.key(expires=clock.now() + timedelta(days=5))
    return partial(services.tell_of_expiry, stage.where.id, [key.id])


def bound_key(stage: Stage) -> key_builders.Created:
    return gov.bound_key(stage.where, stage.owner, name=f"dying-{os.getpid()}")


def admin(stage: Stage) -> User:
    found = builders.person(f"Admin {os.getpid()}")
    builders.join(found, stage.where, Role.ADMIN)
    return found


def ask(stage: Stage) -> Callable[[], object]:
    return partial(gov.request, bound_key(stage).key)


def grant(stage: Stage) -> Callable[[], object]:
    return partial(gov.grant, gov.request(bound_key(stage).key), stage.where, admin(stage))


def tell_of_use(stage: Stage) -> Callable[[], object]:
    made = bound_key(stage)
    approval = gov.granted(stage.where, made.key, admin(stage), uses=2)
    for _ in range(2):
        query = all_of(["incidents:write"])
        key_builders.judged(made.secret, stage.where, query=query, trace={"approval": approval.id})

    def act() -> None:
        with tenancy.within(stage.where.id):
            services.record_approval_uses(approval.id)

    return act


def execute(stage: Stage) -> Callable[[], object]:
    key = bound_key(stage).key
    approval = gov.granted(stage.where, key, admin(stage))
    return partial(gov.execute, key, approval, execution=f"run-{os.getpid()}", steps=[])


def erase(stage: Stage) -> Callable[[], object]:
    person = f"usr_dying{os.getpid()}"
    actor = replace(ledgers.ALICE, id=person)
    with tenancy.within(stage.where.id), ledger.recording(stage.where.id, actor) as entry:
        for _ in range(3):
            entry("session.started", target=person)
    return partial(
        erase_person, stage.where.id, person, actor=builders.as_actor(stage.owner), with_notes=True
    )


ACTS: dict[str, Callable[[Stage], Callable[[], object]]] = {
    "create": create,
    "rotate": rotate,
    "stage": stage_by_stage,
    "supersede": supersede,
    "complete": partial(end, ends=services.complete_rotation),
    "cancel": partial(end, ends=services.cancel_rotation),
    "revoke": revoke,
    "break_glass": break_glass,
    "auto_rotate": auto_rotate,
    "tell_of_expiry": tell_of_expiry,
    "ask": ask,
    "grant": grant,
    "tell_of_use": tell_of_use,
    "execute": execute,
    "erase": erase,
}


def main(whom: str, every: int, acts: Collection[str]) -> None:
    """Kill `whom` at each `every`-th step of each act until there are no more steps."""
    key_builders.catalogue()
    found = {}
    for act in acts:
        owner = builders.person("Owner")
        stage = Stage(builders.organization("Dying", owner=owner), owner)
        connections.close_all()
        found[act] = {"organization": stage.where.id, "killed": _kills(act, whom, every, stage)}
    json.dump(found, sys.stdout)


def _kills(act: str, whom: str, every: int, stage: Stage) -> int:
    for killed, step in enumerate(range(1, MOST_STEPS, every)):
        if not _dies(step, whom, ACTS[act], stage):
            return killed
    raise RuntimeError(f"{act} has more than {MOST_STEPS} steps")


def _dies(step: int, whom: str, prepare: Callable[[Stage], Callable[[], object]], stage: Stage) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(_try(Death(step, whom), prepare, stage))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) not in {0, OUTLIVED}:
        raise RuntimeError(f"step {step} ended with {os.WEXITSTATUS(status)}")
    return os.WEXITSTATUS(status) == OUTLIVED


def _try(death: Death, prepare: Callable[[Stage], Callable[[], object]], stage: Stage) -> int:
    try:
        _wait_for_server()
        act = prepare(stage)
        death.watch()
        # The one that the database's death causes, at whatever step.
        with suppress(Error, LedgerUnavailable):
            act()
        return OUTLIVED if death.seen >= death.step else 0
    except BaseException as error:
        # A fork must not go on into what its parent was at.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _wait_for_server() -> None:
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            connection.ensure_connection()
        except Error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or ACTS)
