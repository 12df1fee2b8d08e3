"""Ids of organizations, people and keys, made as `audit` makes its own."""

from audit.ids import ALPHABET, LENGTH, new

__all__ = ["ALPHABET", "LENGTH", "new"]
