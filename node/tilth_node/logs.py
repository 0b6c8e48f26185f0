"""Structured logs of the node on standard error: JSON lines, or a short text for people.

- An event is a fixed phrase, its facts are keyword arguments; no secret is ever one of them.
- A node does not stop because nobody reads its log any more.
- User content (model bytes, a task's own log) never comes here.
"""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

Logger = structlog.typing.FilteringBoundLogger


class _StandardError:
    """Standard error as it is when a line is written; lines that it does not take are lost."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(*, level: str, lines: str) -> None:
    """Set up logging once per process. `lines` is "json" or "text"."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if lines == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=False,
    )


def logger(area: str) -> Logger:
    """The logger of one area of the node, such as "peers"."""
    return cast(Logger, structlog.get_logger(area=area))
