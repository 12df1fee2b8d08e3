import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import note
from audit.entry import origin
from audit.errors import (
    CheckpointInvalid,
    NoteError,
    NoteForged,
    NoteMalformed,
    NoteUntrusted,
    VerifierKeyInvalid,
)
from audit.note import VerifierKey
from tests.vectors import load

LEDGER = load("ledger")
ORIGIN = LEDGER["origin"]
KEY1, KEY2 = (
    Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key %d" % n).digest()) for n in (1, 2)
)
TRUSTED1, TRUSTED2 = (VerifierKey.parse(LEDGER[name]) for name in ("vkey1", "vkey2"))
ROOT3, ROOT5 = (bytes.fromhex(LEDGER["roots"][size]) for size in (3, 5))
TEXT3, TEXT5 = (note.checkpoint_text(ORIGIN, size, root) for size, root in ((3, ROOT3), (5, ROOT5)))


class TestKnownAnswers:
    def test_checkpoint_3_is_signed_byte_for_byte(self):
        assert note.sign(TEXT3, ORIGIN, KEY1) == LEDGER["checkpoint3"]

    def test_checkpoint_5_has_both_keys_and_a_witness(self):
        signed = note.sign(TEXT5, ORIGIN, KEY1, KEY2)
        assert LEDGER["checkpoint5"].startswith(signed)
        assert LEDGER["checkpoint5"][len(signed) :].startswith("— witness.example.org/w1 ")

    def test_checkpoints_open(self):
        assert note.open_note(LEDGER["checkpoint3"], [TRUSTED1]) == note.OpenedNote(TEXT3, (TRUSTED1,))
        opened = note.open_note(LEDGER["checkpoint5"], [TRUSTED2, TRUSTED1])
        assert opened == note.OpenedNote(TEXT5, (TRUSTED1, TRUSTED2))
        assert note.parse_checkpoint(opened.text) == note.Checkpoint(ORIGIN, 5, ROOT5)

    def test_the_proof_file_ends_in_the_same_note(self):
        assert LEDGER["proof_2_5"].endswith("\n\n" + LEDGER["checkpoint5"])

    @pytest.mark.parametrize(("private", "text"), [(KEY1, LEDGER["vkey1"]), (KEY2, LEDGER["vkey2"])])
    def test_verifier_keys(self, private, text):
        key = VerifierKey.of(ORIGIN, private)
        assert key.format() == text
        assert VerifierKey.parse(text) == key
        assert note.key_id(ORIGIN, key.public).hex() == text.split("+")[1]


class TestVerifierKey:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "name",
            LEDGER["wkey"],
            LEDGER["vkey1"] + "\n",
            LEDGER["vkey1"].replace("+39913b68+", "+39913B68+"),
            LEDGER["vkey1"].replace("+39913b68+", "+2267e134+"),
            LEDGER["vkey1"].replace("org_test0001", "org_test0002"),
            LEDGER["vkey1"][:-4],
            LEDGER["vkey1"] + "AAAA",
            "+" + LEDGER["vkey1"].partition("+")[2],
        ],
    )
    def test_refuses(self, text):
        with pytest.raises(VerifierKeyInvalid):
            VerifierKey.parse(text)

    def test_refuses_another_algorithm_under_a_fitting_id(self):
        encoded = base64.b64encode(b"\x04" + TRUSTED1.public).decode()
        with pytest.raises(VerifierKeyInvalid):
            VerifierKey.parse(f"{ORIGIN}+{TRUSTED1.id.hex()}+{encoded}")

    @pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\x85", "a\x1fb", "\ud800"])
    def test_refuses_the_name(self, name):
        with pytest.raises(VerifierKeyInvalid):
            VerifierKey.of(name, KEY1)
        with pytest.raises(VerifierKeyInvalid):
            note.sign(TEXT3, name, KEY1)


class TestCheckpointText:
    def test_is_three_lines(self):
        encoded = base64.b64encode(ROOT3).decode()
        assert f"{ORIGIN}\n3\n{encoded}\n" == TEXT3

    def test_an_empty_log_has_the_empty_root(self):
        empty = note.checkpoint_text(ORIGIN, 0, sha256(b"").digest())
        assert note.parse_checkpoint(empty) == note.Checkpoint(ORIGIN, 0, sha256(b"").digest())

    @pytest.mark.parametrize(
        ("name", "size", "root"),
        [
            ("", 3, ROOT3),
            (ORIGIN + "\n4", 3, ROOT3),
            (ORIGIN, -1, ROOT3),
            (ORIGIN, 2**53 + 1, ROOT3),
            (ORIGIN, 3, ROOT3[:31]),
            (ORIGIN, 3, ROOT3 + b"\0"),
            (ORIGIN, 0, ROOT3),
        ],
    )
    def test_refuses_to_write(self, name, size, root):
        with pytest.raises(CheckpointInvalid):
            note.checkpoint_text(name, size, root)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            TEXT3[:-1],
            TEXT3 + "\n",
            TEXT3 + "extension\n",
            TEXT3.replace("\n3\n", "\n03\n"),
            TEXT3.replace("\n3\n", "\n+3\n"),
            TEXT3.replace("\n3\n", "\n3 \n"),
            TEXT3.replace("\n3\n", "\n\u0663\n"),
            TEXT3.replace("\n3\n", "\n0\n"),
            TEXT3.replace("\n3\n", "\n9999999999999999\n"),
            TEXT3.replace("\n3\n", "\n" + "9" * 5000 + "\n"),
            TEXT3.replace("\n", "\r\n"),
            TEXT3.replace("=\n", "\n"),
            TEXT3.replace("wA=\n", "wB=\n"),
            TEXT3.replace("keys.", "KEYS."),
        ],
    )
    def test_refuses_to_read(self, text):
        with pytest.raises(CheckpointInvalid):
            note.parse_checkpoint(text)


class TestSign:
    @pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "nul\0\n", "return\r\n", "\ud800\n"])
    def test_refuses_the_text(self, text):
        with pytest.raises(NoteMalformed):
            note.sign(text, ORIGIN, KEY1)

    def test_refuses_to_leave_it_unsigned(self):
        with pytest.raises(NoteMalformed):
            note.sign(TEXT3, ORIGIN)

    @given(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).map(lambda text: text + "\n"),
        st.integers(0, 3),
    )
    @settings(max_examples=30, deadline=None)
    def test_what_it_signs_opens(self, line, empty):
        text = line + "\n" * empty + "— not a signature\n"
        assert note.open_note(note.sign(text, "a/b", KEY1), [VerifierKey.of("a/b", KEY1)]).text == text


class TestOpen:
    def test_unknown_signatures_alone_are_not_enough(self):
        stranger = VerifierKey.of(ORIGIN, Ed25519PrivateKey.generate())
        for keys in ([], [stranger], [TRUSTED2]):
            with pytest.raises(NoteUntrusted):
                note.open_note(LEDGER["checkpoint3"], keys)

    def test_one_known_signature_that_fails_refuses_the_whole(self):
        wrong = note.sign(TEXT3, ORIGIN, KEY2).rpartition("\n\n")[2]
        forged = note.sign(TEXT5, ORIGIN, KEY1) + wrong
        assert note.open_note(forged, [TRUSTED1]).text == TEXT5
        for keys in ([TRUSTED2], [TRUSTED1, TRUSTED2]):
            with pytest.raises(NoteForged):
                note.open_note(forged, keys)

    def test_a_repeated_signature_is_verified_again(self):
        wrong = note.sign(TEXT3, ORIGIN, KEY1).rpartition("\n\n")[2]
        with pytest.raises(NoteForged):
            note.open_note(note.sign(TEXT5, ORIGIN, KEY1) + wrong, [TRUSTED1])

    def test_a_repeated_signature_counts_once(self):
        assert note.open_note(note.sign(TEXT5, ORIGIN, KEY1, KEY1), [TRUSTED1]).signers == (TRUSTED1,)

    def test_a_changed_character_anywhere_is_refused(self):
        signed = LEDGER["checkpoint3"]
        for place, character in enumerate(signed):
            changed = signed[:place] + chr(ord(character) ^ 1) + signed[place + 1 :]
            with pytest.raises(NoteError):
                note.open_note(changed, [TRUSTED1])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n\n",
            TEXT3,
            TEXT3 + "\n",
            LEDGER["checkpoint3"][:-1],
            LEDGER["checkpoint3"] + "\n",
            LEDGER["checkpoint3"] + "— \n",
            LEDGER["checkpoint3"] + "— name\n",
            LEDGER["checkpoint3"] + "— name AAAA\n",
            LEDGER["checkpoint3"] + "— name AAAAAA==\n",
            LEDGER["checkpoint3"] + "— name AAAAAAB=\n",
            LEDGER["checkpoint3"] + "— name AAAAAAA= \n",
            LEDGER["checkpoint3"] + "— na\u00a0me AAAAAAA=\n",
            LEDGER["checkpoint3"] + "— na+me AAAAAAA=\n",
            LEDGER["checkpoint3"] + "- name AAAAAAA=\n",
            LEDGER["checkpoint3"] + "name AAAAAAA=\n",
            LEDGER["checkpoint3"].replace("\n", "\r\n"),
            LEDGER["checkpoint3"] + "— \ud800 AAAAAAA=\n",
        ],
    )
    def test_refuses(self, text):
        with pytest.raises(NoteMalformed):
            note.open_note(text, [TRUSTED1])

    @pytest.mark.parametrize("text", ["tab\t\n", "nul\0\n", "return\r\n", "escape\x1b[2J\n"])
    def test_refuses_a_control_even_where_it_is_signed(self, text):
        signature = base64.b64encode(TRUSTED1.id + KEY1.sign(text.encode())).decode()
        with pytest.raises(NoteMalformed):
            note.open_note(f"{text}\n— {ORIGIN} {signature}\n", [TRUSTED1])

    def test_a_hundred_signatures_are_enough(self):
        line = "— name AAAAAAA=\n"
        note.open_note(LEDGER["checkpoint3"] + 99 * line, [TRUSTED1])
        with pytest.raises(NoteMalformed):
            note.open_note(LEDGER["checkpoint3"] + 100 * line, [TRUSTED1])

    def test_the_same_key_twice_is_no_matter_and_two_keys_of_one_id_are(self, monkeypatch):
        assert note.open_note(LEDGER["checkpoint3"], [TRUSTED1, TRUSTED1]).signers == (TRUSTED1,)
        monkeypatch.setattr(note, "key_id", lambda *_: b"same")
        with pytest.raises(VerifierKeyInvalid):
            note.open_note(LEDGER["checkpoint3"], [TRUSTED1, TRUSTED2])


class TestOpenCheckpoint:
    def test_returns_it(self):
        found = note.open_checkpoint(LEDGER["checkpoint5"], ORIGIN, [TRUSTED1])
        assert found == note.Checkpoint(ORIGIN, 5, ROOT5)

    def test_another_log_s_checkpoint_under_this_log_s_name_is_refused(self):
        ours = origin("keys.example.com", "org_other")
        relabelled = note.sign(TEXT3, ours, KEY1)
        trusted = VerifierKey.of(ours, KEY1)
        assert note.open_note(relabelled, [trusted]).text == TEXT3
        with pytest.raises(CheckpointInvalid):
            note.open_checkpoint(relabelled, ours, [trusted])

    def test_a_trusted_witness_is_not_the_log(self):
        witness = VerifierKey.of("witness", KEY2)
        with pytest.raises(NoteUntrusted):
            note.open_checkpoint(note.sign(TEXT3, "witness", KEY2), ORIGIN, [TRUSTED1, witness])

    def test_a_note_that_is_no_checkpoint_is_refused(self):
        with pytest.raises(CheckpointInvalid):
            note.open_checkpoint(note.sign("hello\n", ORIGIN, KEY1), ORIGIN, [TRUSTED1])
