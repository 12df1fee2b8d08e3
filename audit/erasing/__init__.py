"""Erasing a person from ledgers: whom a request means, what it may name, and who may ask."""
