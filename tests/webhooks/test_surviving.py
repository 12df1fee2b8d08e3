"""Workers that are killed, that work at once, that meet a thousand dead receivers: none lost, nobody held up."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from audit import services
from audit.models import Delivery, Endpoint, Why
from audit.webhooks import claims, expansion, running, sending, signing
from tests import builders, cluster, receiver
from tests.webhooks import acting

SECONDS = 40


def eventually(check):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {SECONDS} s")


@pytest.fixture
def start(operator, hooks):
    """Start real workers on this process's database, for the receiver's port."""
    workers = []
    own = {
        "KEYSTEAD_WEBHOOK_PORTS": f"443,{hooks.port}",
        "KEYSTEAD_WEBHOOK_PRIVATE": "127.0.0.0/8",
        "KEYSTEAD_WEBHOOK_CA_FILE": str(hooks.ca_file),
        "DJANGO_SETTINGS_MODULE": "portal.settings",
    }

    def started():
        workers.append(
            subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=cluster.ROOT,
                env={**os.environ, **own},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return workers[-1]

    yield started
    for worker in workers:
        worker.kill()
        worker.wait(SECONDS)


@pytest.fixture
def made(operator, cast, hooks):
    return acting.made(cast, hooks.url(host="127.0.0.1"))


class TestKilled:
    def test_in_the_middle_of_an_attempt(self, made, cast, hooks, start):
        """The receiver has it, its answer was never recorded: it comes again, with the same id."""
        held = threading.Event()
        hooks.scripts["/hook"] = lambda handler: held.wait(SECONDS) and handler.send_error(500)
        worker = start()
        acting.cause(cast.acme)
        eventually(lambda: hooks.got)
        worker.send_signal(signal.SIGKILL)
        worker.wait(SECONDS)
        hooks.scripts.clear()
        held.set()
        (delivery,) = acting.deliveries(made.endpoint)
        assert (delivery.state, delivery.attempts, delivery.is_running) == ("pending", 0, True)
        acting.passes(cast.acme, claims.LEASE.total_seconds())
        start()
        eventually(lambda: acting.deliveries(made.endpoint)[0].state == "delivered")
        first, second = hooks.got
        assert first.id == second.id
        assert first.body == second.body
        first.verified(made.secret)
        second.verified(made.secret)

    def test_between_the_answer_and_its_record(self, made, cast, hooks, start):
        """The endpoint's row is held, so that the worker has the answer and can't write it down."""
        acting.cause(cast.acme)
        expansion.expand()
        with acting.within(made.endpoint):
            Endpoint.objects.select_for_update().get(pk=made.endpoint.pk)
            worker = start()
            eventually(lambda: hooks.got)
            time.sleep(0.5)
            worker.send_signal(signal.SIGKILL)
            worker.wait(SECONDS)
        (delivery,) = acting.deliveries(made.endpoint)
        assert delivery.state == "pending"
        acting.passes(cast.acme, claims.LEASE.total_seconds())
        acting.deliver()
        assert [got.id for got in hooks.got] == [delivery.id] * 2
        assert acting.deliveries(made.endpoint)[0].state == "delivered"

    def test_before_it_began(self, made, cast, hooks, start):
        """No worker at all: the entries wait in the ledger, and a mass act with them."""
        acting.cause(cast.acme, times=50)
        assert acting.deliveries(made.endpoint) == []
        start()
        eventually(lambda: len(hooks.got) >= 50)
        assert len({got.id for got in hooks.got}) == len(hooks.got) == 50

    def test_without_the_job_the_clock_does_it(self, made, cast, hooks, start):
        acting.cause(cast.acme)
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM procrastinate_jobs WHERE task_name LIKE 'audit.%' AND status = 'todo'"
            )
        start()
        eventually(lambda: hooks.got)


class TestAtOnce:
    def test_two_workers_send_nothing_twice(self, made, cast, hooks):
        acting.cause(cast.acme, times=200)

        def work(_):
            asyncio.run(running.Loop(timedelta(0)).run())

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, range(2)))
        assert len(hooks.got) == len({got.id for got in hooks.got}) == 200
        assert {each.state for each in acting.deliveries(made.endpoint)} == {"delivered"}

    def test_two_workers_claim_nothing_twice(self, made, cast):
        acting.cause(cast.acme, times=60)
        expansion.expand()

        def claim(_):
            try:
                return [each.id for each in claims.claim(3, {}, {})]
            finally:
                connections.close_all()

        with ThreadPoolExecutor(8) as threads:
            found = [each for some in threads.map(claim, range(8)) for each in some]
        assert len(found) == len(set(found))

    def test_two_workers_move_a_cursor_once(self, made, cast):
        acting.cause(cast.acme, times=300)

        def move(_):
            try:
                return expansion.expand_one(cast.acme.id, made.endpoint.id)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as threads:
            moved = list(threads.map(move, range(4)))
        assert sum(moved) == len(acting.deliveries(made.endpoint)) + 1 == 301

    def test_disabled_by_two_at_once_is_one_entry(self, made, cast):
        def disable(_):
            try:
                with acting.within(made.endpoint):
                    return claims.disable(made.endpoint, Why.GONE, actor=claims.WORKER)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(disable, range(4))) == [False, False, False, True]
        assert [entry.act for entry in builders.entries(cast.acme.id)].count("webhook.disabled") == 1

    def test_a_late_failure_changes_nothing_and_a_late_success_counts(self, made, cast):
        acting.cause(cast.acme)
        expansion.expand()
        (first,) = claims.claim(1, {}, {})
        acting.passes(cast.acme, claims.LEASE.total_seconds())
        (second,) = claims.claim(1, {}, {})
        assert first.id == second.id
        at = acting.deliveries(made.endpoint)[0].created_at
        claims.record(first, at, sending.Answer(outcome=sending.Outcome.REFUSED, status=500))
        assert acting.deliveries(made.endpoint)[0].claim == second.claim
        assert claims.prepare(first) is None
        claims.record(first, at, sending.Answer(outcome=sending.Outcome.DELIVERED, status=200))
        claims.record(second, at, sending.Answer(outcome=sending.Outcome.REFUSED, status=500))
        (delivery,) = acting.deliveries(made.endpoint)
        assert (delivery.state, len(acting.attempts(made.endpoint))) == ("delivered", 3)


class TestStopping:
    def test_removed_while_it_waits(self, made, cast, hooks):
        acting.cause(cast.acme, times=5)
        expansion.expand()
        (claimed,) = claims.claim(1, {}, {})
        with acting.within(made.endpoint):
            services.remove_endpoint(made.endpoint, actor=cast.member(cast.alice))
        assert claims.prepare(claimed) is None
        claims.record(claimed, timezone_now(), sending.Answer(outcome=sending.Outcome.REFUSED))
        acting.deliver()
        assert hooks.got == []

    def test_disabled_while_it_waits_and_resent_when_enabled(self, made, cast, hooks):
        alice = cast.member(cast.alice)
        # An entry's time has milliseconds.
        began = timezone_now() - timedelta(milliseconds=1)
        acting.cause(cast.acme, times=5)
        expansion.expand()
        with acting.within(made.endpoint):
            services.disable_endpoint(made.endpoint, actor=alice)
        acting.cause(cast.acme, times=2)
        acting.deliver()
        assert hooks.got == []
        with acting.within(made.endpoint):
            services.enable_endpoint(made.endpoint, actor=alice)
        acting.deliver()
        assert hooks.got == []
        with acting.within(made.endpoint):
            assert services.resend_range(made.endpoint, began, timezone_now(), actor=alice) == 7
        acting.deliver()
        assert len({got.id for got in hooks.got}) == len(hooks.got) == 7

    def test_a_test_event_reaches_a_disabled_one(self, made, cast, hooks):
        alice = cast.member(cast.alice)
        with acting.within(made.endpoint):
            services.disable_endpoint(made.endpoint, actor=alice)
            services.send_test_event(made.endpoint, actor=alice)
        acting.deliver()
        (got,) = hooks.got
        assert got.verified(made.secret)["type"] == "webhook.test"

    def test_resent_keeps_its_id(self, made, cast, hooks):
        acting.cause(cast.acme)
        acting.deliver()
        (delivery,) = acting.deliveries(made.endpoint)
        with acting.within(made.endpoint):
            services.resend_delivery(Delivery.objects.get(), actor=cast.member(cast.alice))
        acting.deliver()
        assert [got.id for got in hooks.got] == [delivery.id] * 2
        assert delivery.id == signing.message_id(made.endpoint.id, delivery.epoch, delivery.index)


@pytest.mark.timed
class TestFairness:
    def test_dead_receivers_hold_nobody_up(self, operator, cast, hooks, monkeypatch):
        """Twenty silent endpoints with a hundred deliveries each, and one of somebody else's that answers."""
        monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 4.0)
        with receiver.silent() as port:
            operator.WEBHOOK_PORTS = frozenset({hooks.port, port})
            for _ in range(20):
                acting.made(cast, f"https://127.0.0.1:{port}/")
            acting.cause(cast.acme, times=100)
            healthy = acting.made(cast, hooks.url(), by=cast.mallory, where=cast.elsewhere)
            acting.cause(cast.elsewhere, times=30)
            began = time.monotonic()
            seen = []

            async def main():
                loop = running.Loop(timedelta(0))
                task = asyncio.create_task(loop.run())
                while len(hooks.got) < 30 and time.monotonic() - began < 20:
                    await asyncio.sleep(0.05)
                    seen.append(len(loop.running))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            asyncio.run(main())
            assert len(hooks.got) == 30
            assert time.monotonic() - began < 4.0
            assert max(seen) <= claims.PER_ORGANIZATION + claims.PER_ENDPOINT
        assert {each.state for each in acting.deliveries(healthy.endpoint)} <= {"delivered", "pending"}


def timezone_now():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
