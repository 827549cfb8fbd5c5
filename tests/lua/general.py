"""The scripts without the texts of usual cases (lua/fast/usual_*.lua): what follows these decides everything."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from service.engine.hot import scripts

ROOT = Path(__file__).parents[2]
USUAL = sorted(path.stem for path in (ROOT / "lua" / "fast").glob("usual_*.lua"))
_body, _read, _expand = scripts._body.__wrapped__, scripts._read, scripts._expand


def cut(step: str) -> str:
    """A usual case's text without its statement, which leaves nothing decided."""
    text, count = re.subn(r"^for _ = 1, 1 do.*?^end\n", "", step, flags=re.DOTALL | re.MULTILINE)
    assert count == 1 or "\nfor " not in step
    return text


@cache
def _general_body(name: str) -> str:
    scripts.__dict__["_read"] = lambda folder, part: cut(_read(folder, part)) if part in USUAL else _read(folder, part)
    scripts.__dict__["_expand"] = _expand.__wrapped__
    try:
        return _body(name)
    finally:
        scripts._read, scripts._expand = _read, _expand


@contextmanager
def general_texts() -> Iterator[None]:
    """Scripts that are composed here have no texts of usual cases."""
    kept, scripts._body = scripts._body, _general_body
    scripts._fill_all.cache_clear()
    try:
        yield
    finally:
        scripts._body = kept
        scripts._fill_all.cache_clear()
