"""No traceback shows a value of a request, and the doctor names server settings that would log one."""

import asyncio
import logging
import sys
from collections.abc import Iterator

import asyncpg
import hiredis
import pytest
import structlog

from service.common import logs
from service.common.tracebacks import format_traceback
from service.engine.domain.errors import Refusal
from service.server.doctor.server_logs import judge_postgres_logs, judge_redis_logs
from tests.harness.commands import kept_logging
from tests.harness.waiting import wait_until

SECRET = "CNRY-7XK2-M4PQ"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    with kept_logging():
        yield


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    code = SECRET  # noqa: F841, a local of the frame
    try:
        raise error from cause
    except BaseException as raised:  # noqa: BLE001, any
        return raised


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SECRET), ValueError(f"bad {SECRET}"), hiredis.ReplyError(f"ERR no {SECRET} user_script:3"),
        hiredis.ReplyError(SECRET), asyncpg.UniqueViolationError(f"Key (code)=({SECRET}) already exists"),
        RuntimeError(SECRET), ExceptionGroup(SECRET, [KeyError(SECRET)]),
        UnicodeDecodeError("utf-8", b"x", 0, 1, SECRET),
        OSError(2, "No such file", SECRET),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_traceback_shows_no_value(
    error: Exception, is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log has the type and place of an error, its causes and its group, but never a library's message."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    logs.configure("info", "test")
    error_raised = _raised(RuntimeError("x"), _raised(error))
    structlog.get_logger().error("request_failed", exc_info=error_raised)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error_raised)
    try:
        raise error_raised
    except RuntimeError:
        logging.getLogger("elsewhere").exception("failed")
    sys.excepthook(type(error_raised), error_raised, None)
    text = capsys.readouterr().err
    assert SECRET not in text
    assert text.count(type(error).__name__) >= 4
    assert "in _raised" in text
    assert "crashed" in text
    assert text.startswith("{") is not is_terminal


def test_what_a_traceback_shows() -> None:
    """A traceback shows our own messages, and of a foreign error the parts without values."""
    violated = asyncpg.UniqueViolationError("x")
    violated.constraint_name, violated.table_name = "single_uses_pkey", "single_uses"  # type: ignore[attr-defined]
    assert format_traceback(_raised(violated)).endswith("UniqueViolationError: 23505 single_uses single_uses_pkey")
    assert format_traceback(hiredis.ReplyError("OOM command not allowed")).endswith("ReplyError: OOM")
    assert format_traceback(_raised(Refusal("recovering"))).startswith("Traceback")


async def test_asyncio_shows_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    """The event loop's messages about a failed callback or task have no arguments and results."""
    logs.configure("info", "test")
    loop = asyncio.get_running_loop()

    def fail(code: str) -> None:
        raise KeyError(code)

    async def wait(code: str) -> None:
        raise KeyError(code)

    loop.call_soon(fail, SECRET)
    task = loop.create_task(wait(SECRET), name="task")
    await wait_until(task.done)
    del task
    logging.getLogger("asyncio").error("Executing <Task result=%r> took 1 s", SECRET)
    text = capsys.readouterr().err
    assert "Exception in callback" in text
    assert "Task exception was never retrieved" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"slowlog-log-slower-than": "-1", "crash-log-enabled": "no", "acllog-max-len": "0"}, []),
        ({"slowlog-log-slower-than": "10000"}, ["slowlog-log-slower-than -1"]),
        ({"slowlog-log-slower-than": "0", "commandlog-execution-slower-than": "0"},
         ["commandlog-execution-slower-than -1"]),
        ({"commandlog-request-larger-than": "1048576"}, ["commandlog-request-larger-than -1"]),
        ({"crash-log-enabled": "yes"}, ["crash-log-enabled no"]),
        ({"crash-log-enabled": "yes", "hide-user-data-from-log": "yes"}, []),
        ({"acllog-max-len": "128"}, ["acllog-max-len 0"]),
    ],
)  # fmt: skip
def test_redis_settings_that_log_values(settings: dict[str, str], wanted: list[str]) -> None:
    """Each setting by which Redis stores commands is named with its safe value."""
    assert judge_redis_logs(settings) == wanted


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, []),
        ({"log_error_verbosity": "default"}, ["log_error_verbosity terse"]),
        ({"log_parameter_max_length_on_error": "-1"}, ["log_parameter_max_length_on_error 0"]),
        ({"log_parameter_max_length": "-1"}, []),
        ({"log_parameter_max_length": "-1", "log_statement": "mod"}, ["log_parameter_max_length 0"]),
        ({"log_parameter_max_length": "10", "log_min_duration_statement": "0"}, ["log_parameter_max_length 0"]),
        ({"log_parameter_max_length": "-1", "log_transaction_sample_rate": "0.1"}, ["log_parameter_max_length 0"]),
        ({"log_statement": "all"}, []),
    ],
)
def test_postgres_settings_that_log_values(changed: dict[str, str], wanted: list[str]) -> None:
    """Each setting by which Postgres logs a row or a parameter is named with its safe value."""
    settings = {
        "log_error_verbosity": "terse", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0",
        "log_statement": "none", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1",
        "log_transaction_sample_rate": "0",
    }  # fmt: skip
    assert judge_postgres_logs(settings | changed) == wanted
