import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import scopes
from keys.errors import Invalid
from keys.scopes import (
    MAX_SCOPES,
    CatalogueScope,
    all_of,
    covers,
    effective,
    holds,
    is_wildcard,
    missing,
    parse_query,
    permits,
    usable,
)
from keys.secret import Kind
from orgs.roles import EVERY_RISK, Risk

bounded = settings(max_examples=25, deadline=None, database=None)

RISKS = {
    "a:read": Risk.READ,
    "a:write": Risk.WRITE,
    "a:purge": Risk.ADMIN,
    "b:read": Risk.READ,
    "b:write": Risk.WRITE,
    "b:*": Risk.WRITE,
    "c:*": Risk.READ,
    "c:purge": Risk.ADMIN,
}
NAMES = st.sampled_from([*RISKS, "a:*", "a:new", "b:new", "d:new", "d:*"])
CHOICES = st.frozensets(NAMES, max_size=6)
LAYERS = st.lists(st.none() | CHOICES, max_size=3)
ALLOWED = st.sampled_from(
    [frozenset(), frozenset({Risk.READ}), frozenset({Risk.READ, Risk.WRITE}), EVERY_RISK]
)
LOW = frozenset({Risk.READ, Risk.WRITE})


def refusal(text):
    with pytest.raises(Invalid) as caught:
        parse_query(text)
    assert caught.value.field == "scopes"
    return caught.value.detail


class TestValidate:
    @pytest.mark.parametrize(
        "text", ["ingest:write", "read:logs", "a:*", "a:b*", "a_1-x:b", "a" * 32 + ":" + "b" * 32]
    )
    def test_takes(self, text):
        assert scopes.validate(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a",
            "a:",
            ":b",
            "*:b",
            "A:b",
            "a:B",
            "1:b",
            "a:b:c",
            "a:b\n",
            " a:b",
            "a:b\0",
            "é:b",
            "a:1",
            "a" * 33 + ":b",
            "a:" + "b" * 33,
            "\ud800:b",
        ],
    )
    def test_refuses(self, text):
        with pytest.raises(Invalid):
            scopes.validate(text)

    def test_refuses_the_huge(self):
        with pytest.raises(Invalid):
            scopes.validate("a:b" * 1_000_000)

    def test_every_reserved_scope_is_one(self):
        assert all(scopes.validate(scope) for scope in scopes.RESERVED)


class TestCovers:
    @pytest.mark.parametrize(
        ("held", "wanted", "expected"),
        [
            ("a:b", "a:b", True),
            ("a:*", "a:b", True),
            ("a:*", "a:*", True),
            ("a:b", "a:*", False),
            ("a:*", "ab:c", False),
            ("ab:*", "a:c", False),
            ("a:b*", "a:bc", False),
            ("a:**", "a:b", False),
            ("a:*b", "a:b", False),
            ("a:b", "a:bc", False),
        ],
    )
    def test_only_a_whole_star_is_a_wildcard(self, held, wanted, expected):
        assert covers(held, wanted) is expected
        assert holds([held], wanted) is expected

    @bounded
    @given(CHOICES, NAMES)
    def test_holds_is_any_cover(self, held, wanted):
        assert holds(held, wanted) is any(covers(one, wanted) for one in held)

    def test_missing_is_sorted_and_without_doubles(self):
        assert missing(["a:*"], ["z:z", "a:b", "b:b", "z:z"]) == ("b:b", "z:z")

    def test_all_actions_known_are_not_the_wildcard(self):
        assert missing([name for name in RISKS if name.startswith("a:")], ["a:*"]) == ("a:*",)


class TestQuery:
    @pytest.mark.parametrize(
        ("text", "held", "expected"),
        [
            ("a:a", "a:a", True),
            ("a:a AND b:b", "a:a", False),
            ("a:a OR b:b", "b:b", True),
            ("a:a OR b:b AND c:c", "a:a", True),
            ("(a:a OR b:b) AND c:c", "a:a", False),
            ("a:a and(b:b oR c:c)", "a:a c:c", True),
            ("((a:a))", "a:a", True),
            ("\ta:a\r\nAND  b:b ", "a:a b:b", True),
            ("a:a AND (b:b OR b:*)", "a:a b:*", True),
            ("b:*", "b:b", False),
        ],
    )
    def test_holds(self, text, held, expected):
        query = parse_query(text)
        assert query.satisfied_by(lambda scope: holds(held.split(), scope)) is expected

    @pytest.mark.parametrize(
        ("text", "character"),
        [
            ("", 1),
            ("   ", 4),
            ("AND", 1),
            ("a:a b:b", 5),
            ("a:a AND", 8),
            ("a:a AND OR b:b", 9),
            ("(a:a", 5),
            ("a:a)", 4),
            ("()", 2),
            ("a:a NOT b:b", 5),
            ("a:a AND b", 9),
            ("a:a\0", 1),
            ("a:a\u00a0AND b:b", 1),
            ("a:a & b:b", 5),
        ],
    )
    def test_says_where_it_breaks(self, text, character):
        assert f"character {character}:" in refusal(text)

    def test_is_bounded_in_length(self):
        assert parse_query("a:a" + " " * 997).scopes == ("a:a",)
        assert "1,000" in refusal("a:a" + " " * 998)

    def test_is_bounded_in_depth(self):
        assert parse_query("(" * 20 + "a:a" + ")" * 20).scopes == ("a:a",)
        assert "deep" in refusal("(" * 21 + "a:a" + ")" * 21)
        assert "deep" in refusal("(" * 1000)

    def test_never_repeats_what_it_was_given(self):
        assert "hunter2" not in refusal("hunter2")

    def test_missing_names_the_alternatives_but_nothing_that_is_met(self):
        query = parse_query("a:a AND (b:b OR c:c) AND (a:a OR d:d)")
        assert query.missing({"a:a"}.__contains__) == ("b:b", "c:c")
        assert query.missing({"a:a", "b:b"}.__contains__) == ()

    def test_list_needs_all(self):
        query = all_of(["b:b", "a:a", "b:b"])
        assert query.scopes == ("a:a", "b:b")
        assert query.missing({"a:a"}.__contains__) == ("b:b",)
        assert all_of([]).satisfied_by(lambda _: False)

    def test_list_is_bounded_and_checked(self):
        assert len(all_of(f"a:x{n}" for n in range(64)).scopes) == 64
        with pytest.raises(Invalid):
            all_of(f"a:x{n}" for n in range(65))
        with pytest.raises(Invalid):
            all_of(["a"])

    @bounded
    @given(st.text(alphabet="ab:*() ANDORandor\0\ud800", max_size=60))
    def test_any_text_is_a_query_or_invalid(self, text):
        try:
            query = parse_query(text)
        except Invalid:
            return
        assert query.satisfied_by(lambda _: True)
        assert not query.satisfied_by(lambda _: False)
        assert query.missing(lambda _: False) == query.scopes

    @bounded
    @given(st.recursive(NAMES, lambda part: st.tuples(part, st.sampled_from(["and", "or"]), part)), CHOICES)
    def test_agrees_with_python(self, tree, held):
        def written(node, quote):
            if isinstance(node, str):
                return quote(node)
            left, operator, right = node
            return f"({written(left, quote)} {operator} {written(right, quote)})"

        text = written(tree, str)
        if len(text) > scopes.MAX_QUERY or "(" * (scopes.MAX_DEPTH + 1) in text:
            return
        query = parse_query(text)
        expected = eval(written(tree, lambda name: str(holds(held, name))))  # noqa: S307
        assert query.satisfied_by(lambda scope: holds(held, scope)) is expected
        assert bool(query.missing(lambda scope: holds(held, scope))) is not expected


class TestPermits:
    def test_projects_intersect(self):
        layers = [None, {"a:*", "b:read"}, {"a:read", "b:*"}]
        assert effective(["a:*", "b:*"], layers, RISKS, EVERY_RISK) == ("a:read", "b:read")

    def test_what_a_project_names_beyond_the_catalogue_counts(self):
        assert effective(["a:*"], [{"a:new", "b:new"}], RISKS, EVERY_RISK) == ("a:new",)

    def test_an_empty_layer_allows_nothing(self):
        assert effective(["a:*", "b:read"], [[]], RISKS, EVERY_RISK) == ()

    def test_the_role_cuts_by_risk(self):
        assert effective(["a:read", "a:write", "a:purge"], [], RISKS, LOW) == ("a:read", "a:write")
        assert effective(["a:read"], [], RISKS, frozenset()) == ()

    def test_a_wildcard_never_carries_past_the_role(self):
        assert effective(["a:*"], [], RISKS, LOW) == ("a:read", "a:write")
        assert not permits("a:*", ["a:*"], [], RISKS, LOW)

    def test_a_scope_of_tomorrow_counts_as_admin(self):
        assert not permits("a:new", ["a:*"], [], RISKS, LOW)
        assert not permits("a:new", ["a:new"], [], RISKS, LOW)
        assert permits("a:new", ["a:*"], [], RISKS, EVERY_RISK)

    def test_a_wildcard_declared_harmless_stays_unless_it_covers_harm(self):
        assert effective(["b:*"], [], RISKS, LOW) == ("b:*",)
        assert effective(["c:*"], [], RISKS, LOW) == ()

    @bounded
    @given(CHOICES, LAYERS, ALLOWED, NAMES)
    def test_the_effective_scopes_and_the_check_agree(self, held, layers, allowed, wanted):
        allows = permits(wanted, held, layers, RISKS, allowed)
        shown = holds(effective(held, layers, RISKS, allowed), wanted)
        assert shown or not allows
        if wanted in RISKS or scopes.is_wildcard(wanted):
            assert shown is allows

    @bounded
    @given(CHOICES, LAYERS, CHOICES, ALLOWED, NAMES)
    def test_one_more_layer_never_widens(self, held, layers, layer, allowed, wanted):
        if permits(wanted, held, [*layers, layer], RISKS, allowed):
            assert permits(wanted, held, layers, RISKS, allowed)
            assert holds(layer, wanted)

    @bounded
    @given(CHOICES, LAYERS, ALLOWED, NAMES)
    def test_a_key_never_gains(self, held, layers, allowed, wanted):
        if permits(wanted, held, layers, RISKS, allowed):
            assert holds(held, wanted)
            assert RISKS.get(wanted, Risk.ADMIN) in allowed


CATALOGUE = {
    name: CatalogueScope(name=name, risk=risk, kinds=frozenset(kinds), is_deprecated=deprecated)
    for name, risk, kinds, deprecated in [
        ("a:read", Risk.READ, Kind, False),
        ("a:old", Risk.READ, Kind, True),
        ("a:write", Risk.WRITE, [Kind.CONTROL_PLANE, Kind.INGESTION], False),
        ("a:purge", Risk.ADMIN, [Kind.CONTROL_PLANE], False),
        ("a:*", Risk.READ, Kind, False),
        ("keys:breakglass", Risk.ADMIN, Kind, False),
    ]
}


class TestUsable:
    """What stays of a key whose owner's role bounds it no more."""

    @bounded
    @given(CHOICES, LAYERS, ALLOWED, NAMES)
    def test_it_is_what_the_role_let_it_do_and_no_more(self, held, layers, allowed, wanted):
        before = permits(wanted, held, layers, RISKS, allowed)
        after = permits(wanted, usable(held, RISKS, allowed), layers, RISKS, EVERY_RISK)
        assert after <= before
        if not is_wildcard(wanted):
            assert after == before

    def test_no_wildcard_survives_a_role_that_may_not_everything(self):
        assert usable(["b:*"], RISKS, LOW) == ["b:read", "b:write"]
        assert usable(["c:*"], RISKS, LOW) == []
        assert usable(["a:*", "b:read"], RISKS, EVERY_RISK) == ["a:*", "b:read"]

    def test_of_too_many_the_named_ones_stay(self):
        many = {f"x:a{number:03}": Risk.READ for number in range(70)}
        found = usable(["x:*", "x:a069", "y:read"], {**many, "y:read": Risk.READ}, LOW)
        assert len(found) == MAX_SCOPES
        assert {"x:a069", "y:read"} < set(found)
        assert found == sorted(found)


class TestPreset:
    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("read-only", Kind.CONTROL_PLANE, ("a:read",)),
            ("write", Kind.CONTROL_PLANE, ("a:read", "a:write")),
            ("admin", Kind.CONTROL_PLANE, ("a:purge", "a:read", "a:write")),
            ("admin", Kind.SERVICE, ("a:read",)),
        ],
    )
    def test_picks_by_risk_and_kind(self, name, kind, expected):
        assert scopes.preset(name, CATALOGUE, kind) == expected

    def test_unknown(self):
        with pytest.raises(Invalid):
            scopes.preset("root", CATALOGUE, Kind.SERVICE)
