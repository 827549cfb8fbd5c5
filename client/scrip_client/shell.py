"""What both clients have: their settings, connections and methods. client.py and async_client.py send."""

from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from scrip_client.core import Settings
from scrip_client.generated.operations import Methods

Http = TypeVar("Http")


class Shell(Methods, Generic[Http]):
    """A client of one workspace, with a method for each operation."""

    _make_http: ClassVar[Any]
    """Makes the client's own connections."""
    _http: Http

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_s: float = 30.0,
        timeout_s: float = 10.0,
        http: Http | None = None,
    ) -> None:
        """`token` is an API key or a user's token. `deadline_s` bounds a call with all its attempts, `timeout_s` the
        wait for the service in one attempt. `http` replaces the client's own connections."""
        self._settings = Settings(url=url.rstrip("/"), token=token, deadline_s=deadline_s, timeout_s=timeout_s)
        self._http = http or self._make_http()

    def within(self, deadline_s: float) -> Self:
        """The same client, on the same connections, with another deadline."""
        other = object.__new__(type(self))
        other._http, other._settings = self._http, replace(self._settings, deadline_s=deadline_s)
        return other
