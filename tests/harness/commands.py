"""The commands, run in this process: a process of its own takes each most of a second to import what it needs."""

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click
import structlog
from click.testing import CliRunner, Result

from service.cli.main import main


def scrip(*words: str, **env: str) -> Result:
    """Run `scrip` with these words and settings, on another thread: a test may have a loop on its own."""
    with kept_logging(), ThreadPoolExecutor(1) as aside:
        return aside.submit(CliRunner().invoke, main, words, env=env).result()


def succeeded(ended: Result) -> Result:
    """A command's result, which must be success."""
    assert ended.exit_code == 0, ended.output
    return ended


def subcommands(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group)
    return {name: one for name in group.list_commands(context) if (one := group.get_command(context, name))}


@contextmanager
def kept_logging() -> Iterator[None]:
    """Restore what a command or logs.configure sets for its process: other tests read logs, too."""
    root, hook, configured = logging.getLogger(), sys.excepthook, structlog.get_config()
    handlers, level = root.handlers[:], root.level
    loggers = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    states = [(logger, logger.handlers[:], logger.level, logger.disabled, logger.propagate) for logger in loggers]

    try:
        yield
    finally:
        structlog.configure(**configured)
        sys.excepthook = hook
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, own, own_level, disabled, propagate in states:
            logger.handlers[:], logger.disabled, logger.propagate = own, disabled, propagate
            logger.setLevel(own_level)
