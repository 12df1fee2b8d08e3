"""Bundles that mean harm: one line, an exit code, no traceback, little memory, nothing on the disk."""

import base64
import io
import json
import random
import stat
import struct
import sys
import tracemalloc
import zipfile

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from keystead.cli import main
from keystead.ledger import bundle as parts
from keystead.ledger import entry as rules
from keystead.ledger import erased
from keystead.ledger.entry import NotCanonical, canonical, read

from audit import entry
from audit.errors import EntryInvalid
from tests import offline
from tests.offline import Log, lines
from tests.unit.test_entry import DATA, rewritten

TAMPERED, MALFORMED, UNTRUSTED = 1, 2, 3
MEGABYTE = 1 << 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.zip"


@pytest.fixture
def log():
    return Log.of(5)


@pytest.fixture
def run(capsys):
    """Check a bundle with the command; what is said to a person is one line, and can do nothing to a terminal."""

    def run(path, *arguments):
        before = path.read_bytes()
        code = main(["ledger", "verify", str(path), *arguments])
        said = capsys.readouterr()
        if code:
            assert said.err.startswith("keystead: ")
            assert said.err.count("\n") == 1
            assert not said.out or "--json" in arguments
        assert not {"\x1b", "\x07", "\u202e"} & set(said.err + said.out)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
        return code, said.err + said.out

    return run


def zipped(path, *members, compression=zipfile.ZIP_DEFLATED):
    """Write members as they are given: (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in members:
            made.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
class TestZips:
    @pytest.mark.parametrize(
        "content", [b"", b"PK", b"garbage" * 100, b"PK\x03\x04" + bytes(100), b"PK\x05\x06" + bytes(18)]
    )
    def test_no_zip(self, run, path, content):
        path.write_bytes(content)
        assert run(path)[0] == MALFORMED

    def test_a_folder_or_nothing(self, tmp_path, capsys):
        for path in (tmp_path, tmp_path / "none"):
            assert main(["ledger", "verify", str(path)]) == MALFORMED
            assert capsys.readouterr().err.count("\n") == 1

    def test_cut_anywhere(self, run, log, path):
        whole = log.write(path).read_bytes()
        for size in range(0, len(whole), 37):
            path.write_bytes(whole[:size])
            assert run(path)[0] == MALFORMED

    def test_more_before_or_behind(self, run, log, path):
        whole = log.write(path).read_bytes()
        for content in (b"#!/bin/sh\n" + whole, whole + b"\n"):
            path.write_bytes(content)
            assert run(path)[0] == MALFORMED

    @pytest.mark.parametrize("name", sorted(parts._MEMBERS))
    def test_a_member_is_missing(self, run, log, path, name):
        members = log.members()
        del members[name]
        offline.write(path, members)
        code, said = run(path)
        assert (code, name in said) == (MALFORMED, True)

    @pytest.mark.parametrize("name", sorted(parts._MEMBERS))
    def test_a_member_twice(self, run, log, path, name):
        members = log.members()
        zipped(path, *members.items(), (name, members[name]))
        assert run(path)[0] == MALFORMED

    @pytest.mark.parametrize(
        "name",
        [
            "../vkeys",
            "/etc/passwd",
            "..\\x",
            "entries.jsonl/",
            "ENTRIES.JSONL",
            "a" * 60_000,
            "\x1b[2J",
            "\u202e",
            "",
        ],
    )
    def test_a_member_of_another_name(self, run, log, path, name):
        zipped(path, *log.members().items(), (name, "x"))
        assert run(path)[0] == MALFORMED
        members = log.members()
        zipped(path, (name, members.pop("vkeys")), *members.items())
        assert run(path)[0] == MALFORMED

    def test_a_name_that_hides_its_end(self, run, log, path):
        members = log.members()
        zipped(path, ("vkeysQx", members.pop("vkeys")), *members.items())
        path.write_bytes(path.read_bytes().replace(b"vkeysQx", b"vkeys\0x"))
        assert run(path)[0] == MALFORMED

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
    def test_a_member_that_is_no_file(self, run, log, path, kind):
        members = log.members()
        info = zipfile.ZipInfo("vkeys")
        info.external_attr = (kind | 0o644) << 16
        zipped(path, (info, members.pop("vkeys")), *members.items())
        assert run(path)[0] == MALFORMED

    @pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_another_compression(self, run, log, path, compression):
        zipped(path, *log.members().items(), compression=compression)
        assert run(path)[0] == MALFORMED

    def test_stored_is_as_good(self, run, log, path):
        zipped(path, *log.members().items(), compression=zipfile.ZIP_STORED)
        assert run(path)[0] == 0

    def test_streamed_and_zip64_are_as_good(self, run, log, path):
        class Stream(io.BytesIO):
            def seekable(self):
                return False

            def tell(self):
                raise OSError

        stream = Stream()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in log.members().items():
                with made.open(name, "w", force_zip64=True) as member:
                    member.write(content if isinstance(content, bytes) else content.encode())
        path.write_bytes(stream.getvalue())
        assert run(path)[0] == 0

    @pytest.mark.parametrize("flag", [0x1, 0x40])
    def test_encrypted(self, run, log, path, flag):
        content = bytearray(log.write(path).read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = content.find(signature) + offset
            content[place] |= flag
        path.write_bytes(content)
        assert run(path)[0] == MALFORMED

    @pytest.mark.parametrize("name", ["vkeys", "checkpoint", "entries.jsonl", "sealed.jsonl"])
    def test_a_wrong_checksum(self, run, log, path, name):
        content = bytearray(log.write(path).read_bytes())
        # In the directory and before the member itself.
        crc = struct.pack("<I", zipfile.ZipFile(path).getinfo(name).CRC)
        content = content.replace(crc, bytes(4))
        path.write_bytes(content)
        assert run(path)[0] == MALFORMED

    def test_a_directory_without_end(self, run, path):
        with zipfile.ZipFile(path, "w") as made:
            for number in range(20_000):
                made.writestr(f"{number}", b"")
        assert run(path)[0] == MALFORMED
        assert run(zipped(path, *[(f"{number}", b"") for number in range(6)]))[0] == MALFORMED

    def test_any_byte_changed(self, run, log, path):
        """Whatever it breaks: a code, one line, and never `good` where what it holds is another thing."""
        whole = log.write(path, vkeys=f"{offline.vkey(log.origin)}\n").read_bytes()
        members = {
            name: zipfile.ZipFile(path).read(name) for name in ("checkpoint", "entries.jsonl", "sealed.jsonl")
        }
        chance = random.Random(5)
        for _ in range(400):
            changed = bytearray(whole)
            changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            code, said = run(path)
            if code == 0:
                with zipfile.ZipFile(path) as file:
                    assert {name: file.read(name) for name in members} == members
            assert code in (0, TAMPERED, MALFORMED, UNTRUSTED), said


class TestMemory:
    def peak(self, run, path, code, words=""):
        tracemalloc.start()
        try:
            found, said = run(path)
            assert (found, words in said) == (code, True), said
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("vkeys", MALFORMED),
            ("checkpoint", MALFORMED),
            ("entries.jsonl", TAMPERED),
            ("sealed.jsonl", MALFORMED),
        ],
    )
    @pytest.mark.parametrize("byte", [b"\0", b"\n", b"[", b"9", b" "])
    def test_a_bomb(self, run, log, path, name, code, byte):
        members = log.members() | {name: byte * (64 * MEGABYTE)}
        offline.write(path, members)
        assert path.stat().st_size < MEGABYTE
        assert self.peak(run, path, code) < 24 * MEGABYTE

    def test_a_bomb_behind_good_entries(self, run, log, path):
        offline.write(path, log.members() | {"entries.jsonl": lines(log.leaves) + b"x" * (64 * MEGABYTE)})
        assert self.peak(run, path, TAMPERED, "entry 5: inserted") < 24 * MEGABYTE

    def test_openings_that_one_entry_can_not_have(self, run, path):
        log = Log.of(2)
        log.openings += [
            offline.opening(1, f"x{number:07}", bytes(32), "a" * 200) for number in range(60_000)
        ]
        assert self.peak(run, log.write(path), MALFORMED, "more openings") < 100 * MEGABYTE

    def test_as_many_missing_fields_as_it_likes(self, run, path, monkeypatch):
        monkeypatch.setattr(erased, "MAX_CELLS", 1_000)
        assert run(many_names(2_000).write(path)) == (
            MALFORMED,
            "keystead: more sealed fields have no opening than can be kept in mind\n",
        )

    def test_names_without_number_that_were_erased(self, run, path):
        """The application's login may seal and erase under any names: the log is to be verified all the same."""
        log = many_names(2_000)
        for index in range(1, len(log.leaves)):
            fields = list(json.loads(log.leaves[index])["sealed"])
            log.append(act="ledger.erasure", data={"entries": [index], "fields": fields})
        assert run(log.write(path))[0] == 0

    def test_memory_is_flat(self, run, path):
        few = self.peak(run, Log.of(1_000).write(path), 0)
        many = self.peak(run, Log.of(8_000).write(path), 0)
        assert many < 2 * few + 4 * MEGABYTE


def many_names(count):
    """Return a log of that many sealed fields, each of its own name and without its opening."""
    log = Log()
    log.append(act="ledger.opened", data={"vkey": offline.vkey(log.origin)})
    for start in range(0, count, 100):
        log.append(sealed={f"x{number}": "a" for number in range(start, start + 100)})
    log.openings.clear()
    return log


class TestNotes:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\n",
            b"\xff",
            b"x" * 70_000,
            b"a+b+c\n",
            (offline.vkey(offline.ORIGIN)).encode(),
            (offline.vkey(offline.ORIGIN) + "\r\n").encode(),
            ("\ufeff" + offline.vkey(offline.ORIGIN) + "\n").encode(),
            (offline.vkey(offline.ORIGIN) + "\n\n").encode(),
            (offline.vkey(offline.ORIGIN) + "\n").encode() * 101,
            (offline.vkey(offline.ORIGIN)[:-4] + "AAA=\n").encode(),
        ],
    )
    def test_vkeys(self, run, log, path, content):
        assert run(log.write(path, vkeys=content))[0] == MALFORMED

    @pytest.mark.parametrize(
        "change",
        [
            lambda _note: b"",
            lambda note: note[:-1],
            lambda note: note + b"\n",
            lambda note: note.replace(b"\n", b"\r\n"),
            lambda note: b"\xef\xbb\xbf" + note,
            lambda note: note + b"\x1b[2J\n",
            lambda note: note + b"\xff\n",
            lambda note: note + "— a AAAA\n".encode(),
            lambda note: note + "— a b c AAAAAAA=\n".encode(),
            lambda note: note + "— w AAAAAAA=\n".encode() * 100,
            lambda note: note + "— w AAAAAAA=\n".encode() * 10_000,
            lambda note: note.replace(b"\n5\n", b"\n" + b"9" * 5_000 + b"\n"),
        ],
    )
    def test_notes(self, run, log, path, change):
        code, _ = run(log.write(path, checkpoint=change(log.checkpoint().encode())))
        assert code in (MALFORMED, UNTRUSTED)

    def test_what_an_unknown_signature_is_named_is_not_shown(self, run, log, path):
        assert run(log.write(path, checkpoint=log.checkpoint() + "— evil\u202e AAAAAAA=\n"))[0] == 0

    @pytest.mark.parametrize(
        "text",
        [
            "{0}\n05\n{1}\n",
            "{0}\n5\n{1}\nextension\n",
            "{0}\n5\n\n",
            "{0}\n0\n{1}\n",
            "{0}\n9007199254740993\n{1}\n",
            "{0}\n٥\n{1}\n",
            "x{0}/\n5\n{1}\n",
        ],
    )
    def test_signed_texts_that_are_no_checkpoints(self, run, log, path, text):
        from audit import note, tree

        root = base64.b64encode(tree.root(map(tree.leaf_hash, log.leaves))).decode()
        signed = note.sign(text.format(log.origin, root).rstrip("\n") + "\n", log.origin, offline.SIGNING_KEY)
        assert run(log.write(path, checkpoint=signed))[0] == MALFORMED

    def test_a_signature_by_a_key_that_is_no_point(self, run, log, path):
        from audit import note

        vkey = note.VerifierKey(log.origin, b"\xff" * 32)
        line = f"— {log.origin} {base64.b64encode(vkey.id + bytes(64)).decode()}\n"
        log.write(
            path, checkpoint=log.checkpoint() + line, vkeys=f"{vkey.format()}\n{offline.vkey(log.origin)}\n"
        )
        assert run(path)[0] == UNTRUSTED


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"NaN",
    b"{",
    b"{}",
    b"[" * 16_000,
    b'{"a":' * 3_000,
    b"9" * 16_000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf{}",
    b"x" * 16_385,
    b"\x00",
]


class TestLines:
    @pytest.mark.parametrize("line", HOSTILE)
    def test_an_entry(self, run, log, path, line):
        checkpoint = log.checkpoint()
        log.leaves[3] = line
        code, said = run(log.write(path, checkpoint=checkpoint))
        assert (code, "entry 3: altered" in said) == (TAMPERED, True)

    @pytest.mark.parametrize("line", HOSTILE)
    def test_an_opening(self, run, log, path, line):
        log.openings[3] = line
        code, said = run(log.write(path))
        assert (code, "sealed.jsonl, line 4" in said or "ended" in said) == (MALFORMED, True), said

    @pytest.mark.parametrize(
        "change",
        [
            {"i": True},
            {"i": -1},
            {"i": 1.0},
            {"i": "1"},
            {"i": 2**53},
            {"salt": 1},
            {"value": None},
            {"field": ["email"]},
            {"extra": 1},
        ],
    )
    def test_an_opening_of_another_form(self, run, log, path, change):
        members = json.loads(log.openings[0]) | change
        log.openings[0] = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
        assert run(log.write(path))[0] == MALFORMED

    @pytest.mark.parametrize(
        "change",
        [
            lambda line: line.replace(b'"value":', b'"value": '),
            lambda line: line + b" ",
            lambda line: line + b"\r",
            lambda line: line.replace(b"alice", b"\\u0061lice"),
            lambda line: line.replace(b'{"field"', b'{"field":"x","field"'),
            lambda line: line.replace(b"alice", b"\\ud800"),
        ],
    )
    def test_an_opening_in_another_spelling(self, run, log, path, change):
        log.openings[0] = change(log.openings[0])
        assert run(log.write(path))[0] == MALFORMED

    def test_openings_out_of_order_or_twice(self, run, log, path):
        for order in ([1, 0], [0, 0], [4, 0], [7, 2]):
            openings = [log.openings[place] for place in order]
            assert run(log.write(path, sealed=lines(openings)))[0] in (TAMPERED, MALFORMED)
        log.openings[0], log.openings[1] = log.openings[1], log.openings[0]
        assert run(log.write(path)) == (MALFORMED, "keystead: sealed.jsonl, line 2: out of order\n")

    @pytest.mark.parametrize("name", ["entries", "sealed"])
    def test_a_last_line_without_its_end(self, run, log, path, name):
        content = lines(log.leaves if name == "entries" else log.openings)[:-1]
        assert run(log.write(path, **{name: content}))[0] == MALFORMED

    @pytest.mark.parametrize(
        "change", [lambda text: text.replace(b"\n", b"\r\n"), lambda text: b"\xef\xbb\xbf" + text]
    )
    def test_entries_as_an_editor_saved_them(self, run, log, path, change):
        code, said = run(log.write(path, entries=change(lines(log.leaves))))
        assert (code, "entry 0: altered" in said) == (TAMPERED, True)

    def test_an_entry_that_is_as_long_as_may_be(self, run, path):
        log = Log.of(2)
        log.append(data={"target": "x", "a": ["é" * 1_024] * 7})
        log.append(data={f"a{number}": "a" * 2_048 for number in range(7)} | {"rest": "a" * 1_000})
        short = len(log.leaves[-1])
        log.append(
            data={f"a{number}": "a" * 2_048 for number in range(7)} | {"rest": "a" * (1_000 + 16_384 - short)}
        )
        assert len(log.leaves[-1]) == 16_384
        assert run(log.write(path))[0] == 0

    def test_nothing_personal_is_told(self, run, log, path):
        for number, line in enumerate(log.openings):
            for changed in (line.replace(b"alice", b"mallo"), line[:-2], b"{" + line):
                log.openings[number] = changed
                code, said = run(log.write(path), "--json")
                assert code in (0, TAMPERED, MALFORMED)
                assert not any(part in said for part in ("alice", "Alice", "mallo", "example.com", "Ærø"))
            log.openings[number] = line


class TestReading:
    """One reader or the other: what the portal's takes this one takes, and nothing else."""

    @staticmethod
    def both(leaf):
        try:
            theirs = entry.parse(leaf)
        except EntryInvalid:
            theirs = None
        try:
            ours = read(leaf)
        except NotCanonical:
            ours = None
        assert (theirs is None) == (ours is None), leaf
        return ours

    @given(data=DATA)
    @settings(max_examples=300, deadline=None)
    def test_good_entries(self, data):
        members = self.both(rewritten(data=data))
        assert members["data"] == data
        assert canonical(members).encode() == rfc8785.dumps(members)

    @given(
        value=st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(st.characters(exclude_categories=[])),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        spaced=st.booleans(),
        escaped=st.booleans(),
    )
    @settings(max_examples=500, deadline=None)
    def test_whatever_json_can_hold(self, value, spaced, escaped):
        members = json.loads(rewritten()) | {"data": {"a": value}}
        separators = (", ", ": ") if spaced else (",", ":")
        text = json.dumps(members, sort_keys=True, separators=separators, ensure_ascii=escaped)
        self.both(text.encode("utf-8", "surrogatepass"))

    @given(place=st.integers(0, 10_000), change=st.binary(max_size=4), cut=st.integers(0, 4))
    @settings(max_examples=1_500, deadline=None)
    def test_good_bytes_changed(self, place, change, cut):
        leaf = rewritten(
            data={"a": 'x\n\u2028€\\"', "b": [1, -5, 2**53 - 1, None, True], "c": {"d": {"e": ""}}}
        )
        place %= len(leaf)
        self.both(leaf[:place] + change + leaf[place + cut :])

    @pytest.mark.parametrize(
        "changed",
        [
            {"v": True},
            {"v": 2},
            {"i": -1},
            {"i": False},
            {"t": "2026-01-02T03:04:60.000Z"},
            {"t": "2026-02-30T03:04:05.000Z"},
            {"t": "0000-01-02T03:04:05.000Z"},
            {"t": "2026-01-02T24:04:05.000Z"},
            {"t": "2026-01-02T03:04:05.00Z"},
            {"t": "２026-01-02T03:04:05.000Z"},
            {"prev": "A" * 43 + "B="},
            {"prev": "A" * 42 + "B="},
            {"prev": None},
            {"act": "created"},
            {"act": "key.Created"},
            {"act": "key.created\n"},
            {"actor": "a@b.example"},
            {"actor": "Usr"},
            {"log": "keys.example.com/ledger/org_a/1"},
            {"log": "keys.example.com/ledger/org_a/02"},
            {"log": "x" * 190 + "/ledger/org_a"},
            {"log": "KEYS/ledger/org_a"},
            {"data": []},
            {"data": None},
            {"data": {"a": "\0"}},
            {"data": {"a": "\\u0000"}},
            {"data": {"a": "a" * 2_048}},
            {"data": {"a": "a" * 2_049}},
            {"data": {"a": "é" * 1_025}},
            {"data": {"a": {"b": {"c": []}}}},
            {"data": {"a": {"b": []}}},
            {"data": {"a": [[[]]]}},
            {"data": {"a" * 32: 1}},
            {"data": {"a" * 33: 1}},
            {"data": {"A": 1}},
            {"data": {"a\n": 1}},
            {"data": {"": 1}},
            {"sealed": {}},
            {"sealed": []},
            {"sealed": {"email": "x"}},
            {"sealed": {"email": 1}},
            {"more": 1},
            {"v": ...},
        ],
    )
    def test_each_rule(self, changed):
        self.both(rewritten(**changed))

    @pytest.mark.parametrize(
        "number",
        [
            b"-0",
            b"01",
            b"1.0",
            b"1e2",
            b"1E400",
            b"-",
            b"+1",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"9" * 5_000,
            b"9007199254740992",
            b"9007199254740991",
        ],
    )
    def test_numbers(self, number):
        self.both(rewritten(data={"a": 12345}).replace(b"12345", number))

    def test_names_that_were_good_once_are_bounded(self, monkeypatch):
        monkeypatch.setattr(rules, "_good_names", set(rules._ALLOWED))
        for start in range(0, 8_000, 100):
            read(rewritten(data={f"n{number}": 1 for number in range(start, start + 100)}))
        assert len(rules._good_names) <= 4_096


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_it_leaves_no_file_open(run, log, path):
    from pathlib import Path

    count = len(list(Path("/proc/self/fd").iterdir()))
    for content in (log.write(path).read_bytes(), b"PK\x03\x04", b"x" * 100):
        path.write_bytes(content)
        run(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == count
