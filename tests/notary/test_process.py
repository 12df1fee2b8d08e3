"""The process: it signs within seconds, watches, and refuses where another could sign."""

import signal

from audit.management.commands.notary import Command
from tests.notary.stage import until


class TestRun:
    def test_growth_is_signed_within_ten_seconds_and_a_signal_ends_it(self, stage):
        organization_id = stage.new(3)
        with stage.running() as notary:
            until(10, lambda: stage.signed(organization_id) == 3)
            stage.append(organization_id, 2)
            until(10, lambda: stage.signed(organization_id) == 5)
            until(10, lambda: stage.pulse()["swept_at"])
            notary.send_signal(signal.SIGTERM)
            assert notary.wait(10) == 0
        assert [line["event"] for line in stage.log()] == [
            "notary started",
            "signed",
            "signed",
            "notary stopped",
        ]
        assert stage.alarms() == {}


def test_without_an_action_it_runs():
    parser = Command().create_parser("manage.py", "notary")
    chosen = parser.parse_args([])
    assert (chosen.action, chosen.folder, chosen.take_over, chosen.rounds) == ("run", None, False, None)
    assert parser.parse_args(["run", "--rounds", "2"]).rounds == 2
