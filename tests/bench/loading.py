"""Organizations with many keys, loaded by SQL: what services would make one by one, as rows of the same shape."""

import psycopg

from orgs.models import Organization
from tests import builders, cluster

# For most filters a value that half of the keys have, so that a page is as full at 100 keys as at 100,000, and one
# that one key in fifty has, which an index must find.
KEYS = """
INSERT INTO keys_apikey (id, organization_id, project_id, environment_id, kind, name, description, owner_type,
    owner_user_id, owner_team, tags, scopes, allowed_ips, may_rotate_itself, newest_version, hint, expires_at,
    is_disabled, revoked_at, revoked_by, revocation_reason, revocation_note, ended_at, created_at, created_by,
    updated_at, person_touched_at)
SELECT 'key_' || translate(left(md5(%(organization)s || i) || md5('x' || i), 20), '0189', 'ghij'), %(organization)s,
    %(project)s, CASE WHEN i %% 5 < 2 THEN %(test)s ELSE %(live)s END,
    CASE WHEN i %% 5 < 3 THEN 'service' ELSE 'ingestion' END,
    CASE WHEN i %% 7 < 5 THEN 'noc' ELSE 'edge' END || '-' || lpad(i::text, 7, '0'), '',
    CASE WHEN i %% 2 = 0 THEN 'member' ELSE 'team' END, CASE WHEN i %% 2 = 0 THEN %(user)s END,
    CASE WHEN i %% 2 = 0 THEN '' WHEN i %% 50 = 1 THEN 'rare' ELSE 'common' END,
    jsonb_build_object('team', CASE WHEN i %% 50 = 0 THEN 'rare' ELSE 'common' END),
    array['keys:read'] || CASE WHEN i %% 50 = 0 THEN array['keys:verify'] ELSE array[]::text[] END,
    '{}', true, 1, left(md5('hint' || i), 4),
    CASE WHEN i %% 10 = 7 THEN NULL ELSE now() + interval '1 day' * ((i * 7919) %% 500 - 50) END, i %% 50 = 3,
    CASE WHEN i %% 10 = 2 THEN now() END, '', CASE WHEN i %% 10 = 2 THEN 'unused' ELSE '' END, '',
    CASE WHEN i %% 10 = 2 THEN now() END, now() - interval '1 minute' * i, 'usr_bench', now(), now()
FROM generate_series(1, %(count)s) AS i
"""
SECRETS = """
INSERT INTO keys_keysecret (key_id, organization_id, version, digest, pepper_version, hint, created_at, expires_at)
SELECT id, organization_id, 1, sha256(id::bytea), 1, hint, created_at, expires_at
FROM keys_apikey WHERE organization_id = %(organization)s
"""
USE = """
UPDATE keys_keyuse SET last_used_at = now() - interval '1 second' * (hashtext(key_id) %% 5000000 + 5000000)
WHERE organization_id = %(organization)s AND hashtext(key_id) %% 5 <> 0
"""


def organization_with(count: int) -> tuple[Organization, builders.User]:
    """Make an organization with `count` keys and its owner; statistics are those of a vacuumed table."""
    owner = builders.person("Owner")
    made = builders.organization(f"Bench {count}", owner=owner)
    values = {
        "organization": made.id,
        "project": builders.root(made).id,
        "live": builders.production(made).id,
        "test": builders.environment(made).id,
        "user": owner.id,
        "count": count,
    }
    url = cluster.cluster().url(dbname=cluster.database())
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (KEYS, SECRETS, USE):
            connection.execute(statement, values)
        connection.execute("VACUUM ANALYZE")
    return made, owner
