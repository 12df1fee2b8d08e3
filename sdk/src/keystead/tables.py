"""Tables for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from keystead.secret import redact


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows in columns, each as wide as its widest cell, in lines without a blank at their ends."""
    cells = [tuple(map(plain, row)) for row in (header, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    return "\n".join(_line(row, widths) for row in cells)


def plain(text: str) -> str:
    """Return a text that can do nothing to a terminal, and shows no secret: what comes from others may try to."""
    shown = "".join("�" if unicodedata.category(each) in {"Cc", "Cf", "Cs"} else each for each in text)
    return redact(shown)


def width(text: str) -> int:
    """Return how many columns a terminal gives to the text."""
    marks = {"Mn", "Me"}
    wide = sum(unicodedata.east_asian_width(each) in {"W", "F"} for each in text)
    return len(text) + wide - sum(unicodedata.category(each) in marks for each in text)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)
    ).rstrip()
