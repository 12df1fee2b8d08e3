"""A receiver, the operator's settings that let deliveries reach it, and names that lead to it."""

import ipaddress
from collections.abc import Iterator

import pytest

from audit import tenancy
from audit.models import Endpoint
from audit.webhooks import guard
from tests import builders, receiver
from tests.receiver import Receiver

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="session")
def _serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver.running(tmp_path_factory.mktemp("receiver")) as found:
        yield found


@pytest.fixture
def hooks(_serving: Receiver) -> Receiver:
    """The receiver, as if nothing had ever come."""
    _serving.got.clear()
    _serving.scripts.clear()
    _serving.names.clear()
    return _serving


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each name resolves to: the DNS of these tests. An unknown one has no address."""
    known = {receiver.NAME: ["127.0.0.1"]}

    def resolve(host: str, port: int) -> list[str]:
        if host not in known:
            raise OSError(-2, "Name or service not known")
        return known[host]

    monkeypatch.setattr(guard, "resolver", resolve)
    return known


@pytest.fixture
def operator(settings, hooks: Receiver, names: dict[str, list[str]]):
    """Settings of an operator who delivers within its own network: to the loopback. Nothing waits from other tests."""
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        Endpoint.objects.all().delete()
    settings.WEBHOOK_PORTS = frozenset({443, 8443, hooks.port})
    settings.WEBHOOK_PRIVATE = LOOPBACK
    settings.WEBHOOK_CA_FILE = str(hooks.ca_file)
    return settings


@pytest.fixture
def cast() -> builders.Cast:
    return builders.cast()
