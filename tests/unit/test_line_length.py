from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["lua", "sql"])
def test_line_length(folder: str) -> None:
    """No line of lua/ and sql/ has more than 120 characters, also of comments and bodies of functions."""
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / folder).rglob(f"*.{folder}"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []
