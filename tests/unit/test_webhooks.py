"""The pure rules of webhooks: what is subscribed to, when it is tried, how it is signed, what it says, where to."""

# ruff: noqa: S104 - addresses that are refused

import ipaddress
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from audit.acts import Act
from audit.entry import ParsedEntry
from audit.errors import WebhookAddressRefused, WebhookInvalid
from audit.webhooks import address, body, networks, patterns, schedule, signing
from audit.webhooks.networks import Rules

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
PORTS = frozenset({443, 8443})
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class TestPatterns:
    def test_what_another_covers_is_left_out(self):
        assert patterns.normal(["key.revoked", "key.*", "member.joined", "member.joined"]) == [
            "key.*",
            "member.joined",
        ]
        assert patterns.normal(["key.*", "*", "sso.*"]) == ["*"]

    @pytest.mark.parametrize(
        "bad",
        ["key", "key.", "*.revoked", "key.*.*", "key.imagined", "imagined.*", "KEY.*", "", "**", "key.re*"],
    )
    def test_only_known_ones(self, bad):
        with pytest.raises(WebhookInvalid) as caught:
            patterns.normal(["key.*", bad])
        assert caught.value.field == "acts[1]"

    def test_at_least_one(self):
        with pytest.raises(WebhookInvalid):
            patterns.normal([])

    @given(st.lists(st.sampled_from(sorted(patterns.KNOWN)), min_size=1), st.sampled_from(sorted(Act)))
    def test_the_shorter_list_matches_the_same(self, given_patterns, act):
        plain = any(p in ("*", act) or (p.endswith(".*") and act.startswith(p[:-1])) for p in given_patterns)
        assert patterns.matches(patterns.normal(given_patterns), act) is plain


class TestSchedule:
    def test_ten_attempts_over_three_days(self):
        waits = [schedule.next_attempt(n, NOW, jitter=0) for n in range(10)]
        assert [int((at - NOW).total_seconds()) for at in waits] == [
            *(0, 5, 300, 1800, 7200),
            *(18_000, 36_000, 50_400, 72_000, 86_400),
        ]
        assert schedule.next_attempt(10, NOW, jitter=0) is None

    @given(st.integers(1, 9), st.floats(-1, 1))
    def test_jitter_is_a_tenth(self, attempts, jitter):
        wait, plan = schedule.next_attempt(attempts, NOW, jitter=jitter) - NOW, schedule.DELAYS[attempts]
        assert abs(wait - plan) <= 0.1 * plan + timedelta(milliseconds=1)

    def test_retry_after_only_makes_it_later_and_by_a_day_at_most(self):
        def wait(attempts, after):
            return schedule.next_attempt(attempts, NOW, jitter=0, retry_after=after) - NOW

        assert wait(1, timedelta(minutes=2)) == timedelta(minutes=2)
        assert wait(9, timedelta(minutes=2)) == timedelta(hours=24)
        assert wait(1, timedelta(days=9)) == timedelta(hours=24)
        assert schedule.next_attempt(10, NOW, jitter=0, retry_after=timedelta(1)) is None

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("120", 120),
            (" 7 ", 7),
            ("0", 0),
            ("9" * 40, 86_400),
            ("Fri, 02 Jan 2026 03:05:05 GMT", 59.321099),
            ("Fri, 02 Jan 2026 03:05:05", 59.321099),
            ("Fri, 02 Jan 2026 03:00:00 GMT", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("٣", None),
            ("Fri, 99 Jan 2026 03:05:05 GMT", None),
            ("Fri, 02 Jan 99999999999 03:05:05 GMT", None),
        ],
    )
    def test_reading_retry_after(self, header, seconds):
        found = schedule.retry_after(header, NOW)
        assert (found.total_seconds() if found is not None else None) == seconds


class TestSigning:
    def test_the_known_answer(self):
        found = signing.signature(
            SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
        )
        assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        assert (
            signing.signature(f"whsec_{SECRET}", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"") != found
        )

    def test_the_public_package_accepts_each_secret(self):
        secrets = [signing.new_secret(), signing.new_secret()]
        headers = signing.headers(secrets, "msg_a", datetime.now(UTC), '{"a":"é"}'.encode())
        assert headers["webhook-signature"].count("v1,") == 2
        for secret in secrets:
            assert Webhook(secret).verify('{"a":"é"}', headers) == {"a": "é"}

    def test_a_secret_has_32_bytes(self):
        assert len(signing.new_secret()) == len("whsec_") + 44

    def test_an_id_is_its_entrys_and_endpoints(self):
        ids = {
            signing.message_id(e, epoch, i) for e in ("whk_a", "whk_b") for epoch in (1, 2) for i in (1, 11)
        }
        assert len(ids) == 8
        assert signing.message_id("whk_a", 1, 1) == signing.message_id("whk_a", 1, 1)
        assert all(len(each) == 36 and each.startswith("msg_") for each in ids)

    def test_what_looks_like_one_is_hidden(self):
        secret = signing.new_secret()
        assert signing.redact(f"it is {secret}, keep it") == "it is whsec_…, keep it"
        assert signing.redact("whsec_ is their prefix") == "whsec_ is their prefix"


def entry(data, **changes):
    members = {
        "log": "ledger.example/ledger/org_a",
        "i": 7,
        "t": NOW.replace(microsecond=678_000),
        "prev": b"",
        "act": "key.changed",
        "actor": "usr_a",
        "data": {"target": "key_a", **data},
        "sealed": {"email": "commitment", "name": "commitment"},
    }
    return ParsedEntry(**members | changes)


class TestBody:
    def test_says_what_the_entry_says_and_where_it_stands(self):
        made = body.of_entry(entry({"name": "é"}), {"more": 1})
        assert (
            made
            == (
                '{"type":"key.changed","timestamp":"2026-01-02T03:04:05.678Z","data":{"target":"key_a","name":"é",'
                '"more":1,"actor":"usr_a","ledger":{"log":"ledger.example/ledger/org_a","index":7}}}'
            ).encode()
        )

    def test_nothing_sealed(self):
        assert b"commitment" not in body.of_entry(entry({}), {})

    def test_no_fact_takes_the_place_of_what_the_ledger_says(self):
        forged = {"ledger": {"log": "x", "index": 0}, "actor": "usr_x"}
        told = json.loads(body.of_entry(entry(forged), forged))
        assert told["data"]["ledger"]["index"] == 7
        assert told["data"]["actor"] == "usr_a"

    @pytest.mark.parametrize(
        "data",
        [
            {f"f{i}": "é" * 1000 for i in range(20)},
            {f"f{i}": ["x" * 100] * 300 for i in range(5)},
            {"before": {f"f{i}": "x" * 2000 for i in range(15)}},
            {f"f{i}": {f"g{k}": "y" * 20 for k in range(40)} for i in range(25)},
        ],
    )
    def test_at_most_20_kb_and_it_says_so(self, data):
        made = body.of_entry(entry(data), {"sealed_secret": {"ciphertext": "A" * 200}})
        told = json.loads(made)
        assert len(made) <= 20_000
        assert told["data"]["truncated"] is True
        assert told["data"]["target"] == "key_a"
        assert told["data"]["sealed_secret"] == {"ciphertext": "A" * 200}

    def test_facts_that_are_too_long_are_left_out_whole(self):
        made = body.of_entry(entry({"name": "n"}), {"huge": "x" * 30_000})
        assert "huge" not in json.loads(made)["data"]
        assert json.loads(made)["data"]["name"] == "n"

    def test_a_test_event_stands_in_no_ledger(self):
        told = json.loads(body.of_test("whk_a", "usr_a", NOW))
        assert told["type"] == "webhook.test"
        assert told["data"] == {"target": "whk_a", "actor": "usr_a", "ledger": None}


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "normal", "host"),
        [
            ("https://hooks.example.com", "https://hooks.example.com/", "hooks.example.com"),
            ("HTTPS://Hooks.Example.COM:443/A?b=c", "https://hooks.example.com/A?b=c", "hooks.example.com"),
            ("https://hooks.example.com:8443?b", "https://hooks.example.com:8443/?b", "hooks.example.com"),
            ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
            ("https://1.1.1.1/", "https://1.1.1.1/", "1.1.1.1"),
            ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/", "2606:4700::1111"),
            ("https://a.example/x@y:z", "https://a.example/x@y:z", "a.example"),
            ("https://1e100.example/", "https://1e100.example/", "1e100.example"),
        ],
    )
    def test_one_written_form(self, url, normal, host):
        found = address.parse(url, PORTS)
        assert (found.url, found.host) == (normal, host)
        assert address.parse(normal, PORTS) == found

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("", "characters"),
            ("hooks.example.com", "https://"),
            ("http://hooks.example.com/", "https://"),
            ("ftp://hooks.example.com/", "https://"),
            ("https:/hooks.example.com/", "https://"),
            ("https:hooks.example.com/", "https://"),
            ("//hooks.example.com/", "https://"),
            (" https://hooks.example.com/", "characters"),
            ("https://hooks.example.com/\n", "characters"),
            ("https://hooks.example.com/\r\nHost: x", "characters"),
            ("https://hooks\t.example.com/", "characters"),
            ("https://hooks.example.com/\0", "characters"),
            ("https://hooks.example.com\\@127.0.0.1/", "characters"),
            ("https://bücher.example/", "characters"),
            ("https://１２７.0.0.1/", "characters"),
            ("https://127。0。0。1/", "characters"),
            ("https://hooks.example.com/#part", "fragment"),
            ("https://hooks.example.com/#", "fragment"),
            ("https://hooks.example.com#@1.1.1.1/", "fragment"),
            ("https://me@hooks.example.com/", "@"),
            ("https://me:pw@hooks.example.com/", "@"),
            ("https://hooks.example.com@127.0.0.1/", "@"),
            ("https://@hooks.example.com/", "@"),
            ("https:///path", "no host"),
            ("https://:443/", "no host"),
            ("https://?x", "no host"),
            ("https://hooks.example.com./", "dot"),
            ("https://127.0.0.1./", "dot"),
            ("https://./", "dot"),
            ("https://localhost/", "no domain"),
            ("https://intranet/", "no domain"),
            ("https://hooks..example.com/", "no name"),
            ("https://.example.com/", "no name"),
            ("https://-a.example.com/", "no name"),
            ("https://a_b.example.com/", "no name"),
            ("https://ex%61mple.com/", "no name"),
            ("https://" + "a" * 64 + ".example/", "no name"),
            ("https://" + "a." * 130 + "example/", "no name"),
            ("https://2130706433/", "four plain"),
            ("https://0x7f000001/", "four plain"),
            ("https://0x7f.1/", "four plain"),
            ("https://127.1/", "four plain"),
            ("https://0177.0.0.1/", "four plain"),
            ("https://127.0.0.01/", "four plain"),
            ("https://127.0.0.0x1/", "four plain"),
            ("https://1.2.3.4.5/", "four plain"),
            ("https://256.1.1.1/", "four plain"),
            ("https://example.1/", "four plain"),
            ("https://example.0x/", "four plain"),
            ("https://[::1/", "brackets"),
            ("https://[::1]x/", "brackets"),
            ("https://[fe80::1%25eth0]/", "zone"),
            ("https://[fe80::1%eth0]/", "zone"),
            ("https://[1.1.1.1]/", "no IPv6"),
            ("https://[]/", "no IPv6"),
            ("https://[::g]/", "no IPv6"),
            ("https://::1/", "no host"),
            ("https://hooks.example.com:/", "plain number"),
            ("https://hooks.example.com:0443/", "plain number"),
            ("https://hooks.example.com:+443/", "plain number"),
            ("https://hooks.example.com:443:443/", "plain number"),
            ("https://hooks.example.com:99999999999/", "plain number"),
            ("https://hooks.example.com:0/", "plain number"),
            ("https://hooks.example.com:80/", "port 443 or 8443"),
            ("https://hooks.example.com:22/", "port 443 or 8443"),
            ("https://hooks.example.com:65536/", "port 443 or 8443"),
            ("https://hooks.example.com/" + "a" * 2048, "longer than 2,048"),
        ],
    )
    def test_everything_else_is_refused_with_one_reason(self, url, reason):
        with pytest.raises(WebhookAddressRefused, match=reason.replace("(", r"\(")) as caught:
            address.parse(url, PORTS)
        assert caught.value.field == "url"

    @given(st.text(alphabet="htps:/.@#?[]%0x1a-Z\\ é", max_size=40))
    def test_nothing_comes_through_in_two_forms(self, text):
        try:
            found = address.parse("https://" + text, PORTS)
        except WebhookAddressRefused:
            return
        assert address.parse(found.url, PORTS) == found
        assert not set(found.host) & set("@/#?\\% ")


REFUSED = {
    "0.0.0.0": "single host",
    "0.1.2.3": "private or reserved",
    "10.0.0.1": "private",
    "100.64.0.1": "private",
    "127.0.0.1": "private",
    "127.255.255.254": "private",
    "169.254.169.254": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "private",
    "192.0.2.1": "private",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "private",
    "198.51.100.1": "private",
    "203.0.113.1": "private",
    "224.0.0.1": "single host",
    "239.255.255.255": "single host",
    "240.0.0.1": "private",
    "255.255.255.255": "single host",
    "::": "single host",
    "::1": "IPv4-compatible",
    "::127.0.0.1": "IPv4-compatible",
    "::8.8.8.8": "IPv4-compatible",
    "::ffff:127.0.0.1": "private",
    "::ffff:10.0.0.1": "private",
    "::ffff:169.254.169.254": "private",
    "::ffff:224.0.0.1": "single host",
    "64:ff9b::8.8.8.8": "NAT64",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b:1::1": "NAT64",
    "100::1": "private",
    "2001::1": "Teredo",
    "2001:0:7f00:1::": "Teredo",
    "2001:db8::1": "private",
    "2002:7f00:1::": "6to4",
    "2002:808:808::1": "6to4",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "private",
    "fec0::1": "site-local",
    "ff02::1": "single host",
    "ff0e::1": "single host",
    "::ffff:0:127.0.0.1": "reserved",
    "::ffff:0:8.8.8.8": "reserved",
    "64:ff9b:2::1": "reserved",
    "4000::1": "reserved",
}


class TestNetworks:
    @staticmethod
    def refusal(text, rules=None, own=()):
        return networks.refusal(ipaddress.ip_address(text), rules or Rules(), lambda a: str(a) in own)

    @pytest.mark.parametrize(("text", "reason"), REFUSED.items())
    def test_refused(self, text, reason):
        assert reason in self.refusal(text)

    @pytest.mark.parametrize(
        "text", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1"]
    )
    def test_passes(self, text):
        assert self.refusal(text) == ""

    def test_the_machines_own(self):
        assert "this server" in self.refusal("8.8.8.8", own={"8.8.8.8"})
        assert "this server" in self.refusal("::ffff:8.8.8.8", own={"8.8.8.8"})

    def test_the_operators_own_network(self):
        rules = Rules(private=[ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")])
        assert self.refusal("10.2.3.4", rules) == ""
        assert self.refusal("::ffff:10.2.3.4", rules) == ""
        assert self.refusal("::1", rules, own={"::1"}) == ""
        assert self.refusal("192.168.1.1", rules)

    def test_a_range_of_the_operators_opens_no_address_of_this_server(self):
        own = {"10.2.3.4", "fd00::4"}
        ranges = Rules(private=[ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")])
        for text in ("10.2.3.4", "::ffff:10.2.3.4", "fd00::4"):
            assert "this server" in self.refusal(text, ranges, own)
        named = Rules(private=[*ranges.private, ipaddress.ip_network("10.2.3.4")])
        assert self.refusal("10.2.3.4", named, own) == ""
        assert "this server" in self.refusal("fd00::4", named, own)
        loopback = Rules(private=[ipaddress.ip_network("127.0.0.0/8")])
        assert self.refusal("127.0.0.9", loopback, own={"127.0.0.9"}) == ""

    def test_what_the_operator_refuses_stands_above(self):
        both = [ipaddress.ip_network("10.0.0.0/8")]
        rules = Rules(private=both, refused=[*both, ipaddress.ip_network("8.8.8.0/24")])
        for text in ("10.2.3.4", "::ffff:10.2.3.4", "8.8.8.8", "::ffff:8.8.8.8"):
            assert "operator refuses" in self.refusal(text, rules)

    def test_no_network_opens_what_is_no_single_host(self):
        rules = Rules(private=[ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])
        for text in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"):
            assert "single host" in self.refusal(text, rules)

    def test_a_zone(self):
        assert "zone" in self.refusal("2606:4700::1111%1")
