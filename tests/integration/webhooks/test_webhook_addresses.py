"""A sender connects to public addresses alone, in any spelling of the URL and for any answer of a name server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from itertools import product

import pytest
import pytest_asyncio

from service.domain.webhook_addresses import BadAddress, parse_target
from service.worker.webhook_http import Poster, Resolver, tls_context
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

_TLS = tls_context()


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


class Watched(Poster):
    """Stores the addresses to which it would connect, and connects to loopback alone."""

    def __init__(self, *made: object) -> None:
        super().__init__(*made)  # type: ignore[arg-type]
        self.reached: list[str] = []

    async def _connect_to(self, address: str, target: object) -> object:  # type: ignore[override]
        self.reached.append(address)
        if address.startswith("127.") or address == "::1":
            return await super()._connect_to(address, target)  # type: ignore[arg-type]
        raise OSError


async def test_no_address_reaches_this_machine(canary: Canary) -> None:
    """More than 300 spellings of this machine's address are refused as URLs and never connected to, though every name
    resolves to this machine."""
    hosts = [f"{host}:{canary.port}" for host in (*_LOOPBACK, *_INNER)]
    here = (f"127.0.0.1:{canary.port}", f"[::1]:{canary.port}", "x")
    urls = [f"{scheme}://{host}/" for scheme, host in product(("https", "http", "HTTPS"), hosts)]
    urls += [trick.replace("{here}", one) for trick, one in product(_TRICKS, here)]
    assert len(set(urls)) >= 300
    for url in set(urls):
        if url not in {f"https://{name}:{canary.port}/" for name in _FOR_THE_RESOLVER}:
            with pytest.raises(BadAddress):
                parse_target(url)
        poster = Watched(url, _here, False, _TLS)
        posted = await poster.post({}, b"{}")
        assert (posted.error or "").startswith("address refused"), url
        assert poster.reached == [], url
    assert canary.touched == 0


async def test_no_name_reaches_this_machine(canary: Canary) -> None:
    """A public name that resolves to a special address is refused, alone, first or last among public addresses."""
    for bad, where in product(_ANSWERS, ("alone", "first", "last")):
        addresses = {"alone": [bad], "first": [bad, "8.8.8.8"], "last": ["8.8.8.8", "2606:4700::1111", bad]}[where]

        async def resolve(host: str, port: int, addresses: list[str] = addresses) -> list[str]:
            return addresses

        poster = Watched(f"https://shop.example:{canary.port}/", resolve, False, _TLS)
        posted = await poster.post({}, b"{}")
        assert posted.error == "address refused: leads to an address that is not public", bad
        assert poster.reached == []
    assert canary.touched == 0


async def test_a_name_that_changes(canary: Canary) -> None:
    """A name is resolved once for each connection, and the checked address is the one connected to."""
    resolved = 0

    async def rebind(host: str, port: int) -> list[str]:
        nonlocal resolved
        resolved += 1
        return ["8.8.8.8"] if resolved == 1 else ["127.0.0.1"]

    poster = Watched(f"https://shop.example:{canary.port}/", rebind, False, _TLS)
    assert (await poster.post({}, b"{}")).error == "no connection"
    assert (resolved, poster.reached) == (1, ["8.8.8.8"])
    assert (await poster.post({}, b"{}")).error == "address refused: leads to an address that is not public"
    assert (resolved, poster.reached, canary.touched) == (2, ["8.8.8.8"], 0)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(canary: Canary, receiver: Receiver, status: int) -> None:
    """A redirect is a failed delivery; the sender does not follow it."""
    receiver.headers = (
        f"Location: http://127.0.0.1:{canary.port}/\r\nRefresh: 0; url=http://127.0.0.1:{canary.port}/\r\n"
    )
    receiver.judge = lambda got: status
    posted = await Poster(receiver.url(), Resolver(), True, _TLS).post({}, b"{}")
    assert (posted.status, posted.delivered, canary.touched) == (status, False, 0)


async def test_no_proxy_of_the_environment(canary: Canary, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender ignores the proxies of the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    assert (await Poster(receiver.url(), Resolver(), True, _TLS).post({}, b"{}")).delivered
    await Watched("https://shop.example/", _public, False, _TLS).post({}, b"{}")
    assert canary.touched == 0


async def test_this_machine_where_it_may_be(canary: Canary) -> None:
    """With the setting of the embedded mode the sender reaches this machine."""
    poster = Watched(f"http://localhost:{canary.port}/", Resolver(), True, _TLS)
    assert (await poster.post({}, b"{}")).error == "the connection broke"
    assert canary.touched >= 1
    assert set(poster.reached) <= {"127.0.0.1", "::1"}
    assert socket.gethostbyname("localhost") == "127.0.0.1"


async def _here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def _public(host: str, port: int) -> list[str]:
    return ["8.8.8.8"]
