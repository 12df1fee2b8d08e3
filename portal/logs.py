"""Log lines: JSON, one a line, with the request's id, and without any secret whatever was logged."""

import logging
from typing import Any

import structlog

from audit.webhooks import signing
from keys import secret

SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Pass the finished line, traceback and all, through the one redaction filter."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with every secret cut down to its hint."""
        return signing.redact(secret.redact(super().format(record)))


def formatter() -> logging.Formatter:
    """Return the formatter of the log handler, and let structlog write through the standard library."""
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return RedactingFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        foreign_pre_chain=SHARED,
    )
