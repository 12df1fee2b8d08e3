"""Whoever checks a ledger without us: somebody with the commands of the customers' page, in a folder of their own."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r'<pre id="command-([a-z_]+)"[^>]*>(.*?)</pre>', re.DOTALL)
# The command as an installed distribution has it (its installing: test_installing).
INSTALLED = f'#!/bin/sh\nexec {sys.executable} -c "import sys; from keystead.cli import main; sys.exit(main())" "$@"\n'
# Building Go's library anew takes a minute where several do it at once.
SECONDS = 180


def commands(page: str) -> dict[str, str]:
    """Return the commands that the page shows, by their names."""
    return {name: html.unescape(text) for name, text in COMMAND.findall(page)}


class Customer:
    """Somebody with the page's commands and a key."""

    def __init__(self, folder: Path, shown: dict[str, str], key: str = "") -> None:
        self.folder, self.shown = folder, shown
        self.environment = {
            "PATH": f"{folder / 'check' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            # What the person's own Go has built before.
            "GOCACHE": os.environ.get("GOCACHE") or str(Path.home() / ".cache" / "go-build"),
            "KEYSTEAD_KEY": key,
            "PYTHONPATH": str(ROOT / "sdk" / "src"),
        }
        command = folder / "check" / "bin" / "keystead"
        command.parent.mkdir(parents=True)
        command.write_text(INSTALLED)
        command.chmod(0o755)

    def run(self, *names: str, older: str = "") -> subprocess.CompletedProcess[str]:
        """Run commands of the page in one shell."""
        return self.shell("\n".join(self.shown[name].replace("OLDER", older) for name in names))

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in a shell."""
        return subprocess.run(
            ["/bin/sh"],
            input=script,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
