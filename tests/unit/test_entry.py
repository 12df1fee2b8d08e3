import base64
import json
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import entry
from audit.acts import Act
from audit.entry import ParsedEntry
from audit.errors import ChainBroken, EntryInvalid
from tests.vectors import load

LEDGER = load("ledger")
LEAVES = [leaf.encode() for leaf in LEDGER["leaves"]]
HASHES = [bytes.fromhex(text) for text in LEDGER["leaf_hashes"]]
ORIGIN = LEDGER["origin"]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMITMENT = LEDGER["commit_email"]


def build(**changed):
    members = {
        "log": ORIGIN,
        "i": 7,
        "t": AT,
        "prev": bytes(32),
        "act": Act.KEY_CREATED,
        "actor": "usr_01",
        "data": {"key": "key_01"},
        "sealed": None,
    }
    return entry.build(**(members | changed))


def rewritten(**changed):
    """The canonical bytes of a good entry with members set, or left out where the value is Ellipsis."""
    members = json.loads(LEAVES[1]) | changed
    return rfc8785.dumps({name: value for name, value in members.items() if value is not ...})


def refuses(path, call, *args, **kwargs):
    with pytest.raises(EntryInvalid) as caught:
        call(*args, **kwargs)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


MEMBERS = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
LEVEL4 = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(MEMBERS, SCALARS, max_size=3)
LEVEL3 = SCALARS | st.lists(LEVEL4, max_size=3) | st.dictionaries(MEMBERS, LEVEL4, max_size=3)
DATA = st.dictionaries(MEMBERS, LEVEL3, max_size=4)
COMMITMENTS = st.binary(min_size=32, max_size=32).map(lambda digest: base64.b64encode(digest).decode())
PROPERTY = settings(max_examples=40, deadline=None)


class TestKnownAnswers:
    @pytest.mark.parametrize("index", range(5))
    def test_leaves_are_rebuilt_byte_for_byte(self, index):
        said = json.loads(LEAVES[index])
        leaf = entry.build(
            log=entry.origin("keys.example.com", "org_test0001"),
            i=index,
            t=AT + timedelta(seconds=index),
            prev=HASHES[index - 1] if index else entry.genesis_prev(),
            act=said["act"],
            actor=said["actor"],
            data=said["data"],
            sealed=said.get("sealed"),
        )
        assert leaf == LEAVES[index]

    def test_leaf_hashes(self):
        assert [entry.leaf_hash(leaf) for leaf in LEAVES] == HASHES

    def test_the_chain_holds(self):
        previous, previous_hash = None, entry.genesis_prev()
        for leaf in LEAVES:
            this = entry.parse(leaf)
            entry.check_successor(previous, previous_hash, this)
            previous, previous_hash = this, entry.leaf_hash(leaf)
        assert previous.i == 4

    def test_members_are_read(self):
        assert entry.parse(LEAVES[1]) == ParsedEntry(
            log=ORIGIN,
            i=1,
            t=AT + timedelta(seconds=1),
            prev=HASHES[0],
            act="key.created",
            actor="usr_01",
            data={"key": "key_01", "name": "CI € 🔑", "scopes": ["data:read", "webhooks:write"]},
            sealed={"email": COMMITMENT},
        )

    def test_the_commitment_in_entry_1_opens(self):
        # The known answers hold the salt and the commitment; the address is the one that fits them.
        salt = bytes.fromhex(LEDGER["salt"])
        assert entry.commit("email", "ada@example.com", salt) == LEDGER["commit_email"]


class TestBuild:
    def test_the_longest_depth(self):
        entry.parse(build(data={"before": {"tags": ["a=b"]}, "after": {"tags": []}}))

    @pytest.mark.parametrize(
        ("data", "path"),
        [
            ({"a": {"b": {"c": {}}}}, "data.a.b.c"),
            ({"a": {"b": [[]]}}, "data.a.b[0]"),
            ({"a": [[{}]]}, "data.a[0][0]"),
            ({"a": 1.0}, "data.a"),
            ({"a": float("nan")}, "data.a"),
            ({"a": [1, 2**53]}, "data.a[1]"),
            ({"a": -(2**53)}, "data.a"),
            ({"a": "\0"}, "data.a"),
            ({"a": {"b": "\ud800"}}, "data.a.b"),
            ({"a": "é" * 1025}, "data.a"),
            ({"a": b"bytes"}, "data.a"),
            ({"a": {1}}, "data.a"),
            ({"a": AT}, "data.a"),
            ({"A": 1}, "data.(name)"),
            ({"": 1}, "data.(name)"),
            ({"_a": 1}, "data.(name)"),
            ({"a-b": 1}, "data.(name)"),
            ({"a\n": 1}, "data.(name)"),
            ({"é": 1}, "data.(name)"),
            ({"a" * 33: 1}, "data.(name)"),
            ({1: 1}, "data.(name)"),
            ({"a": [{"B": 1}]}, "data.a[0].(name)"),
        ],
    )
    def test_refuses_data(self, data, path):
        refuses(path, build, data=data)

    @pytest.mark.parametrize(
        ("path", "changed"),
        [
            ("i", {"i": -1}),
            ("i", {"i": True}),
            ("i", {"i": 2**53}),
            ("i", {"i": "7"}),
            ("t", {"t": datetime(2026, 1, 2)}),  # noqa: DTZ001 - that is the point
            ("t", {"t": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}),
            ("prev", {"prev": bytes(31)}),
            ("prev", {"prev": bytes(33)}),
            ("log", {"log": "keys.example.com"}),
            ("log", {"log": ORIGIN + "\n"}),
            ("log", {"log": ORIGIN + "/1"}),
            ("act", {"act": "created"}),
            ("act", {"act": "key.created\n"}),
            ("actor", {"actor": "alice@example.com"}),
            ("actor", {"actor": ""}),
            ("actor", {"actor": "usr_01\n"}),
            ("actor", {"actor": "a" * 65}),
            ("sealed.email", {"sealed": {"email": "alice@example.com"}}),
            ("sealed.email", {"sealed": {"email": COMMITMENT[:-4]}}),
            ("sealed.email", {"sealed": {"email": 1}}),
            ("sealed.(name)", {"sealed": {"E-Mail": COMMITMENT}}),
        ],
    )
    def test_refuses_a_member(self, path, changed):
        refuses(path, build, **changed)

    def test_a_refusal_does_not_repeat_what_it_refused(self):
        for data in ({"note": "s3cret\0"}, {"S3CRET": 1}, {"a": 10**20}):
            with pytest.raises(EntryInvalid) as caught:
                build(data=data)
            assert "s3cret" not in str(caught.value).lower()
            assert "0000" not in str(caught.value).replace("U+0000", "")

    def test_bounds_are_inclusive(self):
        data = {"a" * 32: "é" * 1024, "most": 2**53 - 1, "least": -(2**53) + 1}
        assert entry.parse(build(data=data, i=2**53 - 1)).data == data

    def test_the_length_bound_is_exact(self):
        full = {f"m{n}": "x" * 2048 for n in range(7)}
        spare = entry.MAX_LEAF_BYTES - len(build(data=full | {"rest": ""}))
        assert len(build(data=full | {"rest": "x" * spare})) == entry.MAX_LEAF_BYTES
        refuses("entry", build, data=full | {"rest": "x" * (spare + 1)})

    def test_an_array_that_holds_itself_is_refused(self):
        endless = []
        endless.append(endless)
        refuses("data.a[0][0]", build, data={"a": endless})

    def test_booleans_stay_booleans(self):
        assert b'"data":{"no":false,"none":null,"one":1,"yes":true}' in build(
            data={"yes": True, "no": False, "one": 1, "none": None}
        )

    def test_nothing_sealed_leaves_the_member_out(self):
        assert build(sealed={}) == build(sealed=None)
        assert b"sealed" not in build()

    def test_no_normalisation(self):
        assert build(data={"name": "e\u0301"}) != build(data={"name": "\u00e9"})

    def test_a_line_feed_is_never_in_a_leaf(self):
        assert b"\n" not in build(data={"note": "one\ntwo\u2028three"})

    @given(DATA, st.dictionaries(MEMBERS, COMMITMENTS, max_size=3), st.datetimes(timezones=st.just(UTC)))
    @PROPERTY
    def test_round_trip(self, data, sealed, t):
        leaf = build(data=data, sealed=sealed, t=t)
        read = entry.parse(leaf)
        assert (read.data, read.sealed, read.t) == (
            data,
            sealed,
            t.replace(microsecond=t.microsecond // 1000 * 1000),
        )
        rebuilt = {name: getattr(read, name) for name in ParsedEntry.__slots__}
        assert entry.build(**rebuilt) == leaf

    @given(DATA)
    @PROPERTY
    def test_other_serializers_agree(self, data):
        leaf = build(data=data)
        said = json.loads(leaf)
        assert rfc8785.dumps(said) == leaf
        assert json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == leaf


class TestParse:
    @pytest.mark.parametrize(
        "leaf",
        [
            b"",
            b"null",
            b"[]",
            b'"entry"',
            b"{}",
            b"\xef\xbb\xbf" + LEAVES[0],
            LEAVES[0] + b"\n",
            b" " + LEAVES[0],
            LEAVES[0] + LEAVES[0],
            LEAVES[0].decode().encode("utf-16"),
            LEAVES[0].replace(b'"i":0', b'"i":-0'),
            LEAVES[0].replace(b'"i":0', b'"i":' + b"9" * 5000),
            LEAVES[0].replace(b'"i":0', b'"i":0,"i":0'),
            LEAVES[0].replace(b"ledger.opened", b"ledger\\u002eopened"),
            LEAVES[0].replace(b"},", b"}, "),
            LEAVES[1].replace("€".encode(), b"\\u20ac"),
            LEAVES[1].replace("🔑".encode(), b"\\ud83d\\udd11"),
            LEAVES[1].replace("€".encode(), b"\xe2\x82"),
            LEAVES[1].replace("€".encode(), b"\xed\xa0\x80"),
            LEAVES[1].replace(b'"key":"key_01"', b'"key":"key_01","key":"key_02"'),
            LEAVES[1].replace(b'{"key"', b'{"zzz":1,"key"'),
            b"[" * 16384,
            b'{"a":' * 3000,
            b" " * 16385,
        ],
        ids=range(24),
    )
    def test_refuses_as_a_whole(self, leaf):
        refuses("entry", entry.parse, leaf)

    @pytest.mark.parametrize(
        ("path", "changed"),
        [
            ("entry", {"extra": 1}),
            *(("entry", {name: ...}) for name in ("v", "log", "i", "t", "prev", "act", "actor", "data")),
            ("v", {"v": 2}),
            ("v", {"v": True}),
            ("v", {"v": "1"}),
            ("i", {"i": -1}),
            ("i", {"i": False}),
            ("i", {"i": None}),
            ("log", {"log": None}),
            ("log", {"log": "https://keys.example.com/ledger/org_a"}),
            ("t", {"t": "2026-01-02T03:04:05Z"}),
            ("t", {"t": "2026-01-02T03:04:05.0000Z"}),
            ("t", {"t": "2026-01-02T03:04:05.000+00:00"}),
            ("t", {"t": "2026-01-02 03:04:05.000Z"}),
            ("t", {"t": "2026-02-30T03:04:05.000Z"}),
            ("t", {"t": "2026-01-02T03:04:60.000Z"}),
            ("t", {"t": "2026-01-02T24:00:00.000Z"}),
            ("t", {"t": "2026-01-02T03:04:05.00\u0661Z"}),
            ("t", {"t": 1767323045}),
            ("prev", {"prev": None}),
            ("prev", {"prev": ""}),
            ("prev", {"prev": LEDGER["leaf_hashes"][0]}),
            ("prev", {"prev": "6M3N5YAKzfg/mvd+QTA/TDMMutd/g0AOqLs2duH7DMd="}),
            ("prev", {"prev": "6M3N5YAKzfg_mvd-QTA_TDMMutd_g0AOqLs2duH7DMc="}),
            ("prev", {"prev": "é"}),
            ("act", {"act": None}),
            ("act", {"act": "key"}),
            ("actor", {"actor": 1}),
            ("actor", {"actor": "alice@example.com"}),
            ("data", {"data": []}),
            ("data", {"data": None}),
            ("data.a", {"data": {"a": "\0"}}),
            ("data.a", {"data": {"a": 1.5}}),
            ("data.a.b.c", {"data": {"a": {"b": {"c": []}}}}),
            ("data.(name)", {"data": {"A": 1}}),
            ("data.a", {"data": {"a": "x" * 2049}}),
            ("sealed", {"sealed": {}}),
            ("sealed", {"sealed": None}),
            ("sealed", {"sealed": [COMMITMENT]}),
            ("sealed.email", {"sealed": {"email": None}}),
        ],
    )
    def test_refuses_a_member(self, path, changed):
        refuses(path, entry.parse, rewritten(**changed))

    @pytest.mark.parametrize("number", [b"1.0", b"1e0", b"1E400", b"-0.0", b"NaN", b"-Infinity"])
    def test_a_float_is_refused_however_it_is_written(self, number):
        refuses("v", entry.parse, LEAVES[0].replace(b'"v":1', b'"v":' + number))
        refuses("i", entry.parse, LEAVES[0].replace(b'"i":0', b'"i":' + number))

    @pytest.mark.parametrize("first", [b"1", b"1.5", b'"\\u0000"', b"{}", b'"key_01"'])
    def test_two_members_of_one_name_are_refused_whatever_the_first_holds(self, first):
        refuses("entry", entry.parse, LEAVES[1].replace(b'{"key"', b'{"key":' + first + b',"key"'))

    def test_a_surrogate_by_escape_is_refused(self):
        refuses("data.name", entry.parse, LEAVES[1].replace("🔑".encode(), b"\\ud83d"))
        refuses("data.(name)", entry.parse, LEAVES[1].replace(b'"name"', b'"\\udd11"'))

    def test_the_helper_makes_good_entries(self):
        assert entry.parse(rewritten()) == entry.parse(LEAVES[1])
        assert entry.parse(rewritten(sealed=...)).sealed == {}

    def test_any_act_of_the_form_is_read(self):
        assert entry.parse(rewritten(act="moon.rose.over_it")).act == "moon.rose.over_it"

    @pytest.mark.parametrize("bit", [0x01, 0x02, 0x20, 0x80])
    def test_no_changed_byte_leaves_the_entry_as_it_was(self, bit):
        original = entry.parse(LEAVES[1])
        for place in range(len(LEAVES[1])):
            changed = bytearray(LEAVES[1])
            changed[place] ^= bit
            try:
                read = entry.parse(bytes(changed))
            except EntryInvalid:
                continue
            assert read != original
            assert entry.leaf_hash(bytes(changed)) != HASHES[1]

    @given(st.integers(0, len(LEAVES[1])), st.integers(0, 6), st.binary(max_size=6))
    @PROPERTY
    def test_no_splice_is_another_spelling(self, place, removed, inserted):
        spliced = LEAVES[1][:place] + inserted + LEAVES[1][place + removed :]
        try:
            read = entry.parse(spliced)
        except EntryInvalid:
            return
        assert (read == entry.parse(LEAVES[1])) == (spliced == LEAVES[1])

    @given(st.binary(max_size=60) | st.text(string.printable).map(str.encode))
    @PROPERTY
    def test_nothing_else_is_raised(self, noise):
        with pytest.raises(EntryInvalid):
            entry.parse(noise)


class TestChain:
    FIRST, SECOND = (entry.parse(leaf) for leaf in LEAVES[:2])

    def broken(self, previous, previous_hash, **changed):
        this = entry.parse(rewritten(**changed))
        with pytest.raises(ChainBroken) as caught:
            entry.check_successor(previous, previous_hash, this)
        return caught.value.index, caught.value.what

    def test_an_index_is_skipped_or_repeated(self):
        assert self.broken(self.FIRST, HASHES[0], i=2) == (1, "i")
        assert self.broken(self.FIRST, HASHES[0], i=0) == (1, "i")

    def test_the_log_does_not_start_at_0(self):
        assert self.broken(None, entry.genesis_prev()) == (0, "i")

    def test_the_first_has_a_hash_before_it(self):
        assert self.broken(None, HASHES[0], i=0) == (0, "prev")

    def test_the_hash_is_another(self):
        assert self.broken(self.FIRST, HASHES[1]) == (1, "prev")

    def test_the_log_is_another(self):
        assert self.broken(self.FIRST, HASHES[0], log=ORIGIN + "/2") == (1, "log")

    def test_time_runs_back(self):
        assert self.broken(self.FIRST, HASHES[0], t="2026-01-02T03:04:04.999Z") == (1, "t")

    def test_time_stands_still(self):
        entry.check_successor(self.FIRST, HASHES[0], entry.parse(rewritten(t="2026-01-02T03:04:05.000Z")))


class TestOrigin:
    @pytest.mark.parametrize(
        ("parts", "text"),
        [
            (("keys.example.com", "org_test0001"), ORIGIN),
            (("localhost", "org_a", 2), "localhost/ledger/org_a/2"),
            (("127.0.0.1", "org_a", 10), "127.0.0.1/ledger/org_a/10"),
        ],
    )
    def test_is_written(self, parts, text):
        assert entry.origin(*parts) == text
        assert entry.is_origin(text)

    @pytest.mark.parametrize(
        "parts",
        [
            ("", "org_a"),
            ("keys.example.com:8000", "org_a"),
            ("Keys.example.com", "org_a"),
            ("https://keys.example.com", "org_a"),
            ("keys.example.com/ledger/org_b", "org_a"),
            ("keys..example.com", "org_a"),
            ("keys.example.com", ""),
            ("keys.example.com", "usr_a"),
            ("keys.example.com", "org_a/2"),
            ("keys.example.com", "org_a\n"),
            ("keys.example.com", "org_a", 0),
            ("keys.example.com", "org_a", -2),
            ("x" * 200, "org_a"),
        ],
    )
    def test_refuses(self, parts):
        refuses("log", entry.origin, *parts)

    def test_two_hundred_bytes_are_the_most(self):
        rest = len("/ledger/org_a")
        assert len(entry.origin("x" * (200 - rest), "org_a")) == 200
        refuses("log", entry.origin, "x" * (201 - rest), "org_a")


class TestTime:
    @pytest.mark.parametrize(
        ("t", "text"),
        [
            (AT, "2026-01-02T03:04:05.000Z"),
            (AT.replace(microsecond=999_999), "2026-01-02T03:04:05.999Z"),
            (AT.astimezone(timezone(timedelta(hours=14))), "2026-01-02T03:04:05.000Z"),
            (datetime(33, 1, 2, tzinfo=UTC), "0033-01-02T00:00:00.000Z"),
        ],
    )
    def test_is_written(self, t, text):
        assert entry.format_time(t) == text


class TestCommit:
    SALT = bytes.fromhex(LEDGER["salt"])

    def test_field_value_and_salt_all_count(self):
        said = {
            entry.commit(field, value, salt)
            for field in ("email", "name")
            for value in ("", "a", "b")
            for salt in (self.SALT, bytes(32))
        }
        assert len(said) == 12
        assert all(len(commitment) == 44 for commitment in said)

    def test_it_can_be_sealed(self):
        sealed = {"note": entry.commit("note", "long " * 1000, self.SALT)}
        assert entry.parse(build(sealed=sealed)).sealed == sealed

    @pytest.mark.parametrize(
        ("path", "field", "value", "salt"),
        [
            ("sealed.email", "email", "a", bytes(31)),
            ("sealed.email", "email", "a", b""),
            ("sealed.email", "email", "a\0", bytes(32)),
            ("sealed.email", "email", "\udcff", bytes(32)),
            ("sealed.(name)", "e\0mail", "a", bytes(32)),
            ("sealed.(name)", "", "a", bytes(32)),
        ],
    )
    def test_refuses(self, path, field, value, salt):
        refuses(path, entry.commit, field, value, salt)

    def test_salts_are_new(self):
        salts = {entry.new_salt() for _ in range(20)}
        assert len(salts) == 20
        assert {len(salt) for salt in salts} == {32}


class TestClip:
    @pytest.mark.parametrize(
        ("text", "most", "clipped"),
        [
            ("", 5, ""),
            ("abc", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc"),
            ("aé", 2, "a"),
            ("🔑", 3, ""),
            ("🔑", 4, "🔑"),
            ("a\0b", 9, "a\ufffdb"),
            ("\ud83d\udd11", 9, "\ufffd\ufffd"),
            ("ab\0", 4, "ab"),
        ],
    )
    def test_cuts(self, text, most, clipped):
        assert entry.clip(text, most) == clipped

    @given(st.text(st.characters(), max_size=30), st.integers(0, 40))
    @PROPERTY
    def test_the_result_fits_and_can_be_sealed(self, text, most):
        clipped = entry.clip(text, most)
        assert len(clipped.encode()) <= most
        entry.commit("user_agent", clipped, bytes(32))
        assert entry.UNSTORABLE.sub("\ufffd", text).startswith(clipped)
