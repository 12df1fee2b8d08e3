"""Makes the demo's data where it is not, and writes `demo.json` (spec: issue 2, item 1)."""

import json
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from keys.verification import DATABASE
from portal import demo_data
from portal.demo import SIGN_INS_FILE, replace_private
from portal.embedded import EmbeddedError, make_private_folder


class Command(BaseCommand):
    help = "Makes the demo's organizations, people and keys, once; demo.json in KEYSTEAD_HOME tells of them."

    def handle(self, **_options: Any) -> None:
        if DATABASE not in settings.DATABASES:
            raise CommandError("DATABASE_VERIFY_URL is not set; the demo's keys are used through that login.")
        earlier = self.read()
        if earlier is not None and demo_data.refresh(earlier, settings.KEYSTEAD_BASE_URL):
            self.write(earlier)
            return
        if demo_data.has_customers():
            raise CommandError(
                f"this database has organizations that {SIGN_INS_FILE} does not tell of, and their secrets are "
                "nowhere else; the demo needs a database of its own (./dev demo --reset)."
            )
        started = time.monotonic()
        demo_data.make(settings.KEYSTEAD_BASE_URL, self.write, self.tell)
        self.tell(f"done in {time.monotonic() - started:.0f} s")

    def read(self) -> demo_data.Document | None:
        """Return what an earlier run wrote; None where there is none, or nothing to be read."""
        try:
            document: demo_data.Document = json.loads((settings.KEYSTEAD_HOME / SIGN_INS_FILE).read_text())
        except (FileNotFoundError, IsADirectoryError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def write(self, document: demo_data.Document) -> None:
        """Write the document, whole or not at all, for the eyes of this user alone."""
        try:
            make_private_folder(settings.KEYSTEAD_HOME)
            replace_private(
                settings.KEYSTEAD_HOME / SIGN_INS_FILE, json.dumps(document, indent=1, ensure_ascii=False)
            )
        except (OSError, EmbeddedError) as error:
            raise CommandError(f"can't write {settings.KEYSTEAD_HOME / SIGN_INS_FILE}: {error}") from error

    def tell(self, line: str) -> None:
        """Write one line of progress."""
        self.stderr.write(f"demo: {line}", style_func=str)
