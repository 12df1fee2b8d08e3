"""`pip install ./sdk` as a new user does it: the one test that asks the package index, for hatchling and httpx."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.sdk import serving
from tests.sdk.test_asgi import bearer, closing

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk"
SOURCES = SDK / "src" / "keystead"
OLDEST = (3, 10)
SECONDS = 120


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh environment that has nothing but what the distribution asks for, and its Python."""
    folder = tmp_path_factory.mktemp("venv")
    # A copy: what a build leaves behind is not the tree's.
    shutil.copytree(SDK, folder / "sdk", ignore=shutil.ignore_patterns("__pycache__", "dist"))
    run(sys.executable, "-m", "venv", folder / "own")
    python = folder / "own" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-input", folder / "sdk")
    return python


def run(*command):
    known = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "DJANGO_SETTINGS_MODULE"}
    }
    done = subprocess.run(
        list(map(str, command)), env=known, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_installs_with_its_command_and_its_types(installed):
    version = run(installed.with_name("keystead"), "--version").strip()
    said = run(installed, "-c", "import keystead; print(keystead.__version__); print(keystead.__file__)")
    assert said.splitlines()[0] == version
    package = Path(said.splitlines()[1]).parent
    assert "site-packages" in package.parts
    assert (package / "py.typed").exists()
    shipped = {path.relative_to(package) for path in package.rglob("*.py")}
    assert shipped == {path.relative_to(SOURCES) for path in SOURCES.rglob("*.py")}


def test_it_needs_httpx_and_no_framework(installed):
    code = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    assert not {"Django", "fastapi", "starlette", "cryptography"} & set(run(installed, "-c", code).split())
    run(installed, "-W", "error", "-c", "import keystead, keystead.asgi, keystead.wsgi, keystead.cli")


@pytest.mark.parametrize(
    "path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES))
)
def test_the_oldest_python_can_read_it(path):
    ast.parse(path.read_text(), feature_version=OLDEST)


def test_the_readmes_ten_lines_protect_an_app(portal, presented, monkeypatch):
    """They are run as they stand."""
    text = (SDK / "README.md").read_text()
    block = text.split("```python\n", 1)[1].split("```", 1)[0]
    assert len(list(filter(str.strip, block.splitlines()))) <= 10
    monkeypatch.setenv("KEYSTEAD_URL", portal.url)
    monkeypatch.setenv("KEYSTEAD_KEY", portal.key)
    made = {}
    exec(block, made)  # noqa: S102
    made["app"].router.lifespan_context = closing(made["reading"]._client)
    with serving.asgi(made["app"]) as url:
        assert httpx.get(f"{url}/incidents").status_code == 401
        answer = httpx.get(f"{url}/incidents", headers=bearer(presented.secret))
    assert answer.json() == {"incidents_of": "Acme"}
