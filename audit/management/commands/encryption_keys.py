"""How many stored values are left under each encryption key, so that an old key can be taken out of service."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit import encrypted

MOST_NAMED: Final = 20


class Command(BaseCommand):
    """Count encrypted values by key, over every organization, and move them to the newest."""

    help = (
        "Report how many stored values are under each key of KEYSTEAD_ENCRYPTION_KEYS, by its place there and never"
        " by the key itself. Exit 0: every value can be decrypted; 1: some can't, and the first of them are named."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--renew",
            action="store_true",
            help="first encrypt under the newest key what is under another; beside a running portal, and again"
            " where it was stopped half-way",
        )

    def handle(self, *, renew: bool, **_options: Any) -> None:
        if renew:
            self.stdout.write(f"encrypted anew: {_renew()}")
        counts, lost = _count()
        for place in range(len(settings.ENCRYPTION_KEYS)):
            newest = "" if place else " (newest)"
            self.stdout.write(f"key {place + 1}: {counts[place]} values{newest}")
        if lost:
            self.stdout.write(f"no key: {counts[None]} values (these can't be decrypted)")
            raise CommandError("\n".join(["No configured key decrypts:", *lost, *_more(counts[None])]))


def _renew() -> int:
    """Encrypt anew what is under another key than the newest; return how many values that were."""
    return sum(encrypted.renew(value) for value in encrypted.values() if value.key)


def _count() -> tuple[Counter[int | None], list[str]]:
    """Return how many values are under each key, and the first of those that no key decrypts."""
    counts: Counter[int | None] = Counter()
    lost: list[str] = []
    for value in encrypted.values():
        counts[value.key] += 1
        if value.key is None and len(lost) < MOST_NAMED:
            lost.append(str(value))
    return counts, lost


def _more(lost: int) -> list[str]:
    return [f"and {lost - MOST_NAMED} more"] if lost > MOST_NAMED else []
