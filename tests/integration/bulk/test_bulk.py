"""Uploads at once: bounds before a body is read, and what happens to one whose client has gone."""

import contextlib
import select

import pytest

from service.server.api.bulk import UPLOADS_OF_ONE
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.serving import RawConnection
from tests.harness.waiting import PATIENCE_S, until

_TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def uploader(service: Service) -> Service:
    return service.make_workspace(new_id("uploads"), "live")


def _begin_upload(service: Service, path: str, body: bytes) -> RawConnection:
    """The connection of an upload of 1 GiB that has begun."""
    wire = RawConnection(int(service.run.url.rpartition(":")[2]))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: scrip\r\nAuthorization: Bearer {service.workspace}_admin\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {1 << 30}\r\n\r\n"
    )
    wire.send(head.encode() + body)
    return wire


@pytest.mark.parametrize("asked", ["", "?dryRun=true", "/rejected.csv"])
def test_uploads_of_a_workspace(service: Service, uploader: Service, asked: str) -> None:
    """One upload too many is refused before its body is sent, others' are not. The slots are free as soon as the
    clients have gone, though they left lines to parse."""
    path = f"/v1/books/{uploader.book()}/codes"
    with contextlib.ExitStack() as uploads:
        wires = [_begin_upload(uploader, path + asked, b"!\n" * 50_000) for _ in range(UPLOADS_OF_ONE + 1)]
        by_socket = {uploads.enter_context(contextlib.closing(wire)).socket: wire for wire in wires}
        (refused,), _, _ = select.select(by_socket, [], [], PATIENCE_S)
        head = by_socket[refused].answer().lower()
        assert head.startswith(b"http/1.1 429 ")
        assert b"\r\nretry-after: " in head
        assert b"\r\nconnection: close\r\n" in head
        assert ok(service.admin.post(f"/v1/books/{service.book()}/codes", content=new_code(), headers=_TEXT))["added"]
    until(lambda: uploader.admin.post(path, content=b"no code", headers=_TEXT).is_success)
