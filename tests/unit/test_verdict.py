from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.scopes import all_of, holds, parse_query
from keys.secret import Mode
from keys.verdict import NOT_FOUND, Code, Record, Request, Verdict, decide, expires_soon, is_disabled
from orgs.roles import EVERY_RISK, Risk, Role, ceiling

bounded = settings(max_examples=25, deadline=None, database=None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)

RECORD = Record(
    organization_id="org_a",
    is_organization_suspended=False,
    revoked_at=None,
    is_disabled=False,
    disabled_until=None,
    version=1,
    newest_version=1,
    expires_at=NOW + 60 * DAY,
    accepted_until=None,
    environment="production",
    mode=Mode.LIVE,
    project_id="prj_child",
    networks=(),
    scopes=("incidents:read", "alerts:*"),
    layers=(None,),
    risks={
        "incidents:read": Risk.READ,
        "alerts:read": Risk.READ,
        "alerts:write": Risk.WRITE,
        "alerts:purge": Risk.ADMIN,
    },
    ceiling=None,
)
ASKED = Request(visible_organization_id="org_a")

# One fault per check of KEYS §7, in its order: what is wrong with the key, or with what was asked.
FAULTS = [
    (Code.NOT_FOUND, {}, {"visible_organization_id": "org_b"}),
    (Code.ORGANIZATION_SUSPENDED, {"is_organization_suspended": True}, {}),
    (Code.REVOKED, {"revoked_at": NOW - DAY}, {}),
    (Code.DISABLED, {"is_disabled": True}, {}),
    (Code.EXPIRED, {"expires_at": NOW}, {}),
    (Code.SECRET_RETIRED, {"newest_version": 2, "accepted_until": NOW}, {}),
    (Code.WRONG_ENVIRONMENT, {}, {"environment": "staging"}),
    (Code.WRONG_PROJECT, {}, {"project_path": ("prj_root",)}),
    (Code.IP_NOT_ALLOWED, {"networks": ("10.0.0.0/8",)}, {"ip": "192.0.2.1"}),
    (Code.INSUFFICIENT_SCOPE, {}, {"query": all_of(["keys:write", "incidents:read"])}),
    (Code.FORBIDDEN, {"ceiling": frozenset()}, {"query": all_of(["incidents:read"])}),
]


def verdict(record=None, **asked):
    return decide(replace(RECORD, **(record or {})), replace(ASKED, **asked), NOW)


def code(record=None, **asked):
    return verdict(record, **asked).code


class TestOrder:
    def test_valid(self):
        assert verdict() == Verdict(code=Code.VALID, scopes=("alerts:*", "incidents:read"))
        assert verdict().is_valid

    def test_unknown(self):
        assert decide(None, ASKED, NOW) == NOT_FOUND
        assert not NOT_FOUND.is_valid

    @pytest.mark.parametrize(("expected", "record", "asked"), FAULTS)
    def test_each_fault_has_its_code(self, expected, record, asked):
        assert code(record, **asked) is expected

    def test_the_faults_are_the_order_of_the_codes(self):
        codes = list(Code)
        assert [fault[0] for fault in FAULTS] == codes[2 : 2 + len(FAULTS)]

    @bounded
    @given(st.sets(st.integers(0, len(FAULTS) - 1), min_size=1))
    def test_the_first_fault_hides_the_later(self, chosen):
        record, asked = {}, {}
        for index in sorted(chosen, reverse=True):
            record |= FAULTS[index][1]
            asked |= FAULTS[index][2]
        assert code(record, **asked) is FAULTS[min(chosen)][0]

    def test_another_tenants_key_is_as_unknown_whatever_its_state(self):
        for _, record, asked in FAULTS[1:]:
            assert verdict(record, **(asked | {"visible_organization_id": "org_b"})) == decide(
                None, ASKED, NOW
            )

    @pytest.mark.parametrize("other", ["", "org_", "org_A", "org_aa", "*"])
    def test_only_the_very_organization_is_seen(self, other):
        assert decide(RECORD, replace(ASKED, visible_organization_id=other), NOW) == NOT_FOUND

    def test_the_operators_verifier_sees_all(self):
        assert code(visible_organization_id=None) is Code.VALID

    def test_a_refusal_tells_no_scopes(self):
        assert verdict({"is_disabled": True}).scopes == ()


class TestState:
    def test_revoked_by_a_clock_ahead_of_ours(self):
        assert code({"revoked_at": NOW + DAY}) is Code.REVOKED

    @pytest.mark.parametrize(
        ("without_end", "until", "expected"),
        [
            (False, None, False),
            (False, NOW, False),
            (False, NOW + TICK, True),
            (True, None, True),
            (True, NOW - DAY, True),
        ],
    )
    def test_disabled_for_a_while(self, without_end, until, expected):
        assert is_disabled(without_end=without_end, until=until, now=NOW) is expected
        changes = {"is_disabled": without_end, "disabled_until": until}
        assert code(changes) is (Code.DISABLED if expected else Code.VALID)

    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            ({"expires_at": None}, Code.VALID),
            ({"expires_at": NOW + TICK}, Code.VALID),
            ({"newest_version": 2, "accepted_until": NOW + TICK}, Code.VALID),
            ({"newest_version": 2, "accepted_until": None}, Code.SECRET_RETIRED),
            ({"newest_version": 2, "accepted_until": NOW - DAY, "expires_at": NOW}, Code.EXPIRED),
            ({"version": 2, "accepted_until": NOW - DAY}, Code.SECRET_RETIRED),
        ],
    )
    def test_old_and_expired_secrets(self, record, expected):
        assert code(record) is expected

    @pytest.mark.parametrize(
        ("at", "expected"),
        [(None, False), (NOW + 7 * DAY, True), (NOW + 7 * DAY + TICK, False), (NOW - DAY, True)],
    )
    def test_soon(self, at, expected):
        assert expires_soon(at, NOW) is expected


class TestEnvironment:
    @pytest.mark.parametrize("asked", [None, "production", "live"])
    def test_slug_or_mode(self, asked):
        assert code(environment=asked) is Code.VALID

    @pytest.mark.parametrize("asked", ["test", "staging", "", "Production", "LIVE", "production\0"])
    def test_wrong(self, asked):
        assert code(environment=asked) is Code.WRONG_ENVIRONMENT

    def test_a_test_environment_called_live_is_not_live(self):
        trap = {"environment": "live", "mode": Mode.TEST}
        assert code(trap, environment="live") is Code.WRONG_ENVIRONMENT
        assert code(trap, environment="test") is Code.VALID


class TestProject:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (None, Code.VALID),
            (("prj_root", "prj_child"), Code.VALID),
            (("prj_root", "prj_child", "prj_grandchild"), Code.VALID),
            (("prj_root",), Code.WRONG_PROJECT),
            (("prj_root", "prj_sibling"), Code.WRONG_PROJECT),
            ((), Code.WRONG_PROJECT),
        ],
    )
    def test_serves_itself_and_below(self, path, expected):
        assert code(project_path=path) is expected

    def test_a_project_below_narrows_too(self):
        asked = {"project_path": ("prj_child", "prj_below"), "project_layers": (None, {"incidents:read"})}
        assert verdict(**asked).scopes == ("incidents:read",)
        assert code(**asked, query=all_of(["alerts:read"])) is Code.FORBIDDEN


LISTED = {"networks": ("10.0.0.0/8",)}


class TestAddress:
    def test_with_a_list_no_address_is_refused(self):
        assert code(LISTED) is Code.IP_NOT_ALLOWED
        assert code(LISTED, ip="") is Code.IP_NOT_ALLOWED

    def test_mapped(self):
        assert code(LISTED, ip="::ffff:10.1.1.1") is Code.VALID


class TestScopes:
    def test_a_query(self):
        query = parse_query("incidents:read AND (keys:read OR alerts:write)")
        assert code(query=query) is Code.VALID

    def test_what_the_key_lacks(self):
        refused = verdict(query=all_of(["keys:write", "incidents:read", "audit:read"]))
        assert refused.missing_scopes == ("audit:read", "keys:write")

    def test_lacking_comes_before_forbidden(self):
        refused = verdict({"ceiling": frozenset()}, query=all_of(["incidents:read", "keys:write"]))
        assert (refused.code, refused.missing_scopes) == (Code.INSUFFICIENT_SCOPE, ("keys:write",))

    def test_what_the_owners_role_cuts_away(self):
        demoted = {"ceiling": ceiling(Role.VIEWER)}
        refused = verdict(demoted, query=all_of(["incidents:read", "alerts:write"]))
        assert (refused.code, refused.missing_scopes) == (Code.FORBIDDEN, ("alerts:write",))
        assert verdict(demoted).scopes == ("alerts:read", "incidents:read")

    def test_an_owner_without_standing_leaves_nothing(self):
        assert verdict({"ceiling": ceiling(None)}).scopes == ()

    def test_what_a_project_cuts_away(self):
        narrowed = {"layers": (None, {"alerts:*"}, {"alerts:read", "incidents:read"})}
        assert verdict(narrowed).scopes == ("alerts:read",)
        assert code(narrowed, query=all_of(["incidents:read"])) is Code.FORBIDDEN
        assert code(narrowed, query=all_of(["alerts:read"])) is Code.VALID

    def test_a_wildcard_is_no_way_around_the_role(self):
        developer = {"ceiling": ceiling(Role.DEVELOPER)}
        assert code(developer, query=all_of(["alerts:purge"])) is Code.FORBIDDEN
        assert code(developer, query=all_of(["alerts:*"])) is Code.FORBIDDEN
        assert code(developer, query=all_of(["alerts:unheard-of"])) is Code.FORBIDDEN

    @bounded
    @given(
        st.sets(st.sampled_from([*RECORD.risks, "alerts:*", "incidents:*"]), min_size=1, max_size=4),
        st.sampled_from([None, frozenset(), *map(ceiling, Role)]),
        st.lists(st.none() | st.sets(st.sampled_from([*RECORD.risks, "alerts:*"])), max_size=2),
        st.sampled_from([*RECORD.risks, "alerts:*"]),
    )
    def test_the_answer_lists_what_a_question_would_get(self, scopes, risks, layers, wanted):
        record = {"scopes": tuple(scopes), "ceiling": risks, "layers": tuple(layers)}
        asked = code(record, query=all_of([wanted]))
        assert (asked is Code.VALID) is holds(verdict(record).scopes, wanted)
        assert asked in {Code.VALID, Code.FORBIDDEN, Code.INSUFFICIENT_SCOPE}
        assert (asked is Code.INSUFFICIENT_SCOPE) is not holds(scopes, wanted)

    def test_no_member_owner_no_ceiling(self):
        assert verdict({"ceiling": None}) == verdict({"ceiling": EVERY_RISK})
