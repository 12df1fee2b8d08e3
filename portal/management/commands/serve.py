"""Serves the product, or verification alone, with several processes on one port."""

import argparse
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from keys.usage import partitions
from portal.serving import ONLY_VERIFY, WHOLE, Processes, ServeError, check_free

MOST_WORKERS = 256


class Command(BaseCommand):
    help = "Serves pages and API, or with --only verify what services call; SIGTERM stops it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="the port (8000)")
        parser.add_argument("--workers", type=int, default=0, help="processes (one for each core)")
        parser.add_argument("--only", choices=[ONLY_VERIFY], default=WHOLE, help="serve verification alone")

    def handle(self, **options: Any) -> None:
        if options["port"] not in range(1, 65536):
            raise CommandError("--port is a number from 1 to 65535")
        workers = options["workers"] or os.cpu_count() or 1
        if workers not in range(1, MOST_WORKERS + 1):
            raise CommandError(f"--workers is a number from 1 to {MOST_WORKERS}")
        try:
            check_free(options["host"], options["port"])
        except ServeError as error:
            raise CommandError(str(error)) from error
        self._make_partitions()
        processes = Processes(options["host"], options["port"], workers=workers, serves=options["only"])
        self.stderr.write(
            f"serving {'verification' if options['only'] == ONLY_VERIFY else 'pages and API'} on "
            f"http://{options['host']}:{options['port']} with {workers} process{'es' * (workers > 1)}",
            style_func=str,
        )
        try:
            processes.run()
        except ServeError as error:
            raise CommandError(str(error)) from error

    def _make_partitions(self) -> None:
        """Make the coming days' partitions of usage; without them verification goes on all the same."""
        try:
            partitions.ensure()
        except DatabaseError as error:
            line = str(error).strip().splitlines()[0]
            self.stderr.write(f"the partitions of usage could not be made: {line}", style_func=str)
