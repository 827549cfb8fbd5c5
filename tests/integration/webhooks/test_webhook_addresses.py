"""A sender connects to public addresses alone, in any spelling of the URL and for any answer of a name server."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from itertools import product
from typing import Any
from unittest.mock import Mock

import aiohappyeyeballs
import pytest
import pytest_asyncio

from service.server.requests.webhook_addresses import BadAddress, check_url
from service.server.webhooks import public_http as webhook_http
from service.server.webhooks.public_http import Poster
from tests.harness.waiting import PATIENCE_S
from tests.integration.webhooks.webhook_fixtures import Receiver

_LOOPBACK = (
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "00000000", "2130706433", "017700000001", "0177.0.0.1",
    "0177.0.0.01", "0x7f.1", "0x7f000001", "0x7f.0.0.1", "0X7F.0.0.1", "127.0.0.0x1", "127.000.000.001", "127.0.0.1.",
    "127.127.127.127", "127.0.0.2", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1",
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain", "lоcalhost", "ℓocalhost",
    "local\u00adhost", "localhost%00.example", "localhost%23.example", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]",
    "[0000::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::]", "[2001::80ff:fffe]", "[::1%lo]", "[::1%25lo]", "[fe80::1%lo]", "[fe80::1]", "::1", "[::1",
    "1]", "[]", "[127.0.0.1]", "[v1.127.0.0.1]",
)  # fmt: skip
_INNER = (
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "100.64.0.1", "100.100.100.200",
    "169.254.169.254", "169.254.170.2", "0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "168.63.129.16",
    "192.0.0.192", "192.0.0.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "metadata", "metadata.local",
    "metadata.google.internal", "instance-data", "kubernetes.default.svc", "redis", "postgres", "host.docker.internal",
    "[fd00:ec2::254]", "[fc00::1]", "[fec0::1]", "[ff02::1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]", "[2001:db8::1]", "[2606:4700::5efe:a9fe:a9fe]", "[100::1]",
)  # fmt: skip
_TRICKS = (
    "https://shop.example@{here}/", "https://{here}@shop.example/", "https://shop.example:443@{here}/",
    "https://shop.example#@{here}/", "https://shop.example?@{here}/x#", "https://{here}#.shop.example/",
    "https://{here}\\.shop.example/", "https://shop.example\\@{here}/", "https:\\\\{here}/", "https:/{here}/",
    "https:{here}/", "https:///{here}/", "//{here}/", "{here}", "https://{here}%2f.shop.example/",
    "https://{here}%00.shop.example/", "https://{here}\t/", "https://{here}\r\nHost: x/", "https://{here}\n/",
    " https://{here}/", "https://{here} /", "https://a:b@{here}/", "https://@{here}/", "https://:@{here}/",
    "https://[shop.example]@{here}/", "http://{here}/", "HTTP://{here}/", "hTTps://{here}/", "ftp://{here}/",
    "gopher://{here}/_x", "file:///etc/passwd", "file://{here}/x", "dict://{here}/", "jar:https://{here}!/",
    "javascript:alert(1)", "data:text/plain,x", "ws://{here}/", "unix:///tmp/x", "https+unix://{here}/",
    "https://{here}:0/", "https://{here}:65536/", "https://{here}:-1/", "https://{here}:+80/", "https://{here}:8 0/",
    "https://{here}:/", "https://{here}:٨٠/", "https://shop.example/../@{here}/ x", "https://shop.example\u2025{here}/",
)  # fmt: skip
_FOR_THE_RESOLVER = ("kubernetes.default.svc",)
"""Names that are valid and only resolved."""
_ANSWERS = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "2002:7f00:1::", "2001:0:7f00:1::", "fe80::1%lo", "fe80::1", "fc00::1", "10.0.0.1", "192.168.1.1", "172.20.0.1",
    "100.64.0.1",
    "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255", "198.18.0.1", "fd00:ec2::254", "nonsense", "",
)  # fmt: skip
"""Addresses that a hostile name server answers."""


class Canary:
    """Listens on this machine's addresses, and counts connections."""

    def __init__(self, port: int) -> None:
        self.port, self.touched = port, 0

    def touch(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.touched += 1
        writer.close()


@pytest_asyncio.fixture
async def canary() -> AsyncIterator[Canary]:
    """A canary on one port of 127.0.0.1 and, if the machine has it, of ::1."""
    async with contextlib.AsyncExitStack() as stack:
        canary = Canary(0)
        first = await stack.enter_async_context(await asyncio.start_server(canary.touch, "127.0.0.1", 0))
        canary.port = first.sockets[0].getsockname()[1]
        with contextlib.suppress(OSError):
            await stack.enter_async_context(await asyncio.start_server(canary.touch, "::1", canary.port))
        yield canary


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses to which senders connect; those of other machines can't be reached."""
    reached: list[str] = []
    connect = aiohappyeyeballs.start_connection

    async def start(addr_infos: Sequence[Any], **options: Any) -> socket.socket:
        address = addr_infos[0][4][0]
        reached.append(address)
        if ip_address(address).is_loopback:
            return await connect(addr_infos[:1], **options)
        raise OSError

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start)
    return reached


@pytest_asyncio.fixture
async def poster(reached: list[str]) -> AsyncIterator[Poster]:
    """A sender that may not reach this machine."""
    async with aclosing(Poster(to_loopback=False)) as poster:
        yield poster


@pytest_asyncio.fixture
async def local_poster(reached: list[str]) -> AsyncIterator[Poster]:
    """A sender that may reach this machine."""
    async with aclosing(Poster(to_loopback=True)) as poster:
        yield poster


async def test_no_address_reaches_this_machine(
    canary: Canary, poster: Poster, reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than 300 spellings of this machine's address are refused as URLs and never connected to, though every name
    resolves to this machine."""
    _lead_names_to(monkeypatch, "127.0.0.1")
    hosts = [f"{host}:{canary.port}" for host in (*_LOOPBACK, *_INNER)]
    here = (f"127.0.0.1:{canary.port}", f"[::1]:{canary.port}", "x")
    urls = [f"{scheme}://{host}/" for scheme, host in product(("https", "http", "HTTPS"), hosts)]
    urls += [trick.replace("{here}", one) for trick, one in product(_TRICKS, here)]
    assert len(set(urls)) >= 300
    for url in set(urls):
        if url not in {f"https://{name}:{canary.port}/" for name in _FOR_THE_RESOLVER}:
            with pytest.raises(BadAddress):
                check_url(url)
        posted = await poster.post(1, url, {}, b"{}")
        assert (posted.error or "").startswith("address refused"), url
        assert reached == [], url
    assert canary.touched == 0


async def test_no_name_reaches_this_machine(
    canary: Canary, poster: Poster, reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name that resolves to a special address is refused, alone, first or last among public addresses."""
    for bad, where in product(_ANSWERS, ("alone", "first", "last")):
        addresses = {"alone": [bad], "first": [bad, "8.8.8.8"], "last": ["8.8.8.8", "2606:4700::1111", bad]}[where]
        _lead_names_to(monkeypatch, *addresses)
        posted = await poster.post(1, f"https://shop.example:{canary.port}/", {}, b"{}")
        assert posted.error == "address refused: leads to an address that is not public", bad
        assert reached == []
    assert canary.touched == 0


async def test_a_name_that_changes(
    canary: Canary, poster: Poster, reached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved once for each connection, and the checked address is the one connected to."""
    answers = [["127.0.0.1"], ["8.8.8.8"]]
    monkeypatch.setattr(webhook_http, "_get_addresses", lambda host, port: answers.pop())
    url = f"https://shop.example:{canary.port}/"
    assert (await poster.post(1, url, {}, b"{}")).error == "no connection"
    assert (len(answers), reached) == (1, ["8.8.8.8"])
    assert (await poster.post(1, url, {}, b"{}")).error == "address refused: leads to an address that is not public"
    assert (answers, reached, canary.touched) == ([], ["8.8.8.8"], 0)


async def test_a_name_without_addresses(poster: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the system can't resolve, or not in time, is an error of its own."""
    for error in (socket.gaierror(socket.EAI_NONAME, "not known"), UnicodeError(), TimeoutError()):
        monkeypatch.setattr(webhook_http.socket, "getaddrinfo", Mock(side_effect=error))
        assert (await poster.post(1, "https://shop.example/", {}, b"{}")).error == "its name can't be resolved"


async def test_names_that_hang(receiver: Receiver, local_poster: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    """While 20 names of a workspace hang, beyond the deadlines of their attempts, another workspace's is resolved."""
    monkeypatch.setattr(webhook_http, "RESOLVE_S", 0.2)
    over, hanging, most = threading.Event(), list[str](), webhook_http.RESOLVED_OF_ONE

    def resolve(host: str, _port: int) -> list[str]:
        if host.startswith("hangs"):
            hanging.append(host)
            over.wait(PATIENCE_S)
        return ["127.0.0.1"]

    monkeypatch.setattr(webhook_http, "_get_addresses", resolve)
    try:
        for _ in range(2):
            attempts = (local_poster.post(1, f"https://hangs-{number}.example/", {}, b"{}") for number in range(20))
            posted = await asyncio.gather(*attempts)
            assert {one.error for one in posted} == {"its name can't be resolved"}
        assert len(hanging) == most
        monkeypatch.setattr(webhook_http, "RESOLVE_S", PATIENCE_S)
        url = f"http://localhost:{receiver.port}/"
        assert (await local_poster.post(2, url, {}, b"{}")).delivered
        assert len(hanging) == most
    finally:
        over.set()
    assert (await local_poster.post(1, url, {}, b"{}")).delivered


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(canary: Canary, local_poster: Poster, receiver: Receiver, status: int) -> None:
    """A redirect is a failed delivery; the sender does not follow it."""
    receiver.headers = (
        f"Location: http://127.0.0.1:{canary.port}/\r\nRefresh: 0; url=http://127.0.0.1:{canary.port}/\r\n"
    )
    receiver.judge = lambda got: status
    posted = await local_poster.post(1, receiver.url(), {}, b"{}")
    assert (posted.status, posted.delivered, canary.touched) == (status, False, 0)


async def test_no_proxy_of_the_environment(
    canary: Canary, poster: Poster, local_poster: Poster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender ignores the proxies of the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    assert (await local_poster.post(1, receiver.url(), {}, b"{}")).delivered
    _lead_names_to(monkeypatch, "8.8.8.8")
    await poster.post(1, "https://shop.example/", {}, b"{}")
    assert canary.touched == 0


async def test_this_machine_where_it_may_be(canary: Canary, local_poster: Poster, reached: list[str]) -> None:
    """With the setting of the embedded mode the sender reaches this machine."""
    posted = await local_poster.post(1, f"http://localhost:{canary.port}/", {}, b"{}")
    assert posted.error == "the connection broke"
    assert canary.touched >= 1
    assert set(reached) <= {"127.0.0.1", "::1"}


def _lead_names_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(webhook_http, "_get_addresses", lambda host, port: list(addresses))
