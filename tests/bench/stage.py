"""Databases filled with keys, and the requests that verify them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests import cluster
from tests.bench import wrk
from tests.bench.serving import ROOT

SEED_SECONDS = 900
FULL = {"scopes": ["incidents:read"], "ip": "203.0.113.7", "endpoint": "GET /v1/incidents", "region": "eu-1"}


@dataclass(frozen=True)
class Organization:
    """One that was filled: its id and the file of its secrets."""

    id: str
    file: Path

    @cached_property
    def secrets(self) -> list[str]:
        """Its secrets, in the order of the names of its keys."""
        return self.file.read_text().split()

    def hot(self) -> Path:
        """Return a file with one of its secrets alone."""
        path = self.file.with_suffix(".hot")
        path.write_text(self.secrets[len(self.secrets) // 2] + "\n")
        return path


@dataclass(frozen=True)
class Stage:
    """A database of its own with keys in it: the environment that reaches it, and a verifier's secret."""

    name: str
    environment: dict[str, str]
    verifier: str
    organizations: Sequence[Organization]

    def verification(
        self, url: str, lines: Path, connections: int, *, more: dict[str, Any] | None = None
    ) -> wrk.Load:
        """Return the load that verifies the secrets of a file."""
        length = len(self.organizations[0].secrets[0])
        path = wrk.write_request(
            cluster.folder() / f"{self.name}-{'full' if more else 'plain'}-{url.rpartition(':')[2]}.http",
            url,
            method="POST",
            target="/v1/keys/verify",
            headers={"Authorization": f"Bearer {self.verifier}", "Content-Type": "application/json"},
            body=json.dumps({"secret": wrk.PLACE, **(more or {})}),
            line=length,
        )
        return wrk.Load(url, path, lines, connections)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database, as its superuser."""
        with psycopg.connect(cluster.cluster().url(dbname=self.name), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def recorded(self) -> dict[str, int]:
        """Return how many calls were recorded, by outcome."""
        return dict(self.query("SELECT code, sum(calls)::bigint FROM keys_call GROUP BY code"))


def product(name: str, *counts: int) -> Stage:
    """Make a database of the product with an organization of so many keys for each count."""
    environment = cluster.new_clone(name)
    folder = cluster.folder() / name
    folder.mkdir()
    given = environment | {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "BENCH_SUPERUSER_URL": cluster.cluster().url(dbname=name),
    }
    made = json.loads(_python(["tests.bench.seed", str(folder), *map(str, counts)], given))
    organizations = [Organization(each["id"], Path(each["file"])) for each in made["organizations"]]
    return Stage(name, environment, made["verifier"], organizations)


def rest_framework(count: int) -> tuple[dict[str, str], Path]:
    """Make a database of djangorestframework-api-key with so many keys; return its environment and their file."""
    name = "bench_rest_framework"
    with psycopg.connect(cluster.cluster().url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    file = cluster.folder() / "rest_framework.txt"
    environment = {"BENCH_REST_FRAMEWORK_URL": cluster.cluster().url(dbname=name)}
    _python(["tests.bench.rest_framework", str(count), str(file)], environment)
    return environment, file


def _python(arguments: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SEED_SECONDS,
        check=True,
    )
    return done.stdout
