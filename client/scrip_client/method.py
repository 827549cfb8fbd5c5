"""Make a client's methods of the functions of operations.py, by the kind of their answer. A method of a Client returns
the answer, that of an AsyncClient awaits it; called on the class, it returns the call, for `send`."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from scrip_client.core import Call
from scrip_client.generated.models import Page

if TYPE_CHECKING:
    from scrip_client.async_client import AsyncClient
    from scrip_client.client import Client

P = ParamSpec("P")
T = TypeVar("T")


class _Method(Generic[P, T]):
    _run: ClassVar[str]
    """The method of the client that runs the call."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make

    def __get__(self, client: Any, owner: object) -> Any:
        if client is None:
            return self._make
        run, make = getattr(client, self._run), self._make

        @functools.wraps(make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(make(*args, **kwargs))

        return method


class Single(_Method[P, T]):
    """Returns the body."""

    _run = "fetch"

    if TYPE_CHECKING:

        @overload
        def __get__(self, client: None, owner: object) -> Callable[P, Call[T]]: ...
        @overload
        def __get__(self, client: Client, owner: object) -> Callable[P, T]: ...
        @overload
        def __get__(self, client: AsyncClient, owner: object) -> Callable[P, Coroutine[Any, Any, T]]: ...
        def __get__(self, client: Any, owner: object) -> Any: ...


class Listed(_Method[P, Page[T]], Generic[P, T]):
    """Returns an iterator over the items of all pages, which requests a page when the one before is used up."""

    _run = "iterate"

    if TYPE_CHECKING:

        @overload
        def __get__(self, client: None, owner: object) -> Callable[P, Call[Page[T]]]: ...
        @overload
        def __get__(self, client: Client, owner: object) -> Callable[P, Iterator[T]]: ...
        @overload
        def __get__(self, client: AsyncClient, owner: object) -> Callable[P, AsyncIterator[T]]: ...
        def __get__(self, client: Any, owner: object) -> Any: ...


class Streamed(_Method[P, bytes]):
    """Returns a context manager with an iterator over the parts of a file, as they arrive."""

    _run = "stream"

    if TYPE_CHECKING:

        @overload
        def __get__(self, client: None, owner: object) -> Callable[P, Call[bytes]]: ...
        @overload
        def __get__(self, client: Client, owner: object) -> Callable[P, AbstractContextManager[Iterator[bytes]]]: ...
        @overload
        def __get__(
            self, client: AsyncClient, owner: object
        ) -> Callable[P, AbstractAsyncContextManager[AsyncIterator[bytes]]]: ...
        def __get__(self, client: Any, owner: object) -> Any: ...
