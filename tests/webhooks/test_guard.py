"""Where a delivery may go, through the real services and with a real receiver: on saving and at every attempt."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from audit import services, tenancy
from audit.errors import WebhookAddressRefused
from audit.models import Endpoint
from audit.services import Changes
from audit.webhooks import guard, sending
from tests import builders
from tests.unit.test_webhooks import REFUSED
from tests.webhooks import acting

GOOD = "1.1.1.1"
NAME = "customer.example.net"


@pytest.fixture
def production(names, settings):
    """Settings as they come: nothing of the operator's own."""
    names[NAME] = [GOOD]
    return settings


def refused(cast, url):
    """Return why nothing may be made for a URL: nothing was, and no entry tells of it."""
    with builders.gains(cast.acme.id), pytest.raises(WebhookAddressRefused) as caught:
        acting.made(cast, url)
    with tenancy.within(cast.acme.id):
        assert not Endpoint.objects.exists()
    return caught.value.detail


@pytest.mark.usefixtures("production")
class TestSaving:
    @pytest.mark.parametrize(("answer", "reason"), REFUSED.items())
    def test_every_answer_must_pass(self, module_cast, names, answer, reason):
        for answers in ([answer], [GOOD, answer], [answer, "2606:4700::1111"]):
            names[NAME] = answers
            assert reason in refused(module_cast, f"https://{NAME}/")

    @pytest.mark.parametrize(("answer", "reason"), REFUSED.items())
    def test_so_must_an_address_in_its_place(self, module_cast, answer, reason):
        host = f"[{answer}]" if ":" in answer else answer
        assert reason in refused(module_cast, f"https://{host}/")

    @pytest.mark.parametrize(
        "url",
        [
            "http://customer.example.net/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://customer.example.net:22/",
            "https://localhost/",
            "https://customer.example.net@127.0.0.1/",
            "https://customer.example.net./",
        ],
    )
    def test_so_must_the_writing(self, module_cast, url):
        assert refused(module_cast, url)

    def test_a_name_without_an_address(self, cast):
        assert refused(cast, "https://nowhere.example.net/") == "The host's name has no address."

    @pytest.mark.timed
    def test_a_name_server_that_never_answers_is_not_waited_for(self, cast, monkeypatch):
        monkeypatch.setattr(guard, "resolver", lambda *_: time.sleep(8) or [GOOD])
        began = time.monotonic()
        assert "in time" in refused(cast, f"https://{NAME}/")
        assert time.monotonic() - began < 5

    def test_a_change_is_checked_as_well(self, cast, names):
        made = acting.made(cast, f"https://{NAME}/")
        names[NAME] = ["10.0.0.1"]
        with builders.gains(cast.acme.id), pytest.raises(WebhookAddressRefused), acting.within(made.endpoint):
            services.change_endpoint(
                made.endpoint, Changes(url=f"https://{NAME}/other"), actor=cast.member(cast.alice)
            )

    def test_the_operators_lists(self, cast, names, settings):
        names[NAME] = ["10.1.2.3"]
        assert refused(cast, f"https://{NAME}/")
        settings.WEBHOOK_PRIVATE = networks("10.1.0.0/16")
        acting.made(cast, f"https://{NAME}/")
        settings.WEBHOOK_REFUSED = networks("10.1.2.0/24", "1.1.1.0/24")
        for host in (NAME, GOOD):
            with pytest.raises(WebhookAddressRefused, match="operator refuses"):
                acting.made(cast, f"https://{host}/")

    def test_wider_ports(self, cast, settings):
        assert "port 443 or 8443" in refused(cast, f"https://{NAME}:9443/")
        settings.WEBHOOK_PORTS = frozenset({443, 9443})
        assert acting.made(cast, f"https://{NAME}:9443/").endpoint.url == f"https://{NAME}:9443/"
        with pytest.raises(WebhookAddressRefused, match="port 443 or 9443"):
            acting.made(cast, f"https://{NAME}:8443/")


class TestNameServersThatNeverAnswer:
    """Whose look-ups hang hangs alone."""

    @pytest.fixture(autouse=True)
    def answering(self, monkeypatch):
        """The event upon which the slow names are answered at last."""
        event = threading.Event()

        def resolve(host, _port):
            if host.startswith("slow"):
                event.wait(60)
            return [GOOD]

        self.idle()
        monkeypatch.setattr(guard, "resolver", resolve)
        monkeypatch.setattr(guard, "SAVING_SECONDS", 0.05)
        yield event
        event.set()
        self.idle()

    def idle(self):
        self.wait(lambda: all(lookup.done() for _, lookup in guard._saving))

    def wait(self, is_so):
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def hang(self, organization_id):
        """Hold all places of an organization: a look-up that no thread began in time holds none."""
        while [(each, lookup.done()) for each, lookup in guard._saving].count(
            (organization_id, False)
        ) < guard.SAVING_EACH:
            with pytest.raises(WebhookAddressRefused, match="in time"):
                guard.check("https://slow.example.net/", organization_id)

    def served(self, cast):
        """Make an endpoint whose name is answered at once, however late this machine's threads begin."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(guard, "SAVING_SECONDS", 20)
            return acting.made(cast, f"https://{NAME}/")

    def test_four_hold_up_ones_own_organization_alone(self, cast):
        self.hang(cast.acme.id)
        for host in ("slow9.example.net", NAME):
            with builders.gains(cast.acme.id), pytest.raises(WebhookAddressRefused) as caught:
                acting.made(cast, f"https://{host}/")
            assert (caught.value.field, caught.value.detail) == (
                "url",
                "The names of earlier addresses are still being looked up; try again in a moment.",
            )
        assert self.served(builders.cast()).endpoint.host == f"https://{NAME}"

    def test_a_change_is_held_up_as_well(self, cast):
        made = self.served(cast)
        self.hang(cast.acme.id)
        changes = Changes(url=f"https://{NAME}/other")
        with (
            pytest.raises(WebhookAddressRefused, match="still being looked up"),
            acting.within(made.endpoint),
        ):
            services.change_endpoint(made.endpoint, changes, actor=cast.member(cast.alice))

    def test_the_place_comes_back_when_a_look_up_ends(self, cast, answering):
        self.hang(cast.acme.id)
        assert refused(cast, f"https://{NAME}/") == guard.BUSY
        answering.set()
        self.idle()
        self.served(cast)
        answering.clear()
        self.hang(cast.acme.id)

    def test_a_name_that_fails_gives_its_place_back(self, cast, monkeypatch):
        def fail(*_):
            raise OSError(-2, "Name or service not known")

        monkeypatch.setattr(guard, "resolver", fail)
        monkeypatch.setattr(guard, "SAVING_SECONDS", 20)
        for _ in range(2 * guard.SAVING_EACH):
            assert refused(cast, f"https://{NAME}/") == guard.UNKNOWN

    def test_an_address_is_nobodys_to_look_up(self, cast):
        self.hang(cast.acme.id)
        assert acting.made(cast, f"https://{GOOD}/").endpoint.host == f"https://{GOOD}"

    def test_all_organizations_together_leave_half_of_the_threads(self, cast, answering, monkeypatch):
        monkeypatch.setattr(guard, "SAVING_SECONDS", 20)

        def save(number):
            return guard.check(f"https://slow{number}.example.net/", f"org_{number // guard.SAVING_EACH}")

        with ThreadPoolExecutor(guard.SAVING_ALL) as threads:
            saved = [threads.submit(save, number) for number in range(guard.THREADS // 2)]
            self.wait(lambda: len(guard._saving) == guard.THREADS // 2)
            for number in range(guard.THREADS // 2, guard.THREADS):
                with pytest.raises(WebhookAddressRefused) as caught:
                    save(number)
                assert caught.value.detail == guard.BUSY
            assert refused(cast, f"https://{NAME}/") == guard.BUSY
            destination = guard.addresses.parse(f"https://{NAME}/", frozenset({443}))
            deliveries = [guard.start_lookup(destination) for _ in range(guard.THREADS)]
            assert [each.result(20) for each in deliveries] == [[GOOD]] * guard.THREADS
            assert not any(each.done() for each in saved)
            answering.set()
            assert all(each.result() for each in saved)

    def test_a_race_is_no_way_around_it(self, monkeypatch):
        monkeypatch.setattr(guard, "SAVING_SECONDS", 1)

        def save(number):
            with pytest.raises(WebhookAddressRefused) as caught:
                guard.check(f"https://slow{number}.example.net/", "org_racing")
            return caught.value.detail

        with ThreadPoolExecutor(16) as threads:
            found = list(threads.map(save, range(64)))
        assert found.count(guard.BUSY) == 64 - guard.SAVING_EACH

    def test_what_no_thread_began_is_not_begun_after_its_time(self, answering):
        destination = guard.addresses.parse("https://slow.example.net/", frozenset({443}))
        deliveries = [guard.start_lookup(destination) for _ in range(guard.THREADS)]
        for _ in range(2 * guard.SAVING_EACH):
            with pytest.raises(WebhookAddressRefused, match="in time"):
                guard.check(f"https://{NAME}/", "org_waiting")
        answering.set()
        assert all(each.result(20) for each in deliveries)


class TestOwnAddresses:
    def test_the_loopback_is_ones_own_and_others_are_not(self):
        assert guard.is_own(guard.ipaddress.ip_address("127.0.0.1"))
        assert guard.is_own(guard.ipaddress.ip_address("127.9.9.9"))
        for other in ("192.0.2.77", "8.8.8.8", "2606:4700::1111"):
            assert not guard.is_own(guard.ipaddress.ip_address(other))

    def test_every_address_of_this_machine(self):
        found = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None)}
        assert found
        assert all(guard.is_own(guard.ipaddress.ip_address(str(each).partition("%")[0])) for each in found)

    def test_where_any_address_can_be_bound_the_way_to_it_decides(self, monkeypatch):
        monkeypatch.setattr(guard, "_binds", lambda *_: True)
        monkeypatch.setattr(guard, "_begins_at_itself", lambda _, address: address == "8.8.8.8")
        assert guard.is_own(guard.ipaddress.ip_address("8.8.8.8"))
        assert not guard.is_own(guard.ipaddress.ip_address("8.8.4.4"))

    def test_the_way_to_ones_own_address_begins_at_it(self):
        assert guard._begins_at_itself(socket.AF_INET, "127.0.0.1")

    def test_a_public_address_of_this_machine_is_refused(self, module_cast, production, monkeypatch):
        monkeypatch.setattr(guard, "is_own", lambda address: str(address) == GOOD)
        assert "this server" in refused(module_cast, f"https://{NAME}/")


class TestEveryAttempt:
    @pytest.fixture
    def made(self, operator, cast, hooks):
        return acting.made(cast, hooks.url())

    def test_a_name_that_leads_elsewhere_by_now(self, made, cast, hooks, names, settings):
        settings.WEBHOOK_PRIVATE = networks("127.0.0.1/32")
        acting.cause(cast.acme)
        for answers in (["127.0.0.2"], ["127.0.0.1", "10.0.0.1"], ["::1"], ["169.254.169.254"], []):
            names["hooks.example.com"] = answers
            acting.deliver()
            acting.passes(cast.acme, 27 * 3600)
        assert hooks.got == []
        found = acting.attempts(made.endpoint)
        assert [each.outcome for each in found] == ["address_refused"] * 5
        assert all(each.detail and each.status is None for each in found)
        assert "private or reserved" in found[0].detail

    def test_rebinding_between_the_look_and_the_connection(self, made, cast, hooks, monkeypatch, settings):
        """One look-up an attempt: the second answer of a name that flips is never asked for."""
        settings.WEBHOOK_PRIVATE = networks("127.0.0.1/32")
        asked = []

        def flipping(*_):
            asked.append(1)
            return ["127.0.0.1"] if len(asked) % 2 else ["127.0.0.2"]

        monkeypatch.setattr(guard, "resolver", flipping)
        acting.cause(cast.acme)
        acting.deliver()
        assert len(hooks.got) == len(asked) == 1

    def test_the_operator_narrows_what_was_saved(self, made, cast, hooks, settings):
        acting.cause(cast.acme)
        settings.WEBHOOK_PORTS = frozenset({443})
        acting.deliver()
        settings.WEBHOOK_PORTS = frozenset({443, hooks.port})
        settings.WEBHOOK_PRIVATE = ()
        acting.passes(cast.acme, 10)
        acting.deliver()
        assert hooks.got == []
        assert [each.outcome for each in acting.attempts(made.endpoint)] == ["address_refused"] * 2

    def test_a_name_that_is_gone(self, made, cast, names):
        names.clear()
        acting.cause(cast.acme)
        acting.deliver()
        (attempt,) = acting.attempts(made.endpoint)
        assert (attempt.outcome, attempt.detail) == ("name_unknown", "The host's name has no address.")

    @pytest.mark.timed
    def test_a_name_server_that_never_answers(self, made, cast, monkeypatch):
        monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 0.5)
        monkeypatch.setattr(guard, "resolver", lambda *_: time.sleep(2) or ["127.0.0.1"])
        acting.cause(cast.acme)
        acting.deliver()
        (attempt,) = acting.attempts(made.endpoint)
        assert attempt.outcome == "timed_out"
        assert attempt.duration_ms < 1500

    def test_another_address_of_the_name_is_tried(self, made, cast, hooks, names):
        names["hooks.example.com"] = ["127.0.0.3", "127.0.0.1"]
        acting.cause(cast.acme)
        acting.deliver()
        assert len(hooks.got) == 1


def networks(*texts):
    return tuple(guard.ipaddress.ip_network(text) for text in texts)


@pytest.fixture(scope="module")
def module_cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()
