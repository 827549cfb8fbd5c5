"""The names of modules."""

from collections import Counter
from pathlib import Path

_SERVICE = Path(__file__).parents[2] / "service"


def test_a_name_of_a_module_says_which_one() -> None:
    """No two modules of the service have the same name."""
    names = Counter(path.stem for path in _SERVICE.rglob("*.py") if not path.stem.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []
