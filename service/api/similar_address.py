"""The address of the API that a request with an unknown address may have meant. problems.py names it in the refusal."""

from typing import Any
from urllib.parse import unquote

from litestar import Request
from litestar.routes import HTTPRoute

_PREFIX = "/v1/"
_MAX_CHARACTERS = 500
"""Of an address that is compared."""


def find_similar(request: Request[Any, Any, Any]) -> str | None:
    """The method and address with the same words in another order, singular or plural, with other slashes, or after
    `/v1`; None if there is none."""
    path = unquote(request.scope["raw_path"].decode("ascii"))
    if len(path) > _MAX_CHARACTERS:
        return None
    path = "/" + "/".join(filter(None, path.split("/")))
    sent = [_simplify(part) for part in path.removeprefix(_PREFIX).split("/") if part]
    similar: dict[str, tuple[int, bool]] = {}
    for route in request.app.routes:
        if isinstance(route, HTTPRoute) and route.path_format.startswith(_PREFIX):
            parts = route.path_format.removeprefix(_PREFIX).split("/")
            names = {_simplify(part) for part in parts if not part.startswith("{")}
            if len(parts) == len(sent) and names.issubset(sent):
                methods = sorted(route.methods - {"OPTIONS"})
                has_method = request.method in methods
                address = f"{request.method if has_method else methods[0]} {route.path_format}"
                similar[address] = (len(names), has_method)
    return max(similar, key=similar.__getitem__, default=None)


def _simplify(part: str) -> str:
    return part.lower().replace("_", "-").removesuffix("s")
