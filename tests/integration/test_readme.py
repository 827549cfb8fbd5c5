"""The README says what happens."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from loadtests.harness.running import Run, data_folder
from loadtests.harness.servers import free_port

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLE = re.compile(r"```sh\n(curl .*?)```\n\n```json\n(.*?)```", re.DOTALL)


def matches(said: Any, seen: Any) -> bool:
    """Whether what was seen is what the README says, where `…` stands for any text."""
    if said == "…":
        return isinstance(seen, str) and seen != ""
    if isinstance(said, dict):
        return isinstance(seen, dict) and said.keys() == seen.keys() and all(matches(said[k], seen[k]) for k in said)
    if isinstance(said, list):
        return isinstance(seen, list) and len(said) == len(seen) and all(map(matches, said, seen))
    return said == seen


def test_the_lines_of_the_readme_give_what_it_says() -> None:
    """On a fresh service, README's curl lines answer what README shows, in its order."""
    with data_folder() as folder:
        run = Run(folder / "data", free_port()).until_ready()
        try:
            examples = EXAMPLE.findall(README)
            assert len(examples) == 4
            for command, said in examples:
                line = command.replace("http://127.0.0.1:8000", run.url)
                answer = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=30)
                seen = json.loads(answer.stdout)
                assert matches(json.loads(said), seen), seen
        finally:
            assert run.end() == 0
