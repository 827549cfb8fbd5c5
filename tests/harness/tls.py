"""TLS for tests: a certificate authority, and a proxy that adds TLS to a server."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from tests.harness.plugin import require

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""Postgres's SSLRequest, which a client sends before TLS."""


class Certificate:
    """A folder with a certificate, its key and the certificate of its authority."""

    def __init__(self, folder: Path) -> None:
        self.file, self._cert, self._key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"

    @property
    def context(self) -> ssl.SSLContext:
        """The context of a server with that name."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._cert, self._key)
        return context


class Authority(Certificate):
    """A certificate authority, and its certificate for one name, of so many days."""

    def __init__(self, folder: Path, name: str = "localhost", days: int = 2) -> None:
        require("openssl")
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        ca_key, request, extension = folder / "ca.key", folder / "request.pem", folder / "extension"
        extension.write_text(f"subjectAltName=DNS:{name}\n")
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for command in (
            [*new, "-x509", "-days", f"{days}", "-subj", "/CN=Scrip test", "-keyout", ca_key, "-out", self.file],
            [*new, "-subj", f"/CN={name}", "-keyout", self._key, "-out", request],
            ["openssl", "x509", "-req", "-days", f"{days}", "-in", request, "-CA", self.file, "-CAkey", ca_key,
             "-CAcreateserial", "-extfile", extension, "-out", self._cert],
        ):  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def door(authority: Certificate, to: str | int, *, postgres: bool = False) -> Iterator[int]:
    """Open a port that forwards by TLS to a server's port, or to its socket's path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled when the door closes; Python 3.11.7 would log the task as an error if it ended so.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            if postgres:
                if await reader.readexactly(8) != _SSL_REQUEST:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.start_tls(authority.context)
            inner = (
                asyncio.open_unix_connection(to) if isinstance(to, str) else asyncio.open_connection("127.0.0.1", to)
            )
            inner_reader, inner_writer = await inner
            await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))

    ssl_context = None if postgres else authority.context
    with start_blocking_portal() as thread:
        server = thread.call(partial(asyncio.start_server, serve, "127.0.0.1", 0, ssl=ssl_context))
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            thread.call(server.close)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
