"""Run with another database's environment: fills it with keys whose secrets are known, and prints how to verify them.

`python -m tests.bench.seed FOLDER COUNT [COUNT …]` makes an organization for each COUNT, writes its secrets, one a
line in the order of the keys' names, to a file of FOLDER, and prints JSON: the operator's verifier key, and of each
organization its id and that file.
"""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import django

django.setup()

import psycopg  # noqa: E402
from django.conf import settings  # noqa: E402

from audit import tenancy  # noqa: E402
from keys import peppers  # noqa: E402
from keys import secret as secrets  # noqa: E402
from keys.secret import Kind, Mode  # noqa: E402
from orgs import ids  # noqa: E402
from orgs.models import Organization  # noqa: E402
from orgs.services import appoint_owner  # noqa: E402
from tests import builders, key_builders  # noqa: E402

SUPERUSER = "BENCH_SUPERUSER_URL"
BATCH = 10_000
FRESH = "CREATE TEMPORARY TABLE fresh (number serial, id text, hint text, digest bytea)"
KEYS = """
INSERT INTO keys_apikey (id, organization_id, project_id, environment_id, kind, name, description, owner_type,
    owner_team, tags, scopes, allowed_ips, may_rotate_itself, newest_version, hint, expires_at, is_disabled, revoked_by,
    revocation_reason, revocation_note, created_at, created_by, updated_at, person_touched_at)
SELECT id, %(organization)s, %(project)s, %(environment)s, 'control_plane', 'bench-' || lpad(number::text, 7, '0'), '',
    'team', 'NOC', '{}', array['incidents:read'], '{}', true, 1, hint, now() + interval '90 days', false, '', '', '',
    now(), 'usr_bench', now(), now()
FROM fresh
"""
SECRETS = """
INSERT INTO keys_keysecret (key_id, organization_id, version, digest, pepper_version, hint, created_at, expires_at)
SELECT id, %(organization)s, 1, digest, %(pepper)s, hint, now(), now() + interval '90 days' FROM fresh
"""
# What triggers would write, row by row: by far the longest part of a million keys.
ROWS = (
    "SET LOCAL session_replication_role = replica",
    KEYS,
    SECRETS,
    "INSERT INTO keys_keyuse (key_id, organization_id) SELECT id, %(organization)s FROM fresh",
    "INSERT INTO keys_secretuse (key_id, version, organization_id) SELECT id, 1, %(organization)s FROM fresh",
    "INSERT INTO keys_term SELECT %(organization)s, 'scope:incidents:read', id FROM fresh",
)


def fill(count: int, folder: Path) -> dict[str, str]:
    """Make an organization with `count` active keys; return its id and the file of its secrets."""
    made = builders.organization(f"Bench {count}", owner=builders.person("Owner"))
    values = {
        "organization": made.id,
        "project": builders.root(made).id,
        "environment": builders.production(made).id,
        "pepper": peppers.newest(),
    }
    file = folder / f"{made.id}.txt"
    with psycopg.connect(os.environ[SUPERUSER]) as connection:
        connection.execute(FRESH)
        with (
            file.open("w") as out,
            connection.cursor().copy("COPY fresh (id, hint, digest) FROM STDIN") as copy,
        ):
            for key, text in generated(count):
                out.write(text + "\n")
                copy.write_row((key, secrets.hint(text), peppers.digest(text)))
        for statement in ROWS:
            connection.execute(statement.encode(), values)
    return {"id": made.id, "file": str(file)}


def generated(count: int) -> Iterator[tuple[str, str]]:
    """Draw so many ids and secrets, on every core."""
    sizes = [min(BATCH, count - start) for start in range(0, count, BATCH)]
    with ProcessPoolExecutor() as processes:
        for batch in processes.map(_batch, sizes):
            yield from batch


def _batch(size: int) -> list[tuple[str, str]]:
    brand = settings.KEY_BRAND
    return [(ids.new("key"), secrets.generate(brand, Kind.CONTROL_PLANE, Mode.LIVE)) for _ in range(size)]


def verifier() -> str:
    """Make a key of the operator's that may verify everybody's; return its secret."""
    owner, operator_id = builders.person("Oper"), tenancy.operator_id()
    with tenancy.within(operator_id):
        own = Organization.objects.get(pk=operator_id)
        appoint_owner(own, owner, actor=builders.OPERATOR)
    return key_builders.create(own, owner, scopes=["keys:verify"]).secret


def main(folder: Path, counts: list[int]) -> dict[str, Any]:
    """Fill the database."""
    key_builders.catalogue()
    made = {"verifier": verifier(), "organizations": [fill(count, folder) for count in counts]}
    with psycopg.connect(os.environ[SUPERUSER], autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
    return made


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]]), sys.stdout)
