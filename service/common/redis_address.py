"""The address of a Redis: REDIS_URL, which redis-py parses host by host.

    redis://[user:password@]host[:port][/database]
    redis+sentinel://[user:password@]host[:port],host[:port]…/service[/database]
    redis+cluster://[user:password@]host[:port],host[:port]…
    unix://[user:password@]/path

`rediss`, `rediss+sentinel` and `rediss+cluster` use TLS. Parts are percent-encoded. OPTIONS follow a `?`.

redis-py has no URLs with several hosts, takes any option, and quotes a wrong port, which may be a part of a password.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote

import click

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FILES = ("password_file", "sentinel_password_file", *TLS_FILES)
OPTIONS = ("db", "username", "password", "sentinel_username", "sentinel_password", *FILES)
MAX_PORT = 65_535
MAX_PASSWORD_BYTES = 4096


class Host(NamedTuple):
    """Where a server listens."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user and its password. A password file is read at each new connection, so that the password can be rotated."""

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""

    def credentials(self) -> tuple[str, str | bytes] | None:
        """User and password; None to stay unauthenticated. Raises OSError if the file can't be read."""
        password: str | bytes = self.password
        if self.password_file:
            with Path(self.password_file).open("rb") as file:
                password = file.read(MAX_PASSWORD_BYTES).rstrip(b"\r\n")
        return (self.username or "default", password) if self.username or password else None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis, the sentinels that name it, or nodes of a cluster. Its text holds no secret."""

    hosts: tuple[Host, ...]
    """The server, its sentinels, or some nodes of the cluster; empty for a socket."""
    service: str
    """The primary's name at the sentinels; '' without sentinels."""
    path: str
    """A Unix socket; '' for a host."""
    database: int
    login: Login
    sentinel_login: Login
    tls: tuple[tuple[str, str], ...] | None
    """The options `ssl_…`; None without TLS."""
    is_cluster: bool

    def __str__(self) -> str:
        if self.path:
            return self.path
        hosts = ",".join(map(str, self.hosts))
        return hosts if self.is_cluster else f"{hosts}/{self.service or self.database}"

    def at(self, host: Host) -> Self:
        """The address of one node of the cluster."""
        return replace(self, hosts=(host,), is_cluster=False)


def parse_redis_address(url: str) -> RedisAddress:
    """Parse a URL. Raises ValueError with a message that quotes nothing of it: it may hold a password."""
    from redis.asyncio.connection import parse_url  # takes a third of a second, which `scrip --help` need not

    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError("must start with " + " or ".join(f"{scheme}://" for scheme in SCHEMES))
    if "#" in rest:
        raise ValueError("must not contain #: write it as %23")
    place, _, query = rest.partition("?")
    options = _parse_options(query)
    netloc, _, path = place.partition("/")
    userinfo, at, names = netloc.rpartition("@")
    plain, _, kind = scheme.partition("+")
    service, _, path = path.partition("/") if kind == "sentinel" else ("", "", path)
    if plain == "unix" and (names or not path.strip("/")):
        raise ValueError("must name the path of a socket after unix://")
    if kind == "sentinel" and not service:
        raise ValueError("must name sentinels and, after the /, their service: redis+sentinel://host:26379/service")
    several = names.split(",") if kind else [names]
    try:
        parsed: list[dict[str, Any]] = [
            {**parse_url(f"{plain}://{userinfo}{at}{name}/{path}?{query}")} for name in several
        ]
    except ValueError:
        parsed = []
    if not parsed or (kind and "" in several) or "," in parsed[0].get("host", ""):
        raise ValueError("must name hosts as name, name:port or [address]:port; percent-encode user and password")
    if plain != "unix" and not re.fullmatch("[0-9]{0,5}", path + options.get("db", ""), re.ASCII):
        raise ValueError("must name the database by its number")
    first = parsed[0]
    if kind == "cluster" and first.get("db"):
        raise ValueError("must not name a database: partitions of a cluster are in database 0")
    port = 26379 if kind == "sentinel" else 6379
    return RedisAddress(
        hosts=tuple(Host(one.get("host", "localhost"), one.get("port", port)) for one in parsed if plain != "unix"),
        service=unquote(service),
        path=first.get("path", ""),
        database=first.get("db", 0),
        login=_make_login(first, "", is_empty_meant=":" in userinfo),
        sentinel_login=_make_login(options, "sentinel_"),
        tls=tuple((name, options[name]) for name in TLS_FILES if name in options) if plain == "rediss" else None,
        is_cluster=kind == "cluster",
    )


def check_redis_url(url: str | None) -> str | None:
    """Return the URL of a setting. Raises ValueError if it is wrong, or names a file that can't be read."""
    if url is not None:
        parse_redis_address(url)
        for option, path in parse_qsl(url.partition("?")[2]):
            if option in FILES and not os.access(path, os.R_OK):
                raise ValueError(f"names a file as {option} that can't be read")
    return url


def check_redis_option(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    """Check the URL of a command's option. Raises BadParameter, which quotes nothing of the URL."""
    try:
        return check_redis_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _parse_options(query: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"))
    except ValueError:
        raise ValueError("must have options like name=value after its ?") from None
    if options.keys() - set(OPTIONS):
        raise ValueError(f"may have only these options after its ?: {', '.join(OPTIONS)}")
    return options


def _make_login(options: Mapping[str, str], prefix: str, *, is_empty_meant: bool = False) -> Login:
    username, password = options.get(f"{prefix}username", ""), options.get(f"{prefix}password", "")
    file = options.get(f"{prefix}password_file", "")
    if password and file:
        raise ValueError(f"must name a password or a {prefix}password_file, not both")
    if username and not (password or file or is_empty_meant):
        raise ValueError(f"names a user without a password: add one, or a {prefix}password_file")
    return Login(username, password, file)
