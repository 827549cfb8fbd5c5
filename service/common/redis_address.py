"""The address of a Redis: the only parser of REDIS_URL.

    redis://[user:password@]host[:port][/database]
    redis+sentinel://[user:password@]host[:port],host[:port]…/service[/database]
    redis+cluster://[user:password@]host[:port],host[:port]…
    unix://[user:password@]/path

`rediss`, `rediss+sentinel` and `rediss+cluster` use TLS. Parts are percent-encoded. OPTIONS follow a `?`.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import click

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
OPTIONS = (
    "db", "username", "password", "password_file", "sentinel_username", "sentinel_password", "sentinel_password_file",
    "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
)  # fmt: skip
MAX_PORT = 65_535
MAX_PASSWORD_BYTES = 4096

_match_host = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@\s]*)(?::([0-9]{1,5}))?", re.ASCII).fullmatch


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
    is_tls: bool
    is_cluster: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        if self.path:
            return self.path
        hosts = ",".join(map(str, self.hosts))
        return hosts if self.is_cluster else f"{hosts}/{self.service or self.database}"

    def at(self, host: Host) -> Self:
        """The address of one node of the cluster."""
        return replace(self, hosts=(host,), is_cluster=False)

    def unreadable_file(self) -> str | None:
        """The option of the first named file that can't be read; None if all can."""
        files = {
            "password_file": self.login.password_file,
            "sentinel_password_file": self.sentinel_login.password_file,
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.certificate_file,
            "ssl_keyfile": self.key_file,
        }
        return next((option for option, path in files.items() if path and not _is_readable(path)), None)


def parse_redis_address(url: str) -> RedisAddress:
    """Parse a URL. Raises ValueError with a message that quotes nothing of it: it may hold a password."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError("must start with " + " or ".join(f"{scheme}://" for scheme in SCHEMES))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("must be a URL with valid hosts") from None
    if parts.fragment:
        raise ValueError("must not contain #: write it as %23")
    options = _parse_options(parts.query)
    userinfo, _, netloc = parts.netloc.rpartition("@")
    username, colon, password = userinfo.partition(":")
    login = _make_login(options, "", unquote(username), unquote(password), is_empty_meant=bool(colon))
    is_sentinel, is_cluster, is_socket = scheme.endswith("+sentinel"), scheme.endswith("+cluster"), scheme == "unix"
    path = [unquote(part) for part in parts.path.split("/")[1:]] or [""]
    if is_socket and (netloc or not parts.path.strip("/")):
        raise ValueError("must name the path of a socket after unix://")
    if is_sentinel and (not path[0] or "" in (host.partition(":")[0] for host in netloc.split(","))):
        raise ValueError("must name sentinels and, after the /, their service: redis+sentinel://host:26379/service")
    if is_cluster and "" in (host.partition(":")[0] for host in netloc.split(",")):
        raise ValueError("must name nodes of the cluster: redis+cluster://host:6379,host:6379")
    several = is_sentinel or is_cluster
    hosts = () if is_socket else _parse_hosts(netloc, 26379 if is_sentinel else 6379, several=several)
    text = "" if is_socket else "/".join(path[1:] if is_sentinel else path)
    database = _parse_database(options.get("db") or text)
    if is_cluster and database:
        raise ValueError("must not name a database: partitions of a cluster are in database 0")
    return RedisAddress(
        hosts=hosts,
        service=path[0] if is_sentinel else "",
        path=unquote(parts.path) if is_socket else "",
        database=database,
        login=login,
        sentinel_login=_make_login(options, "sentinel_"),
        is_tls=scheme.startswith("rediss"),
        is_cluster=is_cluster,
        ca_file=options.get("ssl_ca_certs"),
        certificate_file=options.get("ssl_certfile"),
        key_file=options.get("ssl_keyfile"),
    )


def check_redis_url(url: str | None) -> str | None:
    """Return the URL of a setting. Raises ValueError if it is wrong, or names a file that can't be read."""
    if url is not None and (option := parse_redis_address(url).unreadable_file()):
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


def _make_login(
    options: dict[str, str], prefix: str, username: str = "", password: str = "", *, is_empty_meant: bool = False
) -> Login:
    username = options.get(f"{prefix}username", username)
    password, file = options.get(f"{prefix}password", password), options.get(f"{prefix}password_file", "")
    if password and file:
        raise ValueError(f"must name a password or a {prefix}password_file, not both")
    if username and not (password or file or is_empty_meant or f"{prefix}password" in options):
        raise ValueError(f"names a user without a password: add one, or a {prefix}password_file")
    return Login(username, password, file)


def _parse_hosts(netloc: str, port: int, *, several: bool) -> tuple[Host, ...]:
    hosts: list[Host] = []
    for text in netloc.split(",") if several else [netloc]:
        match = _match_host(text)
        if match is None:
            raise ValueError("must name hosts as name, name:port or [address]:port; percent-encode user and password")
        hosts.append(Host(unquote(match[1].strip("[]")) or "localhost", int(match[2] or port)))
    if any(not 0 < host.port <= MAX_PORT for host in hosts):
        raise ValueError(f"must name ports up to {MAX_PORT}")
    return tuple(hosts)


def _parse_database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,5}", text, re.ASCII):
        raise ValueError("must name the database by its number")
    return int(text or 0)


def _is_readable(path: str) -> bool:
    try:
        Path(path).open("rb").close()
    except OSError:
        return False
    return True
