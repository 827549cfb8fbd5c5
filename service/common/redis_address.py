"""Parse the address of a Redis, REDIS_URL, for config.py and connections.

    redis://[user:password@]host[:port][/database]
    redis+sentinel://[user:password@]host[:port],host[:port]…/service[/database]
    redis+cluster://[user:password@]host[:port],host[:port]…
    unix://[user:password@]/path

`rediss`, `rediss+sentinel` and `rediss+cluster` use TLS. Parts are percent-encoded. OPTIONS follow a `?`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FILES = ("password_file", "sentinel_password_file", *TLS_FILES)
OPTIONS = ("db", "username", "password", "sentinel_username", "sentinel_password", *FILES)
MAX_PORT = 65_535


class Host(NamedTuple):
    """Where a server listens."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis, the sentinels that name it, or nodes of a cluster. Its text holds no secret."""

    hosts: tuple[Host, ...]
    """The server, its sentinels, or some nodes of the cluster; empty for a socket."""
    service: str
    """The primary's name at the sentinels; '' without sentinels."""
    options: Mapping[str, Any] = field(repr=False, hash=False)
    """Those of OPTIONS for the server, and a socket's `path`."""
    sentinel_options: Mapping[str, Any] = field(repr=False, hash=False)
    is_tls: bool
    is_cluster: bool

    def __str__(self) -> str:
        hosts = ",".join(map(str, self.hosts)) or self.options["path"]
        return hosts if self.is_cluster else f"{hosts}/{self.service or self.options.get('db', 0)}"

    def at(self, host: Host) -> Self:
        """The address of one node of the cluster."""
        return replace(self, hosts=(host,), is_cluster=False)


def parse_redis_address(url: str) -> RedisAddress:
    """Parse a URL. Raises ValueError with a message that quotes nothing of it: it may hold a password."""
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
        parsed = [_parse_one(f"{plain}://{userinfo}{at}{name}/{path}", options) for name in several]
    except ValueError:
        parsed = []
    if not parsed or (kind and "" in several) or "," in parsed[0].get("host", ""):
        raise ValueError("must name hosts as name, name:port or [address]:port; percent-encode user and password")
    if not re.fullmatch("[0-9]{0,5}", ("" if plain == "unix" else path) + options.get("db", ""), re.ASCII):
        raise ValueError("must name the database by its number")
    places: dict[str, Any] = {"path": parsed[0]["path"]} if plain == "unix" else {}
    if "db" in parsed[0]:
        places["db"] = int(parsed[0]["db"] or 0)
    if kind == "cluster" and places.get("db"):
        raise ValueError("must not name a database: partitions of a cluster are in database 0")
    port = 26379 if kind == "sentinel" else 6379
    is_tls = plain == "rediss"
    tls = {name: options[name] for name in TLS_FILES if name in options and is_tls}
    return RedisAddress(
        hosts=tuple(Host(one.get("host", "localhost"), one.get("port", port)) for one in parsed if plain != "unix"),
        service=unquote(service),
        options=_choose_login(parsed[0], "", is_empty_meant=":" in userinfo) | places | tls,
        sentinel_options=_choose_login(options, "sentinel_") | tls,
        is_tls=is_tls,
        is_cluster=kind == "cluster",
    )


def check_redis_url(url: str | None) -> str | None:
    """Return the URL of a setting. Raises ValueError if it is wrong, or names a file that can't be read."""
    if url is not None:
        parse_redis_address(url)
        check_files(url, FILES)
    return url


def check_files(url: str, options: Sequence[str]) -> None:
    """Raises ValueError if one of these options names a file that can't be read."""
    for option, path in parse_qsl(url.partition("?")[2]):
        if option in options and not os.access(path, os.R_OK):
            raise ValueError(f"names a file as {option} that can't be read")


def _parse_one(url: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The parts of a URL of one host, beside the options that follow it. Raises ValueError."""
    parts = urlsplit(url)
    texts = {"username": parts.username, "password": parts.password}
    if parts.scheme == "unix":
        texts["path"] = parts.path
    else:
        texts |= {"host": parts.hostname, "db": options.get("db") or parts.path.strip("/")}
    named = {name: unquote(text) for name, text in texts.items() if text}
    return {**options, **named, **({"port": parts.port} if parts.port else {})}


def _parse_options(query: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"))
    except ValueError:
        raise ValueError("must have options like name=value after its ?") from None
    if options.keys() - set(OPTIONS):
        raise ValueError(f"may have only these options after its ?: {', '.join(OPTIONS)}")
    return options


def _choose_login(options: Mapping[str, Any], prefix: str, *, is_empty_meant: bool = False) -> dict[str, Any]:
    names = ("username", "password", "password_file")
    chosen = {name: options[prefix + name] for name in names if options.get(prefix + name)}
    if "password" in chosen and "password_file" in chosen:
        raise ValueError(f"must name a password or a {prefix}password_file, not both")
    if chosen.keys() == {"username"} and not is_empty_meant:
        raise ValueError(f"names a user without a password: add one, or a {prefix}password_file")
    return chosen
