"""Configure logging by structlog and the standard library, on stderr. A process calls `configure` before it logs."""

import logging
import re
import sys
from importlib.metadata import version
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.common.remedies import REMEDIES
from service.common.tracebacks import format_traceback

# Logs the URLs of requests, which hold codes.
_MUTED = ("uvicorn.access",)
_WARNINGS_ONLY = ("httpx", "httpcore", "asyncio")

workspace_names: dict[int, tuple[str, str]] = {}
"""Name and id of each workspace by its inner number, for the lines of this process."""

_CREDENTIALS = re.compile(r"://[^@/\s]+@")
_LOOP_VALUES = re.compile(r"[<(\n].*", re.DOTALL)
"""The part of asyncio's messages that quotes values: arguments of callbacks, results of futures."""


def configure(log_level: str, process: str) -> None:
    """Send every log line to stderr, with the name and the release of this process: as text to a terminal, else as
    JSON. Call it before anything is logged."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _make_process_marker(process),
        _name_workspace,
        _add_remedy,
        _add_traceback,
        _remove_values,
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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _make_renderer()],
        )
    )
    sys.excepthook = _log_crash
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _MUTED:
        logging.getLogger(name).disabled = True
    for name in _WARNINGS_ONLY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _make_renderer() -> Processor:
    if not sys.stderr.isatty():
        return structlog.processors.JSONRenderer()
    # The default prints local variables, which hold codes and keys.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _make_process_marker(process: str) -> Processor:
    release = version("scrip")

    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"], event["release"] = process, release
        return event

    return add


def _name_workspace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace a workspace's inner number by its name and id."""
    if named := workspace_names.get(event.get("workspace", 0)):
        event["workspace"], event["workspace_id"] = named
    return event


def _add_remedy(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if event["level"] != "info" and (remedy := REMEDIES.get(event["event"])):
        event["remedy"] = remedy
    return event


def _add_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by a traceback without values."""
    error = event.pop("exc_info", None)
    if error and not isinstance(error, BaseException):
        error = (error if isinstance(error, tuple) else sys.exc_info())[1]
    if error:
        event["exception"] = format_traceback(error)
    return event


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log the exception that ends the process. KeyboardInterrupt and SystemExit keep Python's handling."""
    if issubclass(kind, Exception):
        structlog.get_logger(__name__).critical("crashed", exc_info=error)
    else:
        sys.__excepthook__(kind, error, trace)


def _remove_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove passwords from URLs, values from asyncio's messages, and uvicorn's coloured copy of the message."""
    event.pop("color_message", None)
    if event.get("logger") == "asyncio":
        event["event"] = _LOOP_VALUES.sub("", str(event["event"])).rstrip()
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = _CREDENTIALS.sub("://…@", value)
    return event
