"""Whatever system call fails, and wherever the notary is killed: never two roots for a size, and it goes on.

`strace` fails the k-th call of its kind among those that concern the notary's folder, for every k that a run makes, so
that the interpreter's own start is left alone. Between two runs the database is put back and goes another way.
"""

import re
import resource

import pytest

from audit import note
from audit.notary import state
from tests import debian, notaries
from tests.notary.stage import Stage

CALLS = ("openat", "write", "fsync", "fdatasync", "rename", "renameat", "renameat2", "ftruncate")
EIO, ENOSPC, KILL = "error=EIO", "error=ENOSPC", "signal=KILL"
CALLED = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)


class Sworn:
    """Every root that was ever seen for a size of a log, in the file, in the table and in what was printed."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.roots: dict[tuple[str, int], bytes] = {}

    def look(self, printed: str = "") -> None:
        """Take in what is there now; nothing may contradict what was seen before."""
        found = state.load(self.stage.folder)
        for signed in found.logs.values() if found else ():
            self._swear(signed.origin, signed.point.size, signed.point.root)
        notes = [text for (text,) in self.stage.rows("SELECT note FROM audit_checkpoint")]
        notes += re.findall(r"[a-z.]+/ledger/org_\w+\n\d+\n\S+\n\n(?:— .+\n)+", printed)
        for text in notes:
            origin = text.partition("\n")[0]
            told = note.open_checkpoint(text, origin, [note.VerifierKey.of(origin, notaries.KEY)])
            self._swear(told.origin, told.size, told.root)

    def _swear(self, origin: str, size: int, root: bytes) -> None:
        assert self.roots.setdefault((origin, size), root) == root, (
            f"two roots for {size} entries of {origin}"
        )


def strace(stage, log, fault=None):
    folder = stage.folder
    paths = [folder, *(folder / name for name in (state.NAME, state.DRAFT, state.LOCK, "private.pem"))]
    return [
        debian.find("strace"),
        # A stop by seccomp is quicker, but no signal is delivered there.
        *([] if fault and KILL in fault else ["--seccomp-bpf"]),
        *("-f", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"),
        *(word for path in paths for word in ("-P", str(path))),
        *(("-e", f"inject={fault}") if fault else ()),
    ]


def counted(stage, log):
    """Return how often each call is made that concerns the folder, by a run that signs in its first round."""
    stage.new(3)
    done = stage.run("run", "--rounds=2", wrapped=strace(stage, log))
    assert done.returncode == 0, done.stderr
    calls = CALLED.findall(log.read_text())
    return {call: calls.count(call) for call in CALLS if call in calls}


def survive(stage, sworn, sound, fault, log):
    """Let one run meet a fault, put the database back to another history, and let the next one go on."""
    organization_id = stage.new(3)
    stage.append(sound)
    failed = stage.run("run", "--rounds=2", wrapped=strace(stage, log, fault))
    assert failed.returncode != 0, (fault, failed.stderr)
    sworn.look(failed.stdout + failed.stderr)
    in_file = stage.point(organization_id)
    stage.roll_back(organization_id, 1)
    stage.append(organization_id, 4, word="other")
    stage.run_here(2)
    sworn.look()
    [(size,)] = stage.rows("SELECT size FROM audit_head WHERE organization_id = %s", sound)
    assert stage.signed(sound) == size, fault
    if in_file is None:
        assert stage.signed(organization_id) == 5, fault
    else:
        # What the first run may have signed is the truth: the other history never is.
        assert (in_file.size, stage.signed(organization_id)) == (3, 3), fault
        assert stage.alarms()[organization_id]["kind"] == "rewritten", fault
    return in_file is None


def limit_files():
    """Let no file grow beyond 64 bytes, as on a disk that is full in the middle of a write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


@pytest.fixture(scope="module")
def shared_sworn(shared):
    debian.ensure("strace")
    return Sworn(shared)


class TestFaults:
    @pytest.mark.parametrize("fault", [EIO, KILL])
    def test_each_call_at_each_occurrence(self, shared, shared_sworn, tmp_path, fault):
        log, sound = tmp_path / "strace", shared.new(2)
        counts = counted(shared, log)
        assert counts == {"openat": 8, "write": 2, "fsync": 4, "rename": 2}
        faults = [f"{call}:{fault}:when={k}" for call, times in counts.items() for k in range(1, times + 1)]
        unsigned = [each for each in faults if survive(shared, shared_sworn, sound, each, log)]
        # What failed before the new content took its name left no trace, what failed after was signed as it is there.
        assert {f"rename:{fault}:when=2", f"fsync:{fault}:when=3", f"write:{fault}:when=2"} <= set(unsigned)
        assert set(faults) - set(unsigned) == {f"openat:{fault}:when=8", f"fsync:{fault}:when=4"}

    def test_no_space(self, shared, shared_sworn, tmp_path):
        sound = shared.new(2)
        assert survive(shared, shared_sworn, sound, f"write:{ENOSPC}:when=2", tmp_path / "strace")

    def test_a_write_that_ends_in_the_middle(self, shared, shared_sworn):
        organization_id = shared.new(3)
        failed = shared.run("run", "--rounds=2", before=limit_files)
        assert failed.returncode == 1
        assert "File too large" in failed.stderr
        assert shared.signed(organization_id) == 0
        shared_sworn.look(failed.stdout + failed.stderr)
        shared.run_here(1)
        assert shared.signed(organization_id) == 3
