"""Logging: structlog for our own events, and the same format for all libraries."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog

from ..model.text import harmless
from .config import LoggingConfig


def configure_logging(config: LoggingConfig) -> None:
    """Send the program's and the libraries' log records to stderr in one format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([structlog.processors.format_exc_info] if config.format == "json" else []),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if config.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_harmless_traceback)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if config.format == "json" else [_harmless_values]),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level)
    logging.captureWarnings(True)
    for noisy in ("aiokafka", "botocore", "aiobotocore", "lsst.daf.butler", "lsst.resources"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # Connection errors are also raised and logged by the caller; the pool would log them again with a traceback.
    for echoing in ("sqlalchemy.pool", "lsst.daf.butler.direct_butler._direct_butler"):
        logging.getLogger(echoing).setLevel(logging.CRITICAL)


def _harmless_values(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters, since keys, headers and exceptions contain foreign text. JSON escapes them anyway."""
    return {name: harmless(value) if isinstance(value, str) else value for name, value in event.items()}


def _harmless_traceback(stream: TextIO, error: structlog.typing.ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    stream.write(harmless(plain.getvalue(), lines=True))
