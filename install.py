"""Install the packages of a lock file, Scrip itself and its client, into the environment of the Python that runs this.

`make` calls it: python install.py LOCK DURATION. It shows a progress bar on a terminal, and some lines elsewhere.
"""

import re
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
POLL_S = 0.2
WIDTH = 30
LAST_LINES = 15
LINES_ELSEWHERE = 5
"""Lines of progress that are printed if the output is no terminal."""

_PACKAGE = re.compile(r"^[A-Za-z0-9._-]+==", re.MULTILINE)
_FOUND = ("Collecting ", "Ignoring ", "Requirement already satisfied: ")
"""How pip's line for each package of the lock file begins."""


class Progress:
    """A bar of steps: a package that is found, and a package that is installed, are one each."""

    def __init__(self, steps: int) -> None:
        self._steps, self._shown = steps, 0
        self._is_terminal = sys.stdout.isatty()

    def show(self, done: int) -> None:
        done = min(done, self._steps)
        if done == self._shown and done:
            return
        if self._is_terminal:
            filled = WIDTH * done // self._steps
            print(f"\r  [{'#' * filled}{'.' * (WIDTH - filled)}] {100 * done // self._steps:3} %", end="", flush=True)
        elif done * LINES_ELSEWHERE // self._steps > self._shown * LINES_ELSEWHERE // self._steps:
            print(f"  {100 * done // self._steps} %", flush=True)
        self._shown = done

    def end(self) -> None:
        self.show(self._steps)
        if self._is_terminal:
            print()


def main(lock: Path, duration: str) -> None:
    packages = len(_PACKAGE.findall(lock.read_text()))
    print(f"Setting up, once, {duration}: {packages} packages into {Path(sys.prefix).name}", flush=True)
    began, progress = time.monotonic(), Progress(2 * packages)
    # Python compiles what it imports when it imports it: a part of all.
    options = ["--progress-bar", "off", "--no-compile", "--require-hashes", "-r", str(lock)]
    run_pip(options, progress)
    root = lock.parent.resolve()
    run_pip(["--no-deps", "--editable", str(root), "--editable", str(root / "client")], None)
    progress.end()
    print(f"Set up in {time.monotonic() - began:.0f} s.", flush=True)


def run_pip(options: list[str], progress: "Progress | None") -> None:
    """Run pip, and show its progress. If it fails, print its last lines and a remedy, and exit with 1."""
    process = subprocess.Popen([*PIP, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    before = count_installed()
    while process.poll() is None:
        if progress:
            found = sum(line.startswith(_FOUND) for line in lines)
            progress.show(found + count_installed() - before)
        time.sleep(POLL_S)
    reader.join()
    if process.returncode:
        print("\n" + "".join(lines[-LAST_LINES:]), file=sys.stderr)
        sys.exit(
            "Error: the packages can't be installed; pip's last lines are above. Check the network and the package "
            "index (`pip config list`), and run make again."
        )


def count_installed() -> int:
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Run make again to go on.")
