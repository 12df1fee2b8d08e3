"""Networks that are new to a key: learned once from each call, told once, and never a flood."""

from datetime import timedelta

import pytest
from django.db import connection

from audit import tenancy
from keys import clock, services
from keys.models import KeyNetwork
from keys.tasks import noticing
from tests import key_builders, usage_builders
from tests.api.calls import as_superuser, at_once
from tests.key_builders import entries
from tests.usage_builders import ago


@pytest.fixture
def key(cast):
    return key_builders.create(cast.acme, cast.alice).key


def work():
    """Run the job; what was recorded so far is learned when it returns."""
    usage_builders.learned()
    noticing.notice_networks(0)


def told(cast, key):
    return [
        entry
        for entry in entries(cast.acme)
        if entry["act"] == "key.first_network" and entry["data"]["target"] == key.id
    ]


def known(cast, key):
    with tenancy.within(cast.acme.id):
        return sorted(KeyNetwork.objects.filter(key_id=key.id).values_list("network", flat=True))


class TestNews:
    def test_the_first_network_is_none_and_each_later_one_is_once(self, cast, key):
        usage_builders.call(key, ip="203.0.113.9", at=ago(minutes=9))
        work()
        assert told(cast, key) == []
        usage_builders.calls(
            key, [{"ip": "203.0.113.77"}, {"ip": "198.51.100.4", "region": "us-1"}, {"ip": "198.51.100.5"}]
        )
        work()
        work()
        (entry,) = told(cast, key)
        assert entry["data"]["network"] == "198.51.100.0/24"
        assert entry["data"]["region"] == "us-1"
        assert entry["data"]["name"] == key.name
        assert entry["actor"] == "sys_worker"
        assert set(entry["sealed"]) == {"address"}
        assert "198.51.100.4" not in str(entry["data"])

    def test_both_in_one_step_make_the_earlier_one_the_baseline(self, cast, key):
        usage_builders.calls(
            key, [{"ip": "198.51.100.4", "at": ago(minutes=1)}, {"ip": "203.0.113.9", "at": ago(minutes=5)}]
        )
        work()
        assert [entry["data"]["network"] for entry in told(cast, key)] == ["198.51.100.0/24"]

    def test_of_ipv6_the_56_counts(self, cast, key):
        usage_builders.calls(
            key,
            [
                {"ip": "2001:db8:0:1::1", "at": ago(minutes=5)},
                {"ip": "2001:db8:0:2::1", "at": ago(minutes=4)},
                {"ip": "2001:db8:0:100::1", "at": ago(minutes=3)},
            ],
        )
        work()
        assert known(cast, key) == ["2001:db8:0:100::/56", "2001:db8::/56"]
        assert len(told(cast, key)) == 1

    @pytest.mark.parametrize("changes", [{"code": "REVOKED"}, {"cost": 0}, {"ip": None}])
    def test_what_is_no_use_teaches_nothing(self, cast, key, changes):
        usage_builders.calls(
            key, [{"ip": "203.0.113.9", "at": ago(minutes=2)}, {"ip": "198.51.100.4", **changes}]
        )
        work()
        assert known(cast, key) == ["203.0.113.0/24"]

    def test_what_came_long_ago_is_learned_silently(self, cast, key):
        usage_builders.calls(
            key, [{"ip": "203.0.113.9", "at": ago(days=6)}, {"ip": "198.51.100.4", "at": ago(days=5)}]
        )
        work()
        assert len(known(cast, key)) == 2
        assert told(cast, key) == []

    def test_a_fleet_is_no_flood(self, cast, key):
        usage_builders.call(key, ip="203.0.113.9", at=ago(seconds=40))
        for number in range(3):
            usage_builders.calls(
                key, [{"ip": f"10.{number}.{n}.1", "at": ago(seconds=30 - number)} for n in range(15)]
            )
            work()
        assert len(known(cast, key)) == 46
        assert len(told(cast, key)) in {20, 40}  # 40 where midnight (UTC) lies between

    def test_of_a_thousand_networks_no_more_are_learned(self, cast, key):
        usage_builders.calls(
            key, [{"ip": f"10.{n // 250}.{n % 250}.1", "at": ago(days=4)} for n in range(1_100)]
        )
        work()
        assert len(known(cast, key)) == 1_000


class TestOnce:
    def test_a_call_that_is_committed_late_is_learned(self, cast, key):
        late = connection.copy("verify")
        late.settings_dict = {**usage_builders.connections["verify"].settings_dict}
        usage_builders.call(key, ip="203.0.113.9", at=ago(minutes=5))
        try:
            late.set_autocommit(False)
            with late.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO keys_call (at, organization_id, key_id, version, code, ip, cost, verifier_id)"
                    " VALUES (%s, %s, %s, 1, 'VALID', '198.51.100.4', 1, 'key_v')",
                    [ago(minutes=4), cast.acme.id, key.id],
                )
            usage_builders.call(key, ip="192.0.2.9", at=ago(minutes=3))
            noticing.notice_networks(0)
            late.commit()
        finally:
            late.close()
        work()
        assert known(cast, key) == ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]

    def test_two_workers_at_once_tell_once(self, cast, key):
        usage_builders.calls(
            key, [{"ip": "203.0.113.9", "at": ago(minutes=5)}, {"ip": "198.51.100.4", "at": ago(minutes=4)}]
        )
        at_once(4, lambda _: noticing.notice_networks(0))
        work()
        assert len(told(cast, key)) == 1

    def test_a_kill_between_learning_and_telling_loses_nothing(self, cast, key):
        usage_builders.calls(
            key, [{"ip": "203.0.113.9", "at": ago(minutes=5)}, {"ip": "198.51.100.4", "at": ago(minutes=4)}]
        )
        usage_builders.learned()
        assert told(cast, key) == []
        work()
        assert len(told(cast, key)) == 1

    def test_without_its_entry_it_stays_due(self, cast, key, monkeypatch):
        usage_builders.calls(
            key, [{"ip": "203.0.113.9", "at": ago(minutes=5)}, {"ip": "198.51.100.4", "at": ago(minutes=4)}]
        )

        def broken(*_: object) -> None:
            raise connection.Database.OperationalError("the ledger is out of reach")

        monkeypatch.setattr("audit.ledger._append", broken)
        work()
        monkeypatch.undo()
        assert told(cast, key) == []
        work()
        assert len(told(cast, key)) == 1

    def test_after_a_restore_it_goes_on(self, cast, key):
        as_superuser("UPDATE keys_networkmark SET learned_until = '900000000000'")
        usage_builders.call(key, ip="203.0.113.9")
        noticing.notice_networks(0)
        work()
        assert known(cast, key) == ["203.0.113.0/24"]

    def test_nobody_else_learns_forgets_or_rewrites(self, cast):
        for statement in (
            "INSERT INTO keys_keynetwork SELECT * FROM keys_keynetwork",
            "DELETE FROM keys_keynetwork",
            "UPDATE keys_keynetwork SET network = 'x'",
            "UPDATE keys_networkmark SET learned_until = '1'",
            "SELECT networks_add('1', '2')",
        ):
            with pytest.raises(Exception, match="permission denied"), tenancy.within(cast.acme.id):
                connection.cursor().execute(statement)

    def test_strangers_see_none_of_it(self, cast, key):
        usage_builders.call(key, ip="203.0.113.9")
        usage_builders.learned()
        with tenancy.within(cast.elsewhere.id):
            assert not KeyNetwork.objects.filter(key_id=key.id).exists()


def test_networks_are_forgotten_after_400_days(cast, key):
    usage_builders.calls(key, [{"ip": "203.0.113.9"}, {"ip": "198.51.100.4", "at": ago(minutes=4)}])
    work()
    as_superuser(
        "UPDATE keys_keynetwork SET last_seen_on = current_date - 401 WHERE key_id = %s AND network = %s",
        key.id,
        "203.0.113.0/24",
    )
    noticing.forget_networks(0)
    assert known(cast, key) == ["198.51.100.0/24"]


class TestComingBack:
    def disabled(self, cast, key, **changes):
        from keys import callers

        until = clock.now() + timedelta(minutes=15)
        with tenancy.within(cast.acme.id):
            services.disable_key(key, actor=callers.of_member(cast.member(cast.alice)), until=until)
        columns = {"disabled_until": "now() - interval '1 second'", **changes}
        as_superuser(
            "UPDATE keys_apikey SET "
            + ", ".join(f"{name} = {value}" for name, value in columns.items())
            + " WHERE id = %s",
            key.id,
        )

    def acts(self, cast, key):
        return [
            (entry["act"], entry["data"].get("cause"))
            for entry in entries(cast.acme)
            if entry["data"].get("target") == key.id and entry["act"] != "key.created"
        ]

    def test_is_recorded_once(self, cast, key):
        self.disabled(cast, key)
        at_once(4, lambda _: noticing.notice_returns(0))
        noticing.notice_returns(0)
        assert self.acts(cast, key) == [("key.disabled", None), ("key.enabled", "time_is_up")]
        assert key_builders.read(key.id, cast.acme).disabled_until is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"is_disabled": "true"},
            {"disabled_until": "now() + interval '1 hour'"},
            {"revoked_at": "now()", "ended_at": "now()", "revocation_reason": "'other'"},
            {"expires_at": "now() - interval '1 second'"},
        ],
    )
    def test_of_one_that_did_not_nothing_is_said(self, cast, key, changes):
        self.disabled(cast, key, **changes)
        noticing.notice_returns(0)
        assert self.acts(cast, key) == [("key.disabled", None)]

    def test_one_organization_that_fails_does_not_stop_the_others(self, cast, key, monkeypatch):
        theirs = key_builders.create(cast.elsewhere, cast.mallory).key
        self.disabled(cast, key)
        as_superuser(
            "UPDATE keys_apikey SET disabled_until = now() - interval '1 second' WHERE id = %s", theirs.id
        )
        real = services.record_returns

        def broken(organization_id, **how):
            if organization_id == cast.elsewhere.id:
                raise RuntimeError("poisoned")
            return real(organization_id, **how)

        monkeypatch.setattr(services, "record_returns", broken)
        noticing.notice_returns(0)
        assert self.acts(cast, key)[-1] == ("key.enabled", "time_is_up")
