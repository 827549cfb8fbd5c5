"""Logging: structlog, and everything that logs through the standard library, in one format on stderr."""

import logging
import re
import sys
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.common.config import Settings
from service.common.tracebacks import told

# Requests and connections appear here with their URLs, which hold codes and passwords.
_MUTED = ("uvicorn.access",)
_WARNINGS_ONLY = ("httpx", "httpcore", "asyncio")

_CREDENTIALS = re.compile(r"://[^@/\s]+@")
_LOOP_VALUES = re.compile(r"[<(\n].*", re.DOTALL)
"""What asyncio writes after its first words: callbacks with their arguments, futures with their results."""


def configure(settings: Settings, process: str) -> None:
    """Send every log line to stderr, marked with the name of this process. Call once, before anything logs."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
        _trace,
        _scrub,
    ]
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
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(settings)],
        )
    )
    sys.excepthook = _crashed
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _MUTED:
        logging.getLogger(name).disabled = True
    for name in _WARNINGS_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _renderer(settings: Settings) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    # The default prints the local variables of every frame, and those hold codes and keys.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _named(process: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return add


def _trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A traceback without values for `exc_info`."""
    found = event.pop("exc_info", None)
    if found and not isinstance(found, BaseException):
        found = (found if isinstance(found, tuple) else sys.exc_info())[1]
    if found:
        event["exception"] = told(found)
    return event


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the process, said as anything else is."""
    if issubclass(kind, Exception):
        structlog.get_logger(__name__).critical("crashed", exc_info=error)
    else:
        sys.__excepthook__(kind, error, trace)


def _scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take passwords out of URLs, values out of what asyncio says, and uvicorn's second copy."""
    event.pop("color_message", None)
    if event.get("logger") == "asyncio":
        event["event"] = _LOOP_VALUES.sub("", str(event["event"])).rstrip()
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = _CREDENTIALS.sub("://…@", value)
    return event
