"""The settings, and the one place that reads the environment."""

import contextlib
import ipaddress
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import click
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "SCRIP_"
_SECRET = frozenset({"REDIS_URL", "DATABASE_URL"})

MAX_PORT = 65_535
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_is_origin = re.compile(r"\*|https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?").fullmatch


def _words(value: Any) -> Any:
    """Words between commas."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _network(text: Any) -> Any:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be networks like 10.0.0.0/8 or addresses, between commas") from None


def _origin(text: Any) -> Any:
    if not isinstance(text, str) or not _is_origin(text.lower()):
        raise ValueError("must be origins like https://shop.example, or *, between commas")
    return text.lower()


Network = Annotated[Any, BeforeValidator(_network)]
Origin = Annotated[str, BeforeValidator(_origin)]


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("must be JSON") from None


def _default_log_format() -> str:
    return "console" if sys.stderr.isatty() else "json"


class JwtIssuer(BaseModel, frozen=True, extra="forbid"):
    """Whose users' tokens are taken, and for which workspace."""

    issuer: str = Field(min_length=1, max_length=500)
    """`iss`, to the letter."""
    audience: str = Field(min_length=1, max_length=500)
    """One of the token's `aud`."""
    workspace: str = Field(min_length=1, max_length=100)
    """By its name."""
    jwks: str = Field(min_length=1, max_length=2000)
    """Where the issuer's public keys are: a file, or an address."""

    @field_validator("jwks")
    @classmethod
    def _secure(cls, value: str) -> str:
        parts = urlsplit(value)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        if "://" in value and (not (parts.scheme == "https" or plain) or "@" in parts.netloc or not parts.hostname):
            raise ValueError("must be a file or an https:// address (http:// on this machine alone)")
        return value


class SettingsError(click.ClickException):
    """The environment holds values that can't be used; the message names every one."""

    exit_code = 2


class Settings(BaseSettings):
    """What the environment and a `.env` file in the working directory say; the environment wins."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # Errors would otherwise quote the value, and a URL may hold a password.
        hide_input_in_errors=True,
    )

    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL", repr=False)
    """Redis or Valkey; None is the embedded Valkey."""
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL", repr=False)
    """Postgres; None is the embedded one."""
    host: str = "127.0.0.1"
    port: Port = 8000
    api_processes: int = Field(default=1, ge=1, le=32)
    """How many processes serve the API; several have a supervisor that hands them connections."""
    data_dir: Path = Path(".scrip")
    """Where `scrip run` keeps its data; absolute once read."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        default_factory=_default_log_format,
        validate_default=True,
    )
    """`console` on a terminal, `json` elsewhere."""
    partitions: int = Field(default=1, ge=1, le=1024)
    """How many slots workspaces spread over; fixed once the database is made."""
    reconcile_at: Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$")] = ""
    """When the worker has Redis compared with the record each day, in UTC (`03:30`); never where empty."""
    metrics_port: Port | None = None
    """Where the worker serves its metrics; None serves none."""
    kept_bytes: int = Field(default=64 << 20, ge=1 << 20, le=1 << 40)
    """Of answers that a workspace may keep under Idempotency-Keys of requests off the hot path."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_words)] = ()
    """Whose word on a client's address is taken (`X-Forwarded-For`)."""
    jwt_issuers: Annotated[tuple[JwtIssuer, ...], NoDecode, BeforeValidator(_json)] = ()
    """Whose users' tokens are taken; JSON."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_words)] = ()
    """Whose pages may read answers; none are no page's but our own."""
    embedded: bool = False
    """Whether the database is the embedded one, with its demo data and fixed keys; `scrip run` tells its processes."""

    webhook_allow_loopback: bool | None = None
    """Whether webhooks may lead to this machine itself, and there by `http`; None is in embedded mode alone."""

    @property
    def webhooks_to_loopback(self) -> bool:
        """What `webhook_allow_loopback` comes to."""
        return self.embedded if self.webhook_allow_loopback is None else self.webhook_allow_loopback

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str | None) -> str | None:
        return _with_scheme(value, ("redis", "rediss", "unix"))

    @field_validator("database_url")
    @classmethod
    def _postgres_scheme(cls, value: str | None) -> str | None:
        return _with_scheme(value, ("postgresql", "postgres"))

    @field_validator("jwt_issuers")
    @classmethod
    def _told_apart(cls, value: tuple[JwtIssuer, ...]) -> tuple[JwtIssuer, ...]:
        if len({(one.issuer, one.audience) for one in value}) != len(value):
            raise ValueError("must name each issuer and audience once: they say which workspace a token is for")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    def servers(self) -> tuple[str | None, str | None]:
        """Redis's address and Postgres's; an embedded one's is where a running `scrip run` says it."""
        found: dict[str, str] = {}
        if self.redis_url is None or self.database_url is None:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((self.data_dir / "run.json").read_text())
        return self.redis_url or found.get("redisUrl"), self.database_url or found.get("databaseUrl")


def load() -> Settings:
    """Read the settings. Raises SettingsError with one line for each bad value."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [_line(found) for found in error.errors(include_url=False)]
        raise SettingsError("\n  ".join(["settings that can't be used:", *lines])) from None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_scheme(value: str | None, schemes: tuple[str, ...]) -> str | None:
    if value is not None and urlsplit(value).scheme not in schemes:
        raise ValueError("must start with " + " or ".join(f"{scheme}://" for scheme in schemes))
    if value is not None and any(int(port) > MAX_PORT for port in _ports(value)):
        raise ValueError(f"must name ports up to {MAX_PORT}")
    return value


def _ports(url: str) -> list[str]:
    """The ports that a URL of one or several hosts names."""
    return re.findall(r":(\d+)(?=,|$)", urlsplit(url).netloc.rpartition("@")[2], re.ASCII)


def _line(found: Any) -> str:
    """One bad value in words: the variable, what it must be, what it is (unless that may be a secret)."""
    name = str(found["loc"][0])
    variable = name if name in _SECRET else _PREFIX + name.upper()
    wanted = found["msg"].removeprefix("Value error, ").removeprefix("Input ")
    shown = "" if variable in _SECRET else f", not {found['input']!r}"
    part = "".join(f".{place}" for place in found["loc"][1:] if len(found["loc"]) > 2)
    return f"{variable}{part} {wanted}{shown}"
