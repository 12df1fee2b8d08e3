from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import policy
from keys.errors import ExceedsGrant, Invalid
from keys.policy import ABSENT, DEFAULTS, Bounds, ExpiryRule, Source, TierLimit, TierName
from keys.policy.fields import NAME
from keys.scopes import CatalogueScope
from keys.secret import Kind, Mode
from orgs.roles import EVERY_RISK, Risk, Role, grantable
from orgs.terms import RateLimit

bounded = settings(max_examples=25, deadline=None, database=None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CONTROL = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF, 0x202E, 0x2066)]


def refused(field, function, *args, error=Invalid, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert caught.value.field == field
    return caught.value


class TestName:
    @pytest.mark.parametrize("name", ["ab", "0-", "noc-readonly", "a" * 63])
    def test_takes(self, name):
        assert policy.check_name(name) == name

    @pytest.mark.parametrize(
        "name",
        ["", "a", "-a", "a" * 64, "Ab", "a_b", "a b", "ab\n", "ab\0", "\u0430\u0431", "a\ud800"],
    )
    def test_refuses(self, name):
        refused("name", policy.check_name, name)

    def test_refuses_the_huge(self):
        refused("name", policy.check_name, "a" * 10_000_000)

    @pytest.mark.parametrize(
        ("service", "environment", "expected"),
        [
            ("Billing API", "production", "billing-api-production"),
            ("café", "lab", "cafe-lab"),
            ("склад", "", "api-key"),
            ("a" * 62, "prod", "a" * 62),
        ],
    )
    def test_suggestion(self, service, environment, expected):
        assert policy.suggest_name(service, environment) == expected

    @bounded
    @given(st.text(), st.text())
    def test_a_suggestion_is_a_name(self, service, environment):
        assert NAME.fullmatch(policy.suggest_name(service, environment))


class TestText:
    @pytest.mark.parametrize(
        ("check", "field"), [(policy.check_description, "description"), (policy.check_note, "note")]
    )
    def test_is_bounded_in_bytes(self, check, field):
        assert check("é" * 500) == "é" * 500
        assert check("") == ""
        refused(field, check, "é" * 501)
        refused(field, check, "a" * 1_001)

    def test_may_have_lines(self):
        assert policy.check_description("a\r\nb\n\tc") == "a\nb\n\tc"

    def test_control_characters_are_refused_everywhere(self):
        for character in CONTROL:
            if character not in "\n\t":
                refused("description", policy.check_description, f"a{character}b")
            refused("owner", policy.check_team, f"a{character}b")
            refused("tags.team", policy.check_tags, {"team": f"a{character}b"})
            refused("tags", policy.check_tags, {f"a{character}b": ""})

    def test_a_refusal_never_repeats_the_text(self):
        assert "hunter2" not in str(refused("description", policy.check_description, "hunter2\0"))

    def test_team(self):
        assert policy.check_team("  Платформа ") == "Платформа"
        assert policy.check_team("я" * 100) == "я" * 100
        refused("owner", policy.check_team, "я" * 101)
        refused("owner", policy.check_team, "  ")


class TestTags:
    def test_takes_twenty_of_the_longest(self):
        tags = {f"{n:02}" + "x" * 30: "é" * 32 for n in range(20)}
        assert policy.check_tags(tags) == tags

    @pytest.mark.parametrize(
        ("tags", "field"),
        [
            ({f"t{n}": "" for n in range(21)}, "tags"),
            ({"": ""}, "tags"),
            ({"x" * 33: ""}, "tags"),
            ({"Team": ""}, "tags"),
            ({"team\n": ""}, "tags"),
            ({"team": "x" * 65}, "tags.team"),
            ({"team": "é" * 33}, "tags.team"),
            ({"team": "a\nb"}, "tags.team"),
        ],
    )
    def test_refuses(self, tags, field):
        refused(field, policy.check_tags, tags)


CATALOGUE = {
    name: CatalogueScope(name=name, risk=risk, kinds=frozenset(kinds))
    for name, risk, kinds in [
        ("ingest:write", Risk.WRITE, Kind),
        ("ingest:read", Risk.READ, Kind),
        ("logs:*", Risk.WRITE, Kind),
        ("webhooks:write", Risk.WRITE, Kind),
        ("metrics:write", Risk.WRITE, Kind),
        ("incidents:read", Risk.READ, [Kind.CONTROL_PLANE, Kind.SERVICE]),
        ("incidents:purge", Risk.ADMIN, [Kind.CONTROL_PLANE]),
    ]
} | {
    f"many:s{n}": CatalogueScope(name=f"many:s{n}", risk=Risk.READ, kinds=frozenset(Kind)) for n in range(65)
}


class TestScopes:
    def test_sorts_without_doubles(self):
        chosen = policy.check_scopes(
            ["incidents:read", "incidents:*", "incidents:read"], Kind.CONTROL_PLANE, CATALOGUE
        )
        assert chosen == ("incidents:*", "incidents:read")

    @pytest.mark.parametrize(
        ("kind", "scope"),
        [
            (Kind.INGESTION, "incidents:read"),
            (Kind.INGESTION, "ingest:read"),
            (Kind.INGESTION, "ingest:*"),
            (Kind.INGESTION, "metrics:*"),
            (Kind.INGESTION, "webhooks:write"),
            (Kind.SERVICE, "incidents:purge"),
            (Kind.SERVICE, "incidents:*"),
            (Kind.CONTROL_PLANE, "unknown:read"),
            (Kind.CONTROL_PLANE, "unknown:*"),
            (Kind.CONTROL_PLANE, "incidents"),
            (Kind.CONTROL_PLANE, "incidents:*d"),
        ],
    )
    def test_refuses_what_a_kind_may_not_carry(self, kind, scope):
        refused("scopes", policy.check_scopes, [scope], kind, CATALOGUE)

    @pytest.mark.parametrize("scope", ["ingest:write", "logs:*", "metrics:write"])
    def test_ingestion_writes(self, scope):
        assert policy.check_scopes([scope], Kind.INGESTION, CATALOGUE) == (scope,)

    def test_carries_1_to_64(self):
        many = [f"many:s{n}" for n in range(65)]
        assert len(policy.check_scopes(many[:64], Kind.SERVICE, CATALOGUE)) == 64
        refused("scopes", policy.check_scopes, many, Kind.SERVICE, CATALOGUE)
        refused("scopes", policy.check_scopes, [], Kind.SERVICE, CATALOGUE)


class TestNetworks:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/90", "::/90"),
            ("::10.0.0.0/120", "::a00:0/120"),
        ],
    )
    def test_canonical(self, text, expected):
        assert policy.normalise_networks([text]) == (expected,)
        assert policy.normalise_networks([expected]) == (expected,)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "010.0.0.1",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/0.0.0.255",
            "10.0.0.0/-1",
            "fe80::1%eth0",
            "fe80::%1/64",
            "10.0.0.1\n",
            "10.0.0.1\0",
            "\u0661.1.1.1",
            "10.0.0.1/",
            "/8",
            "10.0.0.0/8/8",
            "167772160",
            " 10.0.0.1",
            "1.2.3.4/ 8",
            "::ffff:10.0.0.0/95",
        ],
    )
    def test_refuses(self, text):
        refused("allowed_ips[1]", policy.normalise_networks, ["10.0.0.1", text])

    def test_refuses_the_huge(self):
        refused("allowed_ips[0]", policy.normalise_networks, ["1" * 10_000_000])

    def test_host_bits_are_explained(self):
        error = refused("allowed_ips[0]", policy.normalise_networks, ["10.1.2.3/8"])
        assert "write 10.0.0.0/8" in error.detail

    def test_at_most_64(self):
        many = [f"10.0.0.{n}" for n in range(65)]
        assert len(policy.normalise_networks(many[:64])) == 64
        refused("allowed_ips", policy.normalise_networks, many)

    def test_doubles_are_one(self):
        assert policy.normalise_networks(["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1/32"]) == ("10.0.0.1/32",)


class TestAddress:
    @pytest.mark.parametrize(
        ("networks", "address", "expected"),
        [
            ((), None, True),
            ((), "10.0.0.1", True),
            (("0.0.0.0/0",), None, False),
            (("0.0.0.0/0", "::/0"), "", False),
            (("0.0.0.0/0", "::/0"), "nonsense", False),
            (("0.0.0.0/0", "::/0"), "\ud800", False),
            (("10.0.0.0/8",), "10.255.0.1", True),
            (("10.0.0.0/8",), "11.0.0.1", False),
            (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
            (("10.0.0.0/8",), "::ffff:11.0.0.1", False),
            (("10.0.0.0/8",), "::10.0.0.1", False),
            (("::/0",), "10.0.0.1", False),
            (("::/0",), "::ffff:10.0.0.1", False),
            (("0.0.0.0/0",), "2001:db8::1", False),
            (("192.0.2.0/24", "2001:db8::/32"), "2001:db8:1::5", True),
        ],
    )
    def test_allowed(self, networks, address, expected):
        assert policy.address_allowed(networks, address) is expected
        assert policy.address_allowed(list(networks), address) is expected


FOURS = st.tuples(st.integers(0, 63), st.integers(26, 32)).map(
    lambda pair: str(ip_network((int(IPv4Address("10.0.0.0")) + pair[0], pair[1]), strict=False))
)


class TestWithin:
    @pytest.mark.parametrize(
        ("child", "parent", "expected"),
        [
            ((), (), True),
            (("10.0.0.0/8",), (), True),
            ((), ("0.0.0.0/0", "::/0"), False),
            (("10.1.0.0/16",), ("10.0.0.0/8",), True),
            (("10.0.0.0/8",), ("10.1.0.0/16",), False),
            (("10.0.0.0/24",), ("10.0.0.0/25", "10.0.0.128/25"), True),
            (("10.0.0.0/24", "11.0.0.0/24"), ("10.0.0.0/8",), False),
            (("2001:db8::/48",), ("0.0.0.0/0",), False),
            (("10.0.0.0/8",), ("::/0",), False),
            (("2001:db8::/48",), ("10.0.0.0/8", "2001:db8::/32"), True),
        ],
    )
    def test_cases(self, child, parent, expected):
        assert policy.networks_within(child, parent) is expected

    @bounded
    @given(st.lists(FOURS, max_size=3).map(tuple), st.lists(FOURS, max_size=4).map(tuple))
    def test_is_what_the_addresses_say(self, child, parent):
        sample = ["11.0.0.1", *(f"10.0.0.{n}" for n in range(64))]
        let_in = [address for address in sample if policy.address_allowed(child, address)]
        assert policy.networks_within(child, parent) is all(
            policy.address_allowed(parent, address) for address in let_in
        )


class TestExpiry:
    RULE = DEFAULTS[Kind.CONTROL_PLANE]
    FOREVER = DEFAULTS[Kind.INGESTION]

    def test_defaults_are_the_spec(self):
        assert [(rule.default_days, rule.max_days, rule.may_never) for rule in DEFAULTS.values()] == [
            (90, 365, True),
            (90, 365, False),
            (7, 30, False),
        ]

    def test_absent_takes_the_default(self):
        assert policy.expires_at(self.RULE, ABSENT, NOW) == NOW + 90 * DAY
        assert policy.expires_at(self.FOREVER, ABSENT, NOW) == NOW + 90 * DAY

    def test_never_only_where_allowed(self):
        assert policy.expires_at(self.FOREVER, None, NOW) is None
        refused("expires_at", policy.expires_at, self.RULE, None, NOW)

    @pytest.mark.parametrize("at", [NOW + timedelta(microseconds=1), NOW + 365 * DAY])
    def test_up_to_the_maximum(self, at):
        assert policy.expires_at(self.RULE, at, NOW) == at

    @pytest.mark.parametrize(
        "at",
        [
            NOW,
            NOW - DAY,
            NOW + 365 * DAY + timedelta(microseconds=1),
            (NOW + DAY).replace(tzinfo=None),
            datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
        ],
    )
    def test_refuses(self, at):
        refused("expires_at", policy.expires_at, self.RULE, at, NOW)

    def test_is_in_utc(self):
        at = datetime(2026, 4, 1, 3, tzinfo=timezone(timedelta(hours=3)))
        assert policy.expires_at(self.RULE, at, NOW).isoformat() == "2026-04-01T00:00:00+00:00"

    @pytest.mark.parametrize("days", [0, -1, 366, 10**12])
    def test_days_are_bounded(self, days):
        refused("expires_in_days", policy.after_days, days, NOW)
        refused("rotation_interval_days", policy.check_interval, days)

    def test_days(self):
        assert policy.after_days(1, NOW) == NOW + DAY
        assert policy.check_interval(365) == 365
        assert policy.check_interval(None) is None

    def test_an_organization_may_only_be_stricter(self):
        stricter = ExpiryRule(default_days=30, max_days=30, may_never=False)
        assert policy.check_rule(Kind.CONTROL_PLANE, stricter) == stricter
        assert policy.check_rule(Kind.INGESTION, self.FOREVER) == self.FOREVER

    def test_every_fault_of_a_rule_is_named(self):
        rule = ExpiryRule(default_days=400, max_days=366, may_never=True)
        with pytest.raises(Invalid) as caught:
            policy.check_rule(Kind.CONTROL_PLANE, rule)
        assert [error.field for error in caught.value.errors] == ["max_days", "default_days", "may_never"]


RISKS = {
    "a:read": Risk.READ,
    "a:write": Risk.WRITE,
    "a:purge": Risk.ADMIN,
    "b:read": Risk.READ,
    "keys:write": Risk.WRITE,
    "keys:breakglass": Risk.ADMIN,
}
PATH = ("prj_root", "prj_child")


def key_bounds(**changes):
    return Bounds.of_key(
        **{
            "scopes": ("a:*", "keys:write"),
            "project_id": "prj_child",
            "mode": Mode.LIVE,
            "networks": ("10.0.0.0/8",),
            "expires_at": NOW + 10 * DAY,
            "limit": None,
        }
        | changes
    )


def give(creator, *scopes, path=PATH, mode=Mode.LIVE):
    policy.refuse_excess(creator, scopes=scopes, risks=RISKS, project_path=path, mode=mode)


class TestGrants:
    @pytest.mark.parametrize(
        ("role", "scope", "may"),
        [
            (Role.OWNER, "a:purge", True),
            (Role.ADMIN, "a:*", True),
            (Role.DEVELOPER, "a:write", True),
            (Role.DEVELOPER, "a:purge", False),
            (Role.DEVELOPER, "a:*", False),
            (Role.DEVELOPER, "b:*", False),
            (Role.DEVELOPER, "b:unknown", False),
            (Role.VIEWER, "a:read", False),
            (Role.AUDITOR, "a:read", False),
            (None, "a:read", False),
            (Role.ADMIN, "keys:breakglass", False),
            (Role.OWNER, "keys:breakglass", False),
            (Role.OWNER, "keys:*", False),
        ],
    )
    def test_a_person_grants_by_risk(self, role, scope, may):
        bounds = Bounds.of_person(grantable(role))
        if may:
            give(bounds, "b:read", scope)
        else:
            refused("scopes", give, bounds, scope, error=ExceedsGrant)

    def test_break_glass_needs_a_stepped_up_owner(self):
        give(Bounds.of_person(EVERY_RISK, may_break_glass=True), "keys:*", "keys:breakglass")

    def test_a_key_never_grants_break_glass(self):
        holder = key_bounds(scopes=("keys:*", "keys:breakglass"))
        refused("scopes", give, holder, "keys:breakglass", error=ExceedsGrant)
        refused("scopes", give, holder, "keys:*", error=ExceedsGrant)
        give(holder, "keys:write")

    def test_a_key_grants_what_it_holds(self):
        give(key_bounds(), "a:read", "a:*", "keys:write")
        error = refused("scopes", give, key_bounds(), "a:read", "b:read", error=ExceedsGrant)
        assert "b:read" in error.detail
        assert "a:read" not in error.detail

    def test_a_key_that_holds_all_of_today_does_not_hold_the_wildcard(self):
        holder = key_bounds(scopes=("a:read", "a:write", "a:purge"))
        refused("scopes", give, holder, "a:*", error=ExceedsGrant)

    def test_a_key_reaches_its_project_and_below(self):
        give(key_bounds(), "a:read", path=("prj_root", "prj_child", "prj_grandchild"))
        for path in (("prj_root",), ("prj_root", "prj_sibling"), ()):
            refused("project", give, key_bounds(), "a:read", path=path, error=ExceedsGrant)

    def test_the_operators_key_reaches_customers(self):
        give(key_bounds(project_id=None), "a:read", path=("prj_customer",))

    @pytest.mark.parametrize(("own", "other"), [(Mode.LIVE, Mode.TEST), (Mode.TEST, Mode.LIVE)])
    def test_a_key_stays_in_its_mode(self, own, other):
        give(key_bounds(mode=own), "a:read", mode=own)
        refused("environment", give, key_bounds(mode=own), "a:read", mode=other, error=ExceedsGrant)

    def test_networks(self):
        person = Bounds.of_person(EVERY_RISK)
        assert policy.grant_networks(person, None) == ()
        assert policy.grant_networks(person, ("0.0.0.0/0",)) == ("0.0.0.0/0",)
        assert policy.grant_networks(key_bounds(), None) == ("10.0.0.0/8",)
        assert policy.grant_networks(key_bounds(), ("10.1.0.0/16",)) == ("10.1.0.0/16",)
        for beyond in ((), ("0.0.0.0/0",), ("10.0.0.0/8", "::/0")):
            refused("allowed_ips", policy.grant_networks, key_bounds(), beyond, error=ExceedsGrant)

    def test_expiry(self):
        rule = DEFAULTS[Kind.INGESTION]
        person = Bounds.of_person(EVERY_RISK)
        assert policy.grant_expiry(person, rule, ABSENT, NOW) == NOW + 90 * DAY
        assert policy.grant_expiry(person, rule, None, NOW) is None
        assert policy.grant_expiry(key_bounds(), rule, ABSENT, NOW) == NOW + 10 * DAY
        assert policy.grant_expiry(key_bounds(), rule, NOW + 10 * DAY, NOW) == NOW + 10 * DAY
        assert policy.grant_expiry(key_bounds(expires_at=None), rule, None, NOW) is None
        for beyond in (None, NOW + 11 * DAY):
            refused("expires_at", policy.grant_expiry, key_bounds(), rule, beyond, NOW, error=ExceedsGrant)
        refused("expires_at", policy.grant_expiry, key_bounds(), rule, NOW - DAY, NOW)

    def test_a_short_default_is_not_stretched(self):
        rule = DEFAULTS[Kind.SERVICE]
        assert policy.grant_expiry(key_bounds(), rule, ABSENT, NOW) == NOW + 7 * DAY


PLAN = RateLimit(1000, 60)
SMALL = RateLimit(100, 60)
GOLD = TierLimit("gold", RateLimit(500, 60))
METERED = TierLimit("metered", RateLimit(1000, 60), 10_000)
some_limit = st.none() | st.builds(RateLimit, st.integers(0, 9), st.integers(1, 4))
some_given = some_limit | st.builds(
    TierLimit, st.just("tier"), some_limit.filter(bool), st.none() | st.integers(0, 9)
)


class TestLimits:
    person = Bounds.of_person(EVERY_RISK)

    def give(self, creator, requested, plan=PLAN):
        return policy.grant_limit(creator, requested, plan)

    def test_which_counts(self):
        assert policy.effective_limit(SMALL, GOLD.rate_limit, PLAN) == (SMALL, Source.KEY)
        assert policy.effective_limit(None, GOLD.rate_limit, PLAN) == (GOLD.rate_limit, Source.TIER)
        assert policy.effective_limit(None, None, PLAN) == (PLAN, Source.PLAN)
        assert policy.effective_limit(None, None, None) == (None, None)
        assert policy.effective_limit(RateLimit(0, 1), None, PLAN) == (RateLimit(0, 1), Source.KEY)

    @pytest.mark.parametrize("requested", [ABSENT, None, SMALL, PLAN, GOLD, METERED, RateLimit(0, 60)])
    def test_a_person_gives_what_the_plan_has(self, requested):
        assert self.give(self.person, requested) == (None if requested is ABSENT else requested)

    @pytest.mark.parametrize(
        "requested", [RateLimit(1001, 60), RateLimit(1, 59), TierLimit("big", RateLimit(1001, 3600))]
    )
    def test_nobody_gives_more_than_the_plan_has(self, requested):
        for creator in (self.person, key_bounds()):
            refused("rate_limit", self.give, creator, requested, error=ExceedsGrant)
        assert self.give(self.person, requested, None) == requested

    def test_the_operator_gives_any(self):
        for seller in (Bounds.of_person(EVERY_RISK, exceeds_plan=True), key_bounds(project_id=None)):
            assert self.give(seller, RateLimit(10**9, 1)) == RateLimit(10**9, 1)
            assert self.give(seller, ABSENT) is None

    @pytest.mark.parametrize("own", [SMALL, GOLD, METERED])
    def test_a_default_is_cut_to_the_creators_own(self, own):
        assert self.give(key_bounds(limit=own), ABSENT) == own
        assert self.give(key_bounds(limit=own), ABSENT, None) == own
        refused("rate_limit", self.give, key_bounds(limit=own), None, error=ExceedsGrant)

    def test_inheriting_is_fine_where_the_plan_has_no_more(self):
        for requested in (ABSENT, None):
            assert self.give(key_bounds(limit=PLAN), requested) is None
            assert self.give(key_bounds(limit=RateLimit(5000, 60)), requested) is None
            assert self.give(key_bounds(limit=SMALL), requested, RateLimit(50, 60)) is None

    def test_a_limited_key_gives_no_more_than_it_has(self):
        creator = key_bounds(limit=SMALL)
        for requested in (RateLimit(101, 60), GOLD, RateLimit(2, 1)):
            refused("rate_limit", self.give, creator, requested, error=ExceedsGrant)
        assert self.give(creator, RateLimit(100, 3600)) == RateLimit(100, 3600)

    def test_a_quota_is_not_shaken_off(self):
        creator = key_bounds(limit=METERED)
        more = TierLimit("more", RateLimit(10, 60), 10_001)
        for requested in (RateLimit(1, 60), GOLD, more):
            refused("rate_limit", self.give, creator, requested, error=ExceedsGrant)
        less = TierLimit("less", RateLimit(10, 60), 9_999)
        assert self.give(creator, less) == less

    @given(some_given, some_given | st.just(ABSENT), some_limit)
    def test_whatever_is_given_is_within(self, own, requested, plan):
        try:
            given_limit = self.give(key_bounds(limit=own), requested, plan)
        except ExceedsGrant:
            assert requested is not ABSENT
            return
        most = policy.allowance(own, plan)
        assert policy.allowance(given_limit, plan).is_within(most)
        assert requested in (ABSENT, given_limit)

    @pytest.mark.parametrize(
        ("limit", "fields"),
        [
            (RateLimit(-1, 60), ["rate_limit.requests"]),
            (RateLimit(1, 0), ["rate_limit.window_seconds"]),
            (RateLimit(2**31, 2**31), ["rate_limit.requests", "rate_limit.window_seconds"]),
        ],
    )
    def test_bounds_of_figures(self, limit, fields):
        assert policy.check_rate_limit(PLAN) == PLAN
        with pytest.raises(Invalid) as error:
            policy.check_rate_limit(limit)
        assert [single.field for single in error.value.errors] == fields

    def test_what_entries_tell(self):
        found = [policy.told(each) for each in (SMALL, GOLD, TierName("gold"), None)]
        assert found == ["100 in 60 s", "tier gold", "tier gold", "as the plan says"]
