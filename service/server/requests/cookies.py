"""Read one cookie of a request, for auth.py, session.py and sign_in.py: only this parses `Cookie`. Python's own parser
(http.cookies, which Litestar's `cookies` uses) takes a second for some headers of 16 KiB, on 3.11 and 3.12."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litestar import Request

MAX_CHARACTERS = 512
"""Of a cookie's value. The service sets shorter ones."""


@cache
def _find(name: str) -> "re.Pattern[str]":
    return re.compile(rf"(?:^|;)[ \t]*+{re.escape(name)}=([^;\s]{{1,{MAX_CHARACTERS}}}+)[ \t]*+(?:;|$)")


def read_cookie(request: "Request[Any, Any, Any]", name: str) -> str:
    """The first value of the cookie, as it was sent; '' if it is missing, or not one that the service sets."""
    for header in request.headers.getall("cookie", []):
        if match := _find(name).search(header):
            return match[1]
    return ""
