"""The demo's mailbox: what was sent is shown to this machine, and nowhere else is there such a page."""

import stat

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from portal import mailbox
from portal.mail import MAILBOX
from tests import builders

HOST = "127.0.0.1:8000"


@pytest.fixture
def box(settings, tmp_path):
    settings.KEYSTEAD_HOME = tmp_path
    settings.MAILERS = {"default": {"BACKEND": MAILBOX}}
    return tmp_path / "mailbox"


def send(subject="Hello", body="First.\n\nhttp://127.0.0.1:8000/keys/key_a\n", **more):
    mail.EmailMessage(
        subject=subject, body=body, from_email="keys@demo.example", to=["alice@acme.example"], **more
    ).send()


def page(path=None, **headers):
    return Client().get(path or reverse("mailbox"), **{"HTTP_HOST": HOST} | headers)


class TestInTheDemo:
    def test_it_is_empty_at_first(self, box):
        assert "No mail yet" in page().content.decode()

    def test_it_lists_the_newest_first(self, box):
        send("Older")
        send("Newer", reply_to=["x@y.example"])
        shown = page().content.decode()
        assert shown.index("Newer") < shown.index("Older")
        assert "to alice@acme.example" in shown

    def test_a_message_with_its_link(self, box):
        send("Ünïcode ✓ " * 20)
        [kept] = mailbox.messages()
        shown = page(reverse("mailbox_message", args=[kept.id])).content.decode()
        assert ("Ünïcode ✓ " * 20).strip() in shown
        assert '<a class="anywhere" href="http://127.0.0.1:8000/keys/key_a">' in shown
        assert "keys@demo.example" in shown

    def test_markup_and_foreign_links_stay_text(self, box):
        send(
            "<script>x</script>",
            "<b>bold</b>\n\nhttps://evil.example/\n\nhttp://127.0.0.1:8000.evil.example/",
        )
        [kept] = mailbox.messages()
        shown = page(reverse("mailbox_message", args=[kept.id])).content.decode()
        assert "<script>x" not in shown
        assert "<b>bold" not in shown
        assert 'href="https://evil' not in shown
        assert 'href="http://127.0.0.1:8000.evil' not in shown

    def test_it_is_private_on_the_disk(self, box):
        send()
        assert stat.S_IMODE(box.stat().st_mode) == 0o700
        [kept] = box.iterdir()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    def test_it_keeps_the_newest(self, box, monkeypatch):
        monkeypatch.setattr(mailbox, "MOST_KEPT", 3)
        for number in range(5):
            send(f"Number {number}")
        assert [kept.subject for kept in mailbox.messages()] == ["Number 4", "Number 3", "Number 2"]

    def test_a_header_can_not_be_added(self, box):
        with pytest.raises(ValueError, match="linefeed"):
            send("Hello\r\nBcc: x@evil.example")

    @pytest.mark.parametrize("name", ["1-1-1", "x", "00000000000000000001-1-1"])
    def test_an_unknown_message(self, box, name):
        send()
        assert page(reverse("mailbox_message", args=[name])).status_code == 404

    def test_no_way_out_of_the_folder(self, box):
        send()
        (box.parent / "secret.eml").write_text("Subject: secret\n\n")
        for path in ("/dev/mail/..%2Fsecret", "/dev/mail/../secret", "/dev/mail/%2e%2e%2fsecret"):
            assert page(path).status_code == 404
        assert mailbox.message("../secret") is None

    def test_signed_in_people_see_it_too(self, box):
        send()
        assert (
            "Hello"
            in builders.signed_in(builders.person()).get(reverse("mailbox"), HTTP_HOST=HOST).content.decode()
        )


class TestElsewhere:
    def test_a_deployment_has_no_such_page(self, box, settings):
        send()
        [kept] = mailbox.messages()
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}
        for path in (reverse("mailbox"), reverse("mailbox_message", args=[kept.id])):
            assert page(path).status_code == 404

    def test_nor_one_behind_https(self, box, settings):
        settings.PLAIN_HTTP = False
        assert page().status_code == 404

    def test_another_machine_gets_nothing(self, box):
        assert page(REMOTE_ADDR="192.0.2.7").status_code == 404
        assert page(REMOTE_ADDR="::1").status_code == 200

    def test_nor_a_page_that_rebinds_a_name(self, box, settings):
        settings.ALLOWED_HOSTS = ["*"]
        assert page(HTTP_HOST="evil.example").status_code == 404
        assert page(HTTP_HOST="[::1]:8000").status_code == 200
