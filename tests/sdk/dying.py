"""Swaps a file's secret in processes that die at their n-th step, one after the other, as its input says.

A step is a change on the disk or a request. Run as a program, so that every death is a real one: SIGKILL.
"""

import json
import os
import signal
import sys
from pathlib import Path

import httpx
from keystead import Keystead
from keystead.commands import files  # noqa: F401 - imported before forks, as the command imports it
from keystead.errors import Busy, KeysteadError, SuccessorLost, Unfinished
from keystead.journal import Journal
from keystead.place import Place
from keystead.swap import Swap, Way

ON_DISK = ("open", "write", "fsync", "replace", "unlink", "ftruncate", "fchmod", "fchown")
SWAPPED, FAILED, LOST, UNFINISHED = 0, 4, 6, 7


class Steps:
    """Counts what is done, and dies before the n-th; with `torn`, in the middle of it."""

    def __init__(self, die_at: int, *, torn: bool) -> None:
        self.die_at = die_at
        self.torn = torn
        self.done: list[str] = []

    def watch(self, owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: object, **kwargs: object) -> object:
            self.done.append(name)
            if len(self.done) == self.die_at:
                self.die(real, name, *args, **kwargs)
            return real(*args, **kwargs)

        setattr(owner, name, step)

    def die(self, real, name, *args, **kwargs):
        if self.torn and name == "write":
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
        if self.torn and name == "send":
            # The portal has heard it, and its answer is lost.
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)


def swap(case: dict) -> tuple[int, str]:
    way = Way(command=case.get("command", ()), request=case.get("request"))
    try:
        with Place(Path(case["file"])) as place, Journal(place) as journal:
            Swap(place, journal, way, lambda secret: Keystead(case["url"], secret), lambda _: False).run()
    except SuccessorLost as error:
        return LOST, str(error)
    except (Unfinished, Busy) as error:
        return UNFINISHED, str(error)
    except KeysteadError as error:
        return FAILED, str(error)
    return SWAPPED, ""


def child(case: dict, pipe: int) -> None:
    write = os.write
    steps = Steps(case["die_at"], torn=case["torn"])
    for name in ON_DISK:
        steps.watch(os, name)
    steps.watch(httpx.Client, "send")
    code, said = swap(case)
    write(pipe, json.dumps({"code": code, "said": said, "steps": steps.done}).encode())
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        if os.fork() == 0:
            child(json.loads(line), writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.wait()
        answer = {"killed": os.WIFSIGNALED(status), **json.loads(told or b"{}")}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
