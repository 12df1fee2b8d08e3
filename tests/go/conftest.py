"""The programs, built once for the process that needs them."""

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.go import toolchain

JUDGE_SECONDS = 300


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[dict[str, Any]]], list[str]]:
    """A function from cases to what Go says of each: `ok` or `refused: …`, all by one process."""
    source = Path(__file__).with_name("judge.go")
    program = toolchain.build(source, tmp_path_factory.mktemp("judge"))

    def judged(cases: Iterable[dict[str, Any]]) -> list[str]:
        done = subprocess.run(
            [program],
            input="".join(json.dumps(case) + "\n" for case in cases),
            capture_output=True,
            text=True,
            timeout=JUDGE_SECONDS,
            check=True,
        )
        return done.stdout.splitlines()

    return judged


@pytest.fixture(scope="session")
def check_ledger(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The customers' program, as a function of its arguments."""
    source = toolchain.ROOT / "docs" / "check_ledger.go"
    program = toolchain.build(source, tmp_path_factory.mktemp("check_ledger"))

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=JUDGE_SECONDS, check=False
        )

    return run
