"""The settings. No other module reads the environment, except for the passwords of `scrip migrate --roles`. All
commands and processes take them; .env.example and docs/deploy.md name each, which tests/documents/ checks."""

import ipaddress
import json
import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

from service.common.redis_address import MAX_PORT, check_files, check_redis_url

_FILE = ".env"
"""In the working directory."""
_PREFIX = "SCRIP_"
_SECRET = frozenset({"REDIS_URL", "DATABASE_URL", "DATABASE_READ_URL", "SCRIP_SIGN_IN"})

_OF_MIGRATE = frozenset({"SCRIP_API_PASSWORD", "SCRIP_WORKER_PASSWORD"})
_is_of_kubernetes = re.compile(r"SCRIP_.+_(PORT|SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP)(_.+)?)").fullmatch
"""Kubernetes describes services in the environment of containers."""

Port = Annotated[int, Field(ge=1, le=MAX_PORT)]


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_is_origin = re.compile(r"\*|https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?").fullmatch


def _split_list(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _parse_network(text: Any) -> Any:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be networks like 10.0.0.0/8 or addresses, between commas") from None


def _parse_origin(text: Any) -> Any:
    if not isinstance(text, str) or not _is_origin(text.lower()):
        raise ValueError("must be origins like https://shop.example, or *, between commas")
    return text.lower()


Network = Annotated[Any, BeforeValidator(_parse_network)]
Origin = Annotated[str, BeforeValidator(_parse_origin)]


def _parse_array(value: Any) -> Any:
    with suppress(ValueError):
        value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, list | tuple):
        raise ValueError("must be a JSON array")
    return value


_is_host = re.compile(r"(\[[^]]*\]|[^]:[]*)(:[0-9]*)?").fullmatch


def _check_postgres_url(url: str | None) -> str | None:
    """Check the scheme, the hosts, the ports and the files of a URL, which may name several hosts."""
    if url is None:
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise ValueError("must start with postgresql:// or postgres://")
    if "#" in rest:
        raise ValueError("must not contain #: write it as %23")
    hosts = re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")[2].split(",")
    if not all(_is_host(host) for host in hosts):
        raise ValueError("must name hosts as name, name:port or [address]:port; percent-encode user and password")
    if any(int(port) > MAX_PORT for host in hosts for port in re.findall(":([0-9]+)$", host)):
        raise ValueError(f"must name ports up to {MAX_PORT}")
    check_files(rest, ("sslrootcert", "sslcert", "sslkey", "passfile"))
    for option, path in parse_qsl(rest.partition("?")[2]):
        if option == "passfile":
            _check_passfile(Path(path))
    return url


def _check_passfile(path: Path) -> None:
    """Raises ValueError for a file that asyncpg ignores, or can't split."""
    if not path.is_file() or path.stat().st_mode & 0o077:
        raise ValueError("names a passfile that others than its owner may read: give it the mode 600")
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    if any(line.count(":") < 4 for line in lines if line and not line.startswith("#")):
        raise ValueError("names a passfile with a line that is not host:port:database:user:password")


PostgresUrl = Annotated[str | None, AfterValidator(_check_postgres_url)]


def _check_time_of_day(text: str) -> str:
    if not re.fullmatch("off|([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError("must be a time of day from 00:00 to 23:59, or off")
    return text


def _choose_log_level() -> str:
    return "warning" if sys.stderr.isatty() else "info"


class JwtIssuer(BaseModel, frozen=True, extra="forbid"):
    """An issuer whose tokens authenticate users of one workspace."""

    issuer: str = Field(min_length=1, max_length=500)
    """Must equal the token's `iss`."""
    audience: str = Field(min_length=1, max_length=500)
    """Must be in the token's `aud`."""
    workspace: str = Field(min_length=1, max_length=100)
    """The workspace's name."""
    jwks: str = Field(min_length=1, max_length=2000)
    """The issuer's public keys: a path or a URL."""

    @field_validator("jwks")
    @classmethod
    def _check_jwks(cls, value: str) -> str:
        if "://" in value and not is_safe_url(value):
            raise ValueError("must be a file or an https:// address (http:// on this machine alone)")
        return value


class SignIn(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """An OpenID provider whose people sign in to the console of one workspace."""

    issuer: str = Field(min_length=1, max_length=500)
    """Its address. Must equal the `iss` of its tokens."""
    client_id: str = Field(min_length=1, max_length=500)
    client_secret: str = Field(min_length=1, max_length=1000, repr=False)
    workspace: str = Field(min_length=1, max_length=100)
    """The workspace's name."""
    roles: dict[str, tuple[Literal["checkout", "manage", "operate"], ...]] = Field(min_length=1, max_length=100)
    """The scopes of each role; `*` is everybody."""
    claim: str = Field(default="groups", min_length=1, max_length=200)
    """The claim with a person's roles; dots lead into an object, as in `realm_access.roles`."""
    name: str = Field(default="email", min_length=1, max_length=200)
    """The claim that names a person in the audit. The provider must keep it unique, and its people not choose it."""
    scope: str = Field(default="openid email profile", pattern=r"^openid( |$)", max_length=200)
    """What the provider is asked for."""

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        if not is_safe_url(value):
            raise ValueError("must be an https:// address (http:// on this machine alone)")
        return value

    @field_validator("roles")
    @classmethod
    def _check_roles(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if any(set(scopes).isdisjoint(("manage", "operate")) for scopes in value.values()):
            raise ValueError("must give each role the scope manage or operate, which the console needs")
        return value


class SettingsError(click.ClickException):
    """Settings are invalid. The message names each of them."""

    exit_code = 2


class Settings(BaseSettings):
    """Settings from the environment and from `.env` in the working directory. The environment takes precedence."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # Without this, errors quote the value; a URL may hold a password.
        hide_input_in_errors=True,
    )

    redis_url: Annotated[str | None, AfterValidator(check_redis_url)] = Field(
        default=None, validation_alias="REDIS_URL", repr=False
    )
    """URL of Redis, its sentinels or its cluster (service/common/redis_address.py). None: that of `scrip run`."""
    database_url: PostgresUrl = Field(default=None, validation_alias="DATABASE_URL", repr=False)
    """URL of Postgres. None: that of `scrip run`."""
    redis_durability: Literal["always", "log"] | None = None
    """How a Redis that hides CONFIG makes a write durable before it replies: `always` syncs its file, `log` commits to
    a vendor's transaction log, whose only owner answers (decision 0047). Not verified. None: responses of such a
    Redis are `accepted`."""
    database_read_url: PostgresUrl = Field(default=None, validation_alias="DATABASE_READ_URL", repr=False)
    """URL of a physical replica of Postgres for exports, histories and comparisons. None: the primary."""
    host: str = "127.0.0.1"
    port: Port = 8000
    api_processes: int = Field(default=1, ge=1, le=32)
    """Number of API processes. Above 1, uvicorn's supervisor starts and replaces them."""
    data_dir: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Path(".scrip")
    """Data folder of `scrip run`; absolute once loaded."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lowercase)] = Field(
        default_factory=_choose_log_level,
        validate_default=True,
    )
    """`warning` on a terminal, `info` elsewhere."""
    max_unrecorded_s: int = Field(default=900, ge=10, le=86_400)
    """Age in seconds of the oldest unrecorded event at which changes are refused; locks, assignments at 80 % of it."""
    standbys: int = Field(default=0, ge=0, le=16)
    """Number of Postgres's standbys that must have flushed an event before the outbox drops it. 0: none."""
    reconcile_at: Annotated[str, AfterValidator(_check_time_of_day)] = "03:30"
    """Time of day in UTC at which the worker compares Redis with Postgres. `off`: never."""
    retire_days: int = Field(default=100, ge=0, le=36_500)
    """Days after its end when a book is archived: it leaves Redis for good, with its codes and orders. 0: never."""
    fact_days: int = Field(default=0, ge=0, le=36_500)
    """Age in days at which months of facts are dropped from Postgres, if all their books are archived. 0: never."""
    metrics_port: Port | None = None
    """Port of metrics and health, for operators alone. None: the API's own port has both, and workers have neither."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split_list)] = ()
    """Networks of proxies whose `X-Forwarded-For` is trusted."""
    jwt_issuers: Annotated[tuple[JwtIssuer, ...], NoDecode, BeforeValidator(_parse_array)] = ()
    """Trusted issuers of user tokens; a JSON array in the environment."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split_list)] = ()
    """Origins whose pages may read answers. Empty: only the service's own pages."""
    sign_in: Annotated[tuple[SignIn, ...], NoDecode, BeforeValidator(_parse_array)] = Field(default=(), repr=False)
    """OpenID providers of the console's people; a JSON array in the environment."""
    _embedded: bool = PrivateAttr(default=False)

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded one, with demo data and public keys. An option with which `scrip run`
        starts its processes, and not of the environment."""
        return self._embedded

    @field_validator("jwt_issuers")
    @classmethod
    def _check_issuers_unique(cls, value: tuple[JwtIssuer, ...]) -> tuple[JwtIssuer, ...]:
        if len({(one.issuer, one.audience) for one in value}) != len(value):
            raise ValueError("must name each issuer and audience once: they say which workspace a token is for")
        return value

    @field_validator("sign_in")
    @classmethod
    def _check_workspaces_unique(cls, value: tuple[SignIn, ...]) -> tuple[SignIn, ...]:
        if len({one.workspace for one in value}) != len(value):
            raise ValueError("must name each workspace once")
        return value


def load(*, embedded: bool = False, **options: Any) -> Settings:
    """Load the settings; a command's options that are not None go before. Raises SettingsError, a line each value."""
    try:
        _check_file()
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        lines = [_describe(detail) for detail in error.errors(include_url=False)]
        raise SettingsError("\n  ".join(["settings that can't be used:", *lines])) from None
    settings._embedded = embedded  # noqa: SLF001, nothing else sets it
    return settings


def _check_file() -> None:
    """Raises SettingsError if the file is there and can't be read, which pydantic leaves as it is, or ignores."""
    try:
        if os.path.lexists(_FILE):
            Path(_FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{Path(_FILE).absolute()} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{Path(_FILE).absolute()} must be UTF-8: line {line} is not.") from None


def find_misspelt() -> list[str]:
    """The variables that are no settings, and nearly have the name of one."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | _OF_MIGRATE
    names = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)} - known
    prefixed = sorted(name for name in names if name.startswith(_PREFIX) and not _is_of_kubernetes(name))
    return [name for name in prefixed if get_close_matches(name, known, cutoff=0.85)]


class TraceSampler(NamedTuple):
    """Which requests are traced: a share of them, and with `follows` those that their callers have sampled."""

    ratio: float
    follows: bool


def find_sampler() -> TraceSampler | None:
    """The sampler by OpenTelemetry's variables; None if they name no collector. Raises SettingsError."""
    read = os.environ.get
    if not (read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or read("OTEL_EXPORTER_OTLP_ENDPOINT")):
        return None
    if read("OTEL_SDK_DISABLED", "").lower() == "true" or read("OTEL_TRACES_EXPORTER") == "none":
        return None
    name = read("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    sampler = name.removeprefix("parentbased_")
    try:
        ratio = {"always_on": 1.0, "always_off": 0.0}.get(sampler)
        ratio = float(read("OTEL_TRACES_SAMPLER_ARG") or 1) if sampler == "traceidratio" else ratio
        if ratio is None or not 0 <= ratio <= 1:
            raise ValueError
    except ValueError:
        raise SettingsError(
            "settings that can't be used:\n  OTEL_TRACES_SAMPLER must be always_on, always_off or traceidratio, or one "
            "of them after parentbased_, and OTEL_TRACES_SAMPLER_ARG a ratio from 0 to 1"
        ) from None
    return TraceSampler(ratio, follows=sampler != name)


def is_safe_url(url: str) -> bool:
    """Whether this is an address by TLS, or of this machine, without a password."""
    parts = urlsplit(url)
    is_plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    return (parts.scheme == "https" or is_plain) and "@" not in parts.netloc and bool(parts.hostname)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _describe(detail: Any) -> str:
    """Describe one pydantic error: the variable, what it must be, and its value unless it may hold a secret."""
    name = str(detail["loc"][0])
    variable = name if name in _SECRET else _PREFIX + name.upper()
    is_missing = detail["type"] == "missing"
    rule = "must be given" if is_missing else detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = "" if variable in _SECRET or is_missing else f", not {detail['input']!r}"
    path = "".join(f".{step}" for step in detail["loc"][1:] if len(detail["loc"]) > 2)
    return f"{variable}{path} {rule}{value}"
