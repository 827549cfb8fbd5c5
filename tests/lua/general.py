"""Scripts with other texts: without those of usual cases (lua/fast/usual_*.lua), or with a rule more."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from service.engine.hot import scripts

ROOT = Path(__file__).parents[2]
USUAL = sorted(path.stem for path in (ROOT / "lua" / "fast").glob("usual_*.lua"))
Change = Callable[[str, str], str]
"""Of a part's name and text: the other text."""
_body, _read, _expand = scripts._body.__wrapped__, scripts._read, scripts._expand


def cut(step: str) -> str:
    """A usual case's text without its statement, which leaves nothing decided."""
    text, count = re.subn(r"^for _ = 1, 1 do.*?^end\n", "", step, flags=re.DOTALL | re.MULTILINE)
    assert count == 1 or "\nfor " not in step
    return text


def without_usual(part: str, text: str) -> str:
    """The parts as scripts without texts of usual cases have them."""
    return cut(text) if part in USUAL else text


@cache
def _changed_body(change: Change, name: str) -> str:
    scripts.__dict__["_read"] = lambda folder, part: change(part, _read.__wrapped__(folder, part))
    scripts.__dict__["_expand"] = _expand.__wrapped__
    try:
        return _body(name)
    finally:
        scripts._read, scripts._expand = _read, _expand


@contextmanager
def changed_texts(change: Change) -> Iterator[None]:
    """Scripts that are composed here have changed parts."""
    kept, scripts.__dict__["_body"] = scripts._body, lambda name: _changed_body(change, name)
    scripts._fill_all.cache_clear()
    try:
        yield
    finally:
        scripts._body = kept
        scripts._fill_all.cache_clear()
