"""Mail's settings: what a mail server's URL means, and what is refused without repeating a password."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal.mail import MAILBOX, mailers, sender


def options(url):
    return mailers(url, is_demo=False)["default"]["OPTIONS"]


class TestServers:
    def test_starttls_unless_told(self):
        assert options("smtp://user:p%40ss@mail.example.com") == {
            "host": "mail.example.com",
            "port": 587,
            "username": "user",
            "password": "p@ss",
            "use_ssl": False,
            "use_tls": True,
            "timeout": 15,
        }

    def test_tls_from_the_first_byte(self):
        found = options("smtps://mail.example.com:4650")
        assert (found["port"], found["use_ssl"], found["use_tls"]) == (4650, True, False)
        assert options("smtps://mail.example.com")["port"] == 465

    @pytest.mark.parametrize(
        "url", ["smtp://relay.internal:25?tls=none", "smtp://user:secret@localhost:25?tls=none"]
    )
    def test_without_tls_only_where_no_password_leaves(self, url):
        assert not options(url)["use_tls"]

    @pytest.mark.parametrize(
        "url",
        [
            "smtp://user:hunter2@mail.example.com?tls=none",
            "smtp://user:hunter2@mail.example.com?tls=maybe",
            "smtp://user:hunter2@mail.example.com?tls=none&tls=starttls",
            "smtps://user:hunter2@mail.example.com?tls=none",
            "smtp://user:hunter2@mail.example.com?tsl=none",
            "smtp://user:hunter2@mail.example.com:port",
            "smtp://user:hunter2@mail.example.com/path",
            "smtp://user:hunter2@",
            "http://user:hunter2@mail.example.com",
            "mail.example.com:hunter2",
        ],
    )
    def test_what_is_refused(self, url):
        with pytest.raises(ImproperlyConfigured) as refused:
            mailers(url, is_demo=True)
        assert "KEYSTEAD_EMAIL_URL" in str(refused.value)
        assert "hunter2" not in str(refused.value)
        assert refused.value.__suppress_context__

    def test_none(self):
        assert mailers("", is_demo=True) == {}


class TestTheDemosMailbox:
    def test_on_the_loopback(self):
        assert mailers("mailbox:", is_demo=True) == {"default": {"BACKEND": MAILBOX}}

    def test_nowhere_else(self):
        with pytest.raises(ImproperlyConfigured, match="demo"):
            mailers("mailbox:", is_demo=False)


class TestSender:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("keys@example.com", "keys@example.com"),
            ("Keystead <keys@example.com>", "Keystead <keys@example.com>"),
        ],
    )
    def test_addresses(self, text, expected):
        assert sender(text, is_needed=True) == expected

    @pytest.mark.parametrize(
        "text", ["", "keys", "keys@", "@example.com", "a@b\r\nBcc: c@d", "a@b, c@d", "<>", "x y@z"]
    )
    def test_what_is_none(self, text):
        with pytest.raises(ImproperlyConfigured, match="KEYSTEAD_EMAIL_FROM"):
            sender(text, is_needed=True)

    def test_none_is_needed_where_no_mail_is_sent(self):
        assert sender("", is_needed=False) == ""
