"""Keyset pages: forth and back over every order, with equal and empty values, and each by an index."""

from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import tenancy
from keys import listing
from keys.errors import Invalid
from keys.listing import Filters
from keys.models import ApiKey
from tests import builders, cluster, key_builders

MANY = 3_000


def superuser():
    return psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True)


@pytest.fixture(scope="module")
def shelf(django_db_setup, django_db_blocker):
    """An organization with nine keys: of equal times, of none, and used in another order."""
    with django_db_blocker.unblock():
        owner = builders.person("Alice")
        where = builders.organization("Shelf", owner=owner)
        keys = [key_builders.create(where, owner, name=f"key-{n % 5}-{n}").key for n in range(9)]
        now = timezone.now()
        with superuser() as db:
            db.execute("SET session_replication_role = replica")
            for n, key in enumerate(keys):
                soon = None if n % 4 == 0 else now + timedelta(days=n % 3)
                used = None if n % 3 == 0 else now - timedelta(hours=n % 2)
                db.execute(
                    "UPDATE keys_apikey SET expires_at = %s, created_at = %s WHERE id = %s",
                    [soon, now - timedelta(minutes=n // 4), key.id],
                )
                db.execute("UPDATE keys_keyuse SET last_used_at = %s WHERE key_id = %s", [used, key.id])
        return where


def expected(where, sort):
    """Sort in Python: by value and id, both rising or both falling, empty values last either way."""
    with tenancy.within(where.id):
        keys = list(ApiKey.objects.of(where.id).select_related("use"))
    name, falls = sort.lstrip("-"), sort.startswith("-")

    def value(key):
        return key.use.last_used_at if name == "last_used_at" else getattr(key, name)

    def ordered(some):
        return sorted(some, key=lambda key: (value(key), key.id), reverse=falls)

    empty = sorted((key for key in keys if value(key) is None), key=lambda key: key.id, reverse=falls)
    return [key.id for key in [*ordered(key for key in keys if value(key) is not None), *empty]]


def page(where, sort, cursor=None, limit=2, **filters):
    wanted = Filters(organization_id=where.id, **filters)
    with tenancy.within(where.id):
        found = listing.apply(ApiKey.objects.of(where.id), wanted, timezone.now())
        return listing.page(found, filters=wanted, sort=sort, cursor=cursor, limit=limit)


@pytest.mark.parametrize("sort", listing.SORTS)
@pytest.mark.parametrize("limit", [1, 2, 4, 9, 200])
class TestPages:
    def test_forth(self, shelf, sort, limit):
        seen, cursor = [], None
        while True:
            found = page(shelf, sort, cursor, limit)
            seen += [key.id for key in found.items]
            cursor = found.next
            if cursor is None:
                break
        assert seen == expected(shelf, sort)

    def test_and_back(self, shelf, sort, limit):
        pages, cursor = [], None
        while True:
            pages.append(page(shelf, sort, cursor, limit))
            cursor = pages[-1].next
            if cursor is None:
                break
        assert pages[0].previous is None
        for earlier, later in zip(pages[-2::-1], pages[:0:-1], strict=True):
            back = page(shelf, sort, later.previous, limit)
            assert [key.id for key in back.items] == [key.id for key in earlier.items]
            assert back.next is not None
            assert (back.previous is None) == (earlier is pages[0])


class TestRefused:
    @pytest.mark.parametrize("sort", ["id", "", "-", "--name", "name,id", "created_at; --"])
    def test_another_sort(self, shelf, sort):
        with pytest.raises(Invalid):
            page(shelf, sort)

    def test_a_cursor_of_other_filters(self, shelf):
        cursor = page(shelf, "name").next
        assert page(shelf, "name", cursor).items
        for wanted in ({"kind": "service"}, {"search": "key"}, {"tags": (("a", "b"),)}):
            with pytest.raises(Invalid):
                page(shelf, "name", cursor, **wanted)

    @pytest.mark.parametrize("field", ["environment", "project", "owner", "scope", "search", "kind"])
    def test_nul_finds_nothing(self, shelf, field):
        assert page(shelf, "name", **{field: "a\0b"}).items == []

    def test_nul_in_a_tag_finds_nothing(self, shelf):
        assert page(shelf, "name", tags=(("a", "\0"),)).items == []


@pytest.fixture(scope="module")
def crowd(django_db_setup, django_db_blocker):
    """An organization with thousands of keys, loaded by SQL and analyzed, as the planner meets them."""
    with django_db_blocker.unblock(), superuser() as db:
        owner = builders.person("Alice")
        where = builders.organization("Crowd", owner=owner)
        db.execute(
            "INSERT INTO keys_apikey (id, organization_id, project_id, environment_id, kind, name, description,"
            " owner_type, owner_team, tags, scopes, allowed_ips, may_rotate_itself, newest_version, hint, expires_at,"
            " is_disabled, revoked_by, revocation_reason, revocation_note, created_at, created_by, updated_at,"
            " person_touched_at) SELECT 'key_' || translate(left(md5(%(o)s || n) || md5(n::text), 20), '0189', 'ghij'),"
            " %(o)s, %(p)s, %(e)s, 'control_plane', 'key-' || n, '', 'team', 'team ' || n %% 50, '{}',"
            " array['incidents:read'], '{}', true, 1, 'AbCd', now() + n * interval '1 minute', false, '', '', '',"
            " now() - n * interval '1 minute', 'usr_x', now(), now() FROM generate_series(1, %(n)s) n",
            {
                "o": where.id,
                "p": builders.root(where).id,
                "e": builders.production(where).id,
                "n": MANY,
            },
        )
        db.execute(
            "UPDATE keys_keyuse SET last_used_at = now() - random() * interval '90 days' WHERE organization_id = %s",
            [where.id],
        )
        db.execute("ANALYZE keys_apikey, keys_keyuse, keys_term")
        return where


class TestIndexes:
    @pytest.mark.parametrize("sort", listing.SORTS)
    def test_a_deep_page_begins_where_the_one_before_ended(self, crowd, sort):
        """Under row-level security: the keyset is a condition of the index, and nothing is sorted."""
        cursor = page(crowd, sort, limit=200).next
        with CaptureQueriesContext(connection) as queries:
            page(crowd, sort, cursor, limit=50)
        keyset = next(query["sql"] for query in queries if " < (" in query["sql"] or " > (" in query["sql"])
        with tenancy.within(crowd.id), connection.cursor() as cursor_:
            # Few enough rows to read all of them, which a list of 100,000 has not.
            cursor_.execute("SET LOCAL enable_hashjoin = off")
            cursor_.execute("SET LOCAL enable_seqscan = off")
            cursor_.execute("SET LOCAL enable_bitmapscan = off")
            cursor_.execute(f"EXPLAIN {keyset.replace('%', '%%')}")
            plan = "\n".join(row[0] for row in cursor_.fetchall())
        assert "Sort" not in plan, plan
        assert "Seq Scan" not in plan, plan
        assert any("Index Cond" in line and "ROW(" in line for line in plan.splitlines()), plan

    def test_a_constant_number_of_queries(self, crowd):
        def queries(limit):
            with CaptureQueriesContext(connection) as found:
                page(crowd, "-last_used_at", limit=limit)
            return len(found)

        assert queries(1) == queries(200)
