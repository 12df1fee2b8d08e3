"""`./dev check`: formatter, linters, types, imports, templates, migrations, deployment, requirements."""

# ruff: noqa: T201 - it speaks to the person at the terminal

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import cluster

ROOT = Path(__file__).resolve().parent.parent
# A deployment's settings without a server: what is checked needs none.
DEPLOYMENT = {
    "DATABASE_URL": "postgres://keystead_app@/keystead?host=/nonexistent",
    "DATABASE_MIGRATE_URL": "postgres://keystead_migrate@/keystead?host=/nonexistent",
    "DATABASE_VERIFY_URL": "postgres://keystead_verify@/keystead?host=/nonexistent",
    "DATABASE_NOTARY_URL": "postgres://keystead_notary@/keystead?host=/nonexistent",
    "KEYSTEAD_SECRET_KEY": "only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz",
    "KEYSTEAD_PEPPER": f"1:{'5a' * 32}",
    "KEYSTEAD_ENCRYPTION_KEYS": cluster.SETTINGS["KEYSTEAD_ENCRYPTION_KEYS"],
    "KEYSTEAD_BASE_URL": "https://keys.example.com",
    "LEDGER_PUBLIC_KEY": cluster.SETTINGS["LEDGER_PUBLIC_KEY"],
    "DJANGO_SETTINGS_MODULE": "portal.settings",
}
# The history can't be compared without a server; the models and the migrations can.
WITHOUT_SERVER = "ignore:Got an error checking a consistent migration history:RuntimeWarning"
PYTHON = (sys.executable, "-m")
MANAGE = (sys.executable, "-W", "error", "-W", WITHOUT_SERVER, "manage.py")
COMMANDS: dict[str, tuple[str, ...]] = {
    "format": (*PYTHON, "ruff", "format", "--check", "--output-format=concise", "."),
    "lint": (*PYTHON, "ruff", "check", "--output-format=concise", "."),
    "types": (*PYTHON, "mypy"),
    "imports": (str(Path(sys.executable).with_name("lint-imports")),),
    "templates": (*PYTHON, "djlint", "--lint", "--quiet", "templates"),
    "migrations": (*MANAGE, "makemigrations", "--check", "--dry-run"),
    "deployment": (*MANAGE, "check", "--deploy", "--fail-level", "WARNING"),
}
# Addresses of package indexes and what names them; a link to a project's page is none.
INDEX_ADDRESS = re.compile(
    r"""https?://[^\s"'<>)]+/simple(?:[/\s"'<>)]|$)
    | files\.python[h]osted\.org
    | registry\.(?:[n]pmjs\.org|yarn[p]kg\.com)
    | (?:--|\b)(?:extra[-_])?(?:index[-_]url|find[-_]links)[\s=:"']+https?://
    | "resolved":\s*"https?://
    | \b(?:PIP|UV)_[A-Z_]*INDEX[A-Z_]*\s*[=:]\s*["']?https?://""",
    re.VERBOSE | re.MULTILINE,
)


def main() -> int:
    """Run every check, print what failed with its output, return 1 where one did."""
    checks: dict[str, Callable[[], str]] = {name: _runner(command) for name, command in COMMANDS.items()}
    checks |= {"requirements": check_requirements, "index addresses": check_index_addresses}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        outcomes = dict(zip(checks, threads.map(lambda check: check(), checks.values()), strict=True))
    failed = {name: output for name, output in outcomes.items() if output}
    for name, output in failed.items():
        print(f"──── {name}\n{output.rstrip()}\n")
    for name in checks:
        print(f"check: {name:<16} {'FAILED' if name in failed else 'ok'}")
    return int(bool(failed))


def _runner(command: tuple[str, ...]) -> Callable[[], str]:
    def run() -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **DEPLOYMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        said = (done.stdout + done.stderr).strip()
        return "" if done.returncode == 0 else said or f"{' '.join(command)} ended with {done.returncode}"

    return run


def check_requirements() -> str:
    """Return what is wrong with the requirement files: stale against pyproject.toml, or not hashed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = project["project"]["dependencies"]
    return "\n".join(
        [
            *_stale("requirements.txt", wanted),
            *_stale("requirements-dev.txt", [*wanted, *_members(groups, "dev")]),
            *_differing(),
        ]
    )


def _members(groups: dict[str, list[object]], name: str) -> list[str]:
    found: list[str] = []
    for member in groups[name]:
        found += _members(groups, member["include-group"]) if isinstance(member, dict) else [str(member)]
    return found


def _pins(file: str) -> dict[str, Version]:
    pinned = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)", (ROOT / file).read_text(), re.MULTILINE
    )
    return {canonicalize_name(name): Version(version) for name, version in pinned}


def _stale(file: str, wanted: list[str]) -> list[str]:
    """Return a line for each requirement that the file pins to no fitting version, or without a hash."""
    pins, lines = _pins(file), []
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None or not requirement.specifier.contains(pin, prereleases=True):
            lines.append(f"{file}: {requirement} is pinned to {pin}; run ./dev lock.")
    blocks = re.split(r"\n(?=\S)", (ROOT / file).read_text().strip())
    lines += [
        f"{file}: no hash: {block.splitlines()[0]}" for block in blocks if "--hash=sha256:" not in block
    ]
    return lines


def _differing() -> list[str]:
    production, development = _pins("requirements.txt"), _pins("requirements-dev.txt")
    return [
        f"{name} is {version} in production and {development.get(name)} in development; run ./dev lock."
        for name, version in production.items()
        if development.get(name) != version
    ]


def check_index_addresses() -> str:
    """Return each place in a committed file that names a package index."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return f"git ls-files failed: {listed.stderr.strip()}"
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        found += [f"{name}:{text.count('\n', 0, hit.start()) + 1}" for hit in INDEX_ADDRESS.finditer(text)]
    return "\n".join(found)


if __name__ == "__main__":
    sys.exit(main())
