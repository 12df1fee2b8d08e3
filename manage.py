#!/usr/bin/env python3
"""Django's command line, in the environment that ./dev made where none is active."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run one management command; a faulty setup is one clear line, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
        from django.core.management import execute_from_command_line  # noqa: PLC0415
        from django.db.utils import OperationalError  # noqa: PLC0415
    except ImportError:
        python = Path(__file__).resolve().parent / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == python.parent.parent:
            sys.exit("keystead: Django is not installed; run ./dev demo, or install requirements.txt.")
        os.execv(python, [str(python), *sys.argv])  # noqa: S606
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"keystead: {error}")
    except OperationalError as error:
        sys.exit(f"keystead: the database does not answer: {str(error).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
