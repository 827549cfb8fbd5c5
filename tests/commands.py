"""The commands, run in this process: a process of its own takes each most of a second to import what it needs."""

from concurrent.futures import ThreadPoolExecutor

from click.testing import CliRunner, Result

from service.cli.main import main


def scrip(*words: str, **env: str) -> Result:
    """Run `scrip` with these words and settings, on another thread: a test may have a loop on its own."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(CliRunner().invoke, main, words, env=env).result()
