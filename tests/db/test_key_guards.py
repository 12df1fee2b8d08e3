"""What the database itself refuses about keys, whatever the application does."""

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from audit import tenancy
from keys import callers, services
from keys.models import ApiKey, KeySecret, KeyUse, Rotation
from keys.models.key import KeyTerm
from keys.secret import Kind
from tests import builders


@pytest.fixture(scope="module")
def acme(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        yield builders.cast()


@pytest.fixture
def made(acme):
    with tenancy.within(acme.acme.id):
        return services.create_key(
            services.Draft(
                kind=Kind.CONTROL_PLANE,
                name=builders.unique("key"),
                project=builders.root(acme.acme),
                environment=builders.production(acme.acme),
                scopes=["keys:read", "keys:write"],
                tags={"team": "noc"},
            ),
            actor=callers.of_member(acme.member(acme.alice)),
        )


def refused(organization_id: str, sql: str, *values: object) -> str:
    """Run a statement as the application's login; return what the database says against it."""
    with (
        pytest.raises((DatabaseError, IntegrityError)) as caught,
        tenancy.within(organization_id),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, values)
    return str(caught.value)


class TestKey:
    @pytest.mark.parametrize(
        "change",
        [
            "organization_id = 'org_other'",
            "kind = 'service'",
            "created_by = 'usr_other'",
            "created_at = now()",
            "newest_version = newest_version + 2",
            "newest_version = 0",
            "scopes = '{}'",
            "name = 'Not A Name'",
            "revoked_at = now()",
            "owner_type = 'member'",
        ],
    )
    def test_what_never_changes_or_never_is(self, acme, made, change):
        refused(acme.acme.id, f"UPDATE keys_apikey SET {change} WHERE id = %s", made.key.id)

    def test_a_revocation_is_final(self, acme, made):
        with tenancy.within(acme.acme.id):
            services.revoke_key(made.key, actor=callers.of_member(acme.member(acme.alice)))
        message = refused(
            acme.acme.id,
            "UPDATE keys_apikey SET revoked_at = NULL, revocation_reason = '' WHERE id = %s",
            made.key.id,
        )
        assert "a revoked key stays as it is" in message

    @pytest.mark.parametrize(
        "table", ["keys_apikey", "keys_keysecret", "keys_rotation", "keys_scope", "keys_term"]
    )
    def test_nothing_is_deleted(self, acme, table):
        assert "permission denied" in refused(acme.acme.id, f"DELETE FROM {table}")

    def test_a_key_lies_in_its_own_organization(self, acme, made):
        stranger = builders.root(acme.elsewhere)
        with pytest.raises(DatabaseError), tenancy.within(acme.acme.id):
            ApiKey.objects.filter(pk=made.key.pk).update(project=stranger)

    def test_two_keys_of_one_name_only_one_after_the_other(self, acme, made):
        with pytest.raises(IntegrityError, match="key_name_unique"), tenancy.within(acme.acme.id):
            copy = ApiKey.objects.get(pk=made.key.pk)
            copy.pk = "key_" + "a" * 20
            copy.save(force_insert=True)


class TestSecret:
    def test_a_digest_is_unique_and_32_bytes(self, acme, made):
        digest = "(SELECT digest FROM keys_keysecret WHERE key_id = %s)"
        insert = (
            "INSERT INTO keys_keysecret (key_id, organization_id, version, digest, pepper_version, hint, created_at)"
            " VALUES (%s, %s, 2, {}, 1, 'abcd', now())"
        )
        key, organization = made.key.id, acme.acme.id
        assert "unique" in refused(organization, insert.format(digest), key, organization, key)
        assert "secret_digest_length" in refused(organization, insert.format("'\\x00'"), key, organization)

    def test_the_application_can_not_swap_a_digest(self, acme, made):
        message = refused(
            acme.acme.id, "UPDATE keys_keysecret SET digest = sha256('x') WHERE key_id = %s", made.key.id
        )
        assert "permission denied" in message

    def test_acceptance_only_ends_sooner(self, acme, made):
        with tenancy.within(acme.acme.id):
            services.rotate_key(made.key, actor=callers.of_member(acme.member(acme.alice)))
        for until in ("NULL", "accepted_until + interval '1 hour'"):
            message = refused(
                acme.acme.id,
                f"UPDATE keys_keysecret SET accepted_until = {until} WHERE key_id = %s AND version = 1",
                made.key.id,
            )
            assert "only ends sooner" in message


class TestEvidence:
    @pytest.mark.parametrize("table", ["keys_keyuse", "keys_secretuse"])
    def test_only_verification_writes_it(self, acme, table):
        assert "permission denied" in refused(acme.acme.id, f"UPDATE {table} SET last_used_at = now()")
        assert "permission denied" in refused(
            acme.acme.id, f"INSERT INTO {table} (key_id, organization_id) VALUES ('key_x', %s)", acme.acme.id
        )

    def test_a_key_has_its_row_from_the_start(self, acme, made):
        with tenancy.within(acme.acme.id):
            assert KeyUse.objects.get(pk=made.key.id).last_used_at is None


class TestTerms:
    def terms(self, acme, made):
        with tenancy.within(acme.acme.id):
            return set(KeyTerm.objects.filter(key_id=made.key.id).values_list("term", flat=True))

    def test_they_follow_the_key(self, acme, made):
        assert self.terms(acme, made) == {"scope:keys:read", "scope:keys:write", "tag:team=noc"}
        with tenancy.within(acme.acme.id):
            services.change_key(
                made.key,
                services.Changes(scopes=["keys:read"], tags={"team": "edge"}),
                actor=callers.of_member(acme.member(acme.alice)),
            )
        assert self.terms(acme, made) == {"scope:keys:read", "tag:team=edge"}

    def test_the_application_can_not_write_them(self, acme, made):
        sql = "INSERT INTO keys_term VALUES (%s, 'scope:x:y', %s)"
        assert "permission denied" in refused(acme.acme.id, sql, acme.acme.id, made.key.id)


class TestVerificationLogin:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT email FROM orgs_user",
            "SELECT password FROM orgs_user",
            "SELECT * FROM orgs_session",
            "SELECT * FROM audit_entry",
            "UPDATE keys_apikey SET revoked_at = NULL",
            "UPDATE keys_keysecret SET expires_at = NULL",
            "INSERT INTO keys_keyuse (key_id, organization_id) VALUES ('x', 'y')",
            "DELETE FROM keys_keysecret",
        ],
    )
    def test_it_has_only_what_verification_needs(self, sql):
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(using="verify"):
            from django.db import connections

            with connections["verify"].cursor() as cursor:
                cursor.execute(sql)


def test_history_stays_in_the_rows(acme, made):
    actor = callers.of_member(acme.member(acme.alice))
    with tenancy.within(acme.acme.id):
        first = services.rotate_key(made.key, actor=actor)
        from keys.rotation import Mode

        second = services.rotate_key(made.key, actor=actor, mode=Mode.IMMEDIATE)
        versions = list(
            KeySecret.objects.filter(key=made.key).order_by("version").values_list("version", flat=True)
        )
        superseded = Rotation.objects.get(pk=first.rotation.pk).superseded_at
        accepted = KeySecret.objects.filter(key=made.key, accepted_until__gt=second.rotation.started_at)
        assert (versions, superseded) == ([1, 2, 3], second.rotation.started_at)
        assert not accepted.exists()
