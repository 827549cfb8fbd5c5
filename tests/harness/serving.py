"""A workspace of a file's own on a `scrip run`, and an API in the test's process on its stores."""

import re
import socket
import threading
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import pytest
import uvicorn

from service.common.config import JwtIssuer, Settings
from service.serving.server import make_server_config
from tests.harness.service_fixture import Service, new_id
from tests.harness.tokens import ISSUER, Idp
from tests.harness.waiting import PATIENCE_S, until

_CHANGES = (
    (rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", b"<id>"),
    (rb'"lockToken":"[!-~]{16}"', b'"lockToken":"<token>"'),
    (rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", b"<time>"),
    (rb"\r\ndate: [^\r]+", b""),
    (rb"\r\nretry-after: \d+", b"\r\nretry-after: <seconds>"),
    (rb"\r\nratelimit: [^\r]+", b"\r\nratelimit: <what is left>"),
)


class Served:
    """A server in a thread, until the block's end; without `hot` Litestar answers everything."""

    def __init__(self, service: Service, data_dir: Path, *, hot: bool = True, **options: Any) -> None:
        facts = service.run.facts
        settings = Settings(
            redis_url=facts["redisUrl"], database_url=facts["databaseUrl"], data_dir=data_dir, **options
        )
        config = make_server_config(settings, has_fast_lane=hot, port=0)
        self.elsewhere, app = 0, config.app
        """The number of requests to Litestar."""

        async def count(scope: Any, receive: Any, send: Any) -> None:
            self.elsewhere += scope["type"] == "http"
            await app(scope, receive, send)  # type: ignore[operator]

        config.app = count
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        until(lambda: self.server.started and self.server.server_state.default_headers)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]

        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End as on SIGTERM, and wait."""
        self.server.should_exit = True
        self._thread.join()

    def connect(self) -> "RawConnection":
        return RawConnection(self.port)

    def client(self, authorization: str) -> httpx.Client:
        """Return a client that sends this header. It must be closed."""
        headers = {"Authorization": authorization}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, verify=False)


class RawConnection:
    """A client's connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, head_only: bool = False) -> bytes:
        """Read the next answer; check that the connection ends after `Connection: close`."""
        head = self._until(lambda read: read.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in read else None)
        if head.startswith(b"HTTP/1.1 100 "):
            return head + self.answer(head_only=head_only)
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
        size = int(length[1]) if length and not head_only else 0
        body = self._until(lambda read: size if len(read) >= size else None)
        if b"\r\nconnection: close\r\n" in head:
            assert self.rest() == b""
            return head + body + b"<end>"
        return head + body

    def rest(self) -> bytes:
        """Read until the server closes."""
        parts, self._read = [self._read], b""
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        self.socket.close()

    def _until(self, end: Any) -> bytes:
        while (at := end(self._read)) is None:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionResetError(f"the connection ended after {self._read!r}")
            self._read += part
        data, self._read = self._read[:at], self._read[at:]
        return data


def own_workspace(mode: Literal["live", "test"]) -> Any:
    """The fixture `service` of a file whose tests have a workspace of their own."""

    @pytest.fixture(scope="module")
    def service(service: Service) -> Service:
        return service.make_workspace(new_id("own"), mode)

    return service


def make_issuers(folder: Path, idp: Idp, workspaces: dict[str, str]) -> tuple[JwtIssuer, ...]:
    """The settings of an issuer, of whose audiences each has its workspace. Its keys are in a file of the folder."""
    jwks = folder / "jwks.json"
    jwks.write_bytes(idp.jwks())
    return tuple(
        JwtIssuer(issuer=ISSUER, audience=audience, workspace=workspace, jwks=str(jwks))
        for audience, workspace in workspaces.items()
    )


def without_ids(answer: bytes) -> bytes:
    """Replace ids, tokens and times of an answer."""
    for pattern, text in _CHANGES:
        answer = re.sub(pattern, text, answer)
    return answer
