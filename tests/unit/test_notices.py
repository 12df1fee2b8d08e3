"""What people are told by mail: to whom each act goes, and that no entry can say more than its words."""

from datetime import UTC, datetime

import pytest

from audit import notices
from audit.acts import Act
from audit.notices import MOST_LISTED, MOST_SINGLE, RULES, Told, day, word

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
HOLDERS = {notices.OWNERS: ["usr_owner"], notices.OWNERS_AND_ADMINS: ["usr_admin", "usr_owner"]}
BASE = "https://keys.example.com"
# What makes an act be told, where it is not always.
FACTS = {
    Act.ROTATION_STARTED: {"cause": "owner_left"},
    Act.MEMBER_REMOVED: {"keys_count": 2, "keys_action": "revoke"},
}


def told(act, index=7, **changes):
    fields = {
        "epoch": 1,
        "index": index,
        "act": act,
        "at": AT,
        "target": "key_a",
        "actor": "sys_worker",
        "name": "noc",
        "path": "/keys/key_a",
        "data": FACTS.get(act, {}),
    }
    return Told(**fields | changes)


def letters(*entries, owners=("usr_bob",), local=None):
    people = notices.People(
        holders=HOLDERS, local={notices.OWNERS_AND_ADMINS: local or {}}, owners=frozenset(owners)
    )
    return notices.letters(entries, people, organization="Acme", base_url=BASE)


class TestTheTable:
    def test_who_gets_what(self):
        found = {
            str(act): [letter.user_id for letter in letters(told(act, owner_id="usr_bob"))] for act in RULES
        }
        everybody, above = ["usr_admin", "usr_owner", "usr_bob"], ["usr_admin", "usr_owner"]
        assert found == {
            "key.expiring": everybody,
            "key.expired": everybody,
            "key.leaked": everybody,
            "key.first_network": everybody,
            "rotation.started": everybody,
            "rotation.overdue": everybody,
            "rotation.failed": everybody,
            "webhook.disabled": ["usr_owner"],
            "breakglass.executed": above,
            "breakglass.refused": above,
            "approval.requested": above,
            "approval.granted": ["usr_bob"],
            "approval.denied": ["usr_bob"],
            "support.opened": ["usr_owner"],
            "member.removed": above,
        }

    def test_searches_of_support_tell_nobody(self):
        assert letters(told(Act.SUPPORT_OPENED, data={"kind": "search"})) == []

    def test_nothing_else_is_mailed(self):
        assert not notices.is_mailed("key.created")
        assert letters(told(Act.KEY_CREATED)) == []

    @pytest.mark.parametrize("act", RULES)
    def test_each_has_words_without_any_fact(self, act):
        """An entry of an earlier version may lack what a later one says."""
        [letter, *_] = letters(told(act, name="", path="", owner_id="usr_bob"))
        assert letter.subject.startswith("[Acme] ")
        assert f"\n\n{BASE}{RULES[act].page}\n\n--\nYou get this" in letter.text
        assert "None" not in letter.text
        assert "{" not in letter.subject + letter.text

    @pytest.mark.parametrize("act", RULES)
    def test_many_are_one(self, act):
        entries = [told(act, index=index, owner_id="usr_bob") for index in range(500)]
        found = letters(*entries)
        assert len({letter.user_id for letter in found}) == len(found)
        assert all(letter.place == (1, 0) and "500" in letter.subject for letter in found)
        assert all(letter.text.count("\n- ") == MOST_LISTED for letter in found)
        assert all("and 480 more" in letter.text for letter in found)

    def test_who_owns_nothing_here_gets_none(self):
        found = letters(told(Act.KEY_EXPIRED, owner_id="usr_gone"))
        assert [letter.user_id for letter in found] == ["usr_admin", "usr_owner"]


class TestWhichEntries:
    def test_rotations_by_people_are_not_told(self):
        assert letters(told(Act.ROTATION_STARTED, actor="usr_bob", data={})) == []
        itself = letters(told(Act.ROTATION_STARTED, actor="key_a", data={}))
        assert "rotated itself" in itself[0].subject

    @pytest.mark.parametrize("data", [{}, {"keys_count": 0}, {"keys_count": "2"}])
    def test_who_leaves_without_keys_is_not_told(self, data):
        assert letters(told(Act.MEMBER_REMOVED, data=data)) == []

    def test_who_asks_for_approval_is_not_told_of_it(self):
        found = letters(told(Act.APPROVAL_REQUESTED, actor="usr_owner"))
        assert [letter.user_id for letter in found] == ["usr_admin"]

    def test_few_are_mails_of_their_own(self):
        entries = [told(Act.KEY_EXPIRED, index=index) for index in range(MOST_SINGLE)]
        assert [letter.place for letter in letters(*entries) if letter.user_id == "usr_owner"] == [
            (1, 0),
            (1, 1),
            (1, 2),
        ]

    def test_whom_it_concerns_in_person_keeps_it_without_the_role(self):
        [admin] = [
            letter
            for letter in letters(
                *[told(Act.KEY_EXPIRED, index=index, owner_id="usr_admin") for index in range(9)],
                told(Act.KEY_EXPIRED, index=9),
                owners=["usr_admin"],
            )
            if letter.user_id == "usr_admin"
        ]
        assert admin.standing == notices.Standing()
        assert "10 keys" in admin.subject


class TestAdminsOfProjects:
    LOCAL = {"prj_a": {"usr_local": "prj_top", "usr_admin": "prj_a"}, "prj_b": {"usr_local": "prj_b"}}  # noqa: RUF012

    def test_in_person_goes_before_the_organizations_role_and_that_before_a_projects(self):
        entry = told(Act.KEY_EXPIRED, project_id="prj_a", owner_id="usr_owner")
        found = letters(entry, owners=["usr_owner"], local=self.LOCAL)
        roles = notices.OWNERS_AND_ADMINS
        assert {letter.user_id: letter.standing for letter in found} == {
            "usr_local": notices.Standing(roles, "prj_top"),
            "usr_admin": notices.Standing(roles),
            "usr_owner": notices.Standing(),
        }
        assert len(found) == 3

    def test_what_is_heard_by_different_standing_is_not_one_mail(self):
        """Each goes if that standing lasts until it is sent; an entry is in one of them."""
        entries = [
            told(Act.KEY_EXPIRED, index=index, project_id=project, owner_id=owner)
            for index, (project, owner) in enumerate(
                [("prj_a", "")] * 5 + [("prj_b", "")] * 6 + [("prj_a", "usr_local")] * 7
            )
        ]
        found = [
            letter
            for letter in letters(*entries, owners=["usr_local"], local=self.LOCAL)
            if letter.user_id == "usr_local"
        ]
        assert [(letter.standing.project_id, letter.place, letter.subject) for letter in found] == [
            ("prj_top", (1, 0), "[Acme] 5 keys have expired"),
            ("prj_b", (1, 5), "[Acme] 6 keys have expired"),
            ("", (1, 11), "[Acme] 7 keys have expired"),
        ]

    @pytest.mark.parametrize("project", ["", "prj_c"])
    def test_nobody_for_what_is_not_in_their_project(self, project):
        found = letters(told(Act.KEY_EXPIRED, project_id=project), local=self.LOCAL)
        assert [letter.user_id for letter in found] == ["usr_admin", "usr_owner"]

    def test_nobody_of_what_owners_alone_hear_of(self):
        found = letters(told(Act.WEBHOOK_DISABLED, project_id="prj_a"), local=self.LOCAL)
        assert [letter.user_id for letter in found] == ["usr_owner"]


class TestWords:
    def test_an_expiry(self):
        data = {"expires_at": "2026-12-03T09:00:00.000Z", "auto_rotate": False}
        letter = letters(told(Act.KEY_EXPIRING, data=data))[0]
        assert letter.subject == "[Acme] The key “noc” expires on 3 December 2026, 09:00 UTC"
        assert letter.text == (
            "The key “noc” expires on 3 December 2026, 09:00 UTC. From then on every call with it is refused.\n\n"
            "Rotate it before then, and give the new secret to whatever uses it.\n\n"
            f"{BASE}/keys/key_a\n\n--\nYou get this as an owner or admin of Acme.\n"
        )
        turns = letters(told(Act.KEY_EXPIRING, data=data | {"rotates_at": "2026-11-30T09:00:00.000Z"}))[0]
        assert "It rotates by itself on 30 November 2026, 09:00 UTC" in turns.text

    def test_a_break_glass(self):
        found = {
            count: letters(told(Act.BREAKGLASS_EXECUTED, who="Alice", data={"count": count}))[0]
            for count in (1, 10_000)
        }
        assert found[1].subject == "[Acme] Break-glass: 1 key was revoked"
        assert found[10_000].subject == "[Acme] Break-glass: 10,000 keys were revoked"
        assert "by Alice" in found[1].text

    def test_a_break_glass_that_found_nothing_is_not_told(self):
        assert letters(told(Act.BREAKGLASS_EXECUTED, data={"count": 0})) == []

    @pytest.mark.parametrize("outcome", ["revoked", "quarantined", "retired", "nothing", "unheard-of"])
    def test_a_leak_says_what_became_of_it(self, outcome):
        text = letters(told(Act.KEY_LEAKED, data={"outcome": outcome, "url": "https://x.example/leak"}))[
            0
        ].text
        assert "was found where it does not belong, on 21 November 2026, 09:30 UTC" in text
        assert "x.example" not in text
        assert ("The key was revoked" in text) == (outcome == "revoked")

    def test_a_leaver(self):
        one = letters(told(Act.MEMBER_REMOVED, data={"keys_count": 1, "keys_action": "hand_over"}))[0]
        assert one.subject == "[Acme] Somebody left, and a key of theirs now belongs to a team"
        two = letters(told(Act.MEMBER_REMOVED, data={"keys_count": 2, "keys_action": "rotate"}))[0]
        assert (
            two.subject == "[Acme] Somebody left, and 2 of their keys rotate, and their old secrets end soon"
        )

    @pytest.mark.parametrize(
        "name",
        [
            "noc\r\nBcc: all@evil.example",
            "noc\n\nhttps://evil.example",
            "noc\x00\x1b[2J",
            "\u202enoc\u2028x\u2029y",
            "n" * 5_000,
            "{count} {0.__class__} %s",
        ],
    )
    def test_a_name_stays_a_name(self, name):
        entries = [told(Act.KEY_EXPIRED, name=name, data={"expires_at": name}, who=name)]
        for letter in [*letters(*entries), *letters(*entries * 9)]:
            assert not set(letter.subject) & set("\r\n\x00\x1b\u202e\u2028\u2029")
            assert len(letter.subject) <= 200
            assert not [line for line in letter.text.splitlines() if line.startswith(("Bcc", "https://evil"))]
            assert len(letter.text) < 5_000

    def test_a_word_is_one_short_line(self):
        assert word(" a\tb\n\nc ") == "a b c"
        assert len(word("x" * 81)) == 80
        assert word("e\u0301") == "e\u0301"

    @pytest.mark.parametrize("value", [None, 5, "", "yesterday", {}])
    def test_what_is_no_time_is_left_out(self, value):
        assert day(value) == ""


class TestADisabledWebhook:
    """The owners are told who or what did it: a person is no failure of the receiver."""

    @staticmethod
    def text(**data):
        [letter] = letters(told(Act.WEBHOOK_DISABLED, name="https://h.example", who="Anna", data=data))
        return letter.text

    def test_by_a_person(self):
        said = self.text(reason="person")
        assert "by Anna. Nothing is lost" in said
        assert "did not take" not in said

    def test_because_it_is_gone(self):
        assert "gone for good. Nothing is lost" in self.text(reason="gone")

    def test_because_it_failed(self):
        assert "because it did not take what was sent to it. Nothing is lost" in self.text(reason="failing")

    def test_by_a_person_whose_name_is_a_pattern(self):
        [letter] = letters(
            told(Act.WEBHOOK_DISABLED, name="https://h.example/{0}", who="{told}", data={"reason": "person"})
        )
        assert "by {told}. Nothing" in letter.text
