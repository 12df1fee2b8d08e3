"""The clients that commands call the portal with."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from keystead.client import Keystead
from keystead.version import __version__

KEY_FILE: Final = "KEYSTEAD_KEY_FILE"
USER_AGENT: Final = f"keystead-cli/{__version__}"


def own_client(options: argparse.Namespace) -> Keystead:
    """Return a client with the key of whoever runs the command, from a file or the environment.

    Raises:
        ConfigurationError: there is none.
    """
    file = options.key_file or os.environ.get(KEY_FILE)
    key = Path(file).read_text(encoding="utf-8").strip() if file else None
    return Keystead(options.url, key, user_agent=USER_AGENT)


def client_with(options: argparse.Namespace, key: str, *, max_wait: float = 2.0) -> Keystead:
    """Return a client with another key."""
    return Keystead(options.url, key, user_agent=USER_AGENT, max_wait=max_wait)
