"""Read a book's stored settings, for tests that compare what a text has or change it by hand."""

import re

from service.engine.formats import stored_settings


def parse_settings(text: str) -> dict[str, str]:
    """The words of a text by their names in Lua; its first one is `usual`. A version before it is left out."""
    _, usual, rest = re.split(r"(?:^|(?<= ))([lrxs-]{4})\d+ ", text, maxsplit=1)
    names = [place.name for place in stored_settings._PLACES]
    words = rest.split(" ")
    named = [re.split("[#=]", word, maxsplit=1) for word in words[len(names) :]]
    return {"usual": usual, **dict(zip(names, words, strict=False)), **dict(named)}
