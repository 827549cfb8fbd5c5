"""The settings: their sources, and the messages about bad values."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.cli.main import main
from service.common import config


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in config.Settings.model_fields:
        monkeypatch.delenv(f"SCRIP_{name.upper()}", raising=False)
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    """Without any variable, Scrip listens on this machine alone and brings its own servers."""
    settings = config.load()

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.redis_url, settings.database_url, settings.metrics_port) == (None, None, None)
    assert settings.retire_days == 100
    assert settings.data_dir == tmp_path / ".scrip"
    assert (settings.standbys, settings.redis_durability) == (0, None)


def test_misspelt_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt name is found, in the environment and in the file; one of an option or of Kubernetes is not."""
    (tmp_path / ".env").write_text("SCRIP_PROT=8001\nSCRIP_HOST=::1\nOTHER=1\n")
    for name in (
        "SCRIP_STANDBY",
        "SCRIP_API_PASSWORD",
        "SCRIP_MODEL_STEPS",
        "SCRIP_API_SERVICE_HOST",
        "SCRIP_API_PORT_80_TCP_ADDR",
        "REDIS",
    ):
        monkeypatch.setenv(name, "1")
    assert config.find_misspelt() == ["SCRIP_PROT", "SCRIP_STANDBY"]


def test_environment_wins_over_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable of the environment overrides the .env file."""
    (tmp_path / ".env").write_text("SCRIP_PORT=8001\nSCRIP_HOST=0.0.0.0\n")
    monkeypatch.setenv("SCRIP_PORT", "8002")
    monkeypatch.setenv("SCRIP_REDIS_DURABILITY", "log")

    settings = config.load()

    assert (settings.host, settings.port, settings.redis_durability) == ("0.0.0.0", 8002, "log")


@pytest.mark.parametrize(("is_terminal", "chosen"), [(True, "warning"), (False, "info")])
def test_logs_by_where_they_go(is_terminal: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets warnings; anything else gets every line. A variable overrides that."""
    monkeypatch.setattr(config.sys.stderr, "isatty", lambda: is_terminal, raising=False)
    assert config.load().log_level == chosen

    monkeypatch.setenv("SCRIP_LOG_LEVEL", "INFO")
    assert config.load().log_level == "info"


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable means the default, as compose files and shells set it."""
    monkeypatch.setenv("SCRIP_METRICS_PORT", "")
    monkeypatch.setenv("REDIS_URL", "")

    settings = config.load()

    assert settings.metrics_port is None
    assert settings.redis_url is None


def test_all_bad_values_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bad value is named in one message, a line each, and the command ends with 2 and no traceback."""
    monkeypatch.setenv("SCRIP_PORT", "70000")
    monkeypatch.setenv("SCRIP_LOG_LEVEL", "loud")
    monkeypatch.setenv("SCRIP_STANDBYS", "none")
    monkeypatch.setenv("DATABASE_URL", "mysql://example")

    result = CliRunner().invoke(main, ["api"])

    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    for name in ("SCRIP_PORT", "SCRIP_LOG_LEVEL", "SCRIP_STANDBYS", "DATABASE_URL"):
        assert sum(line.strip().startswith(name) for line in result.output.splitlines()) == 1


def test_no_variable_makes_a_database_the_embedded_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the option of `scrip run` does: with it, pages show the demo's key, and webhooks may call this machine."""
    monkeypatch.setenv("SCRIP_EMBEDDED", "true")
    (tmp_path / ".env").write_text("EMBEDDED=true\nSCRIP_EMBEDDED=true\n")
    assert config.load().embedded is False
    assert config.load(embedded=True).embedded is True


def test_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks and origins are separated by commas."""
    monkeypatch.setenv("SCRIP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    monkeypatch.setenv("SCRIP_CORS_ORIGINS", "https://shop.example,HTTP://localhost:3000")
    settings = config.load()
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert settings.cors_origins == ("https://shop.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SCRIP_STANDBYS", "-1", "SCRIP_STANDBYS"),
        ("SCRIP_STANDBYS", "17", "SCRIP_STANDBYS"),
        ("SCRIP_TRUSTED_PROXIES", "10.0.0.1/8", "SCRIP_TRUSTED_PROXIES must be networks"),
        ("SCRIP_CORS_ORIGINS", "https://shop.example/path", "SCRIP_CORS_ORIGINS must be origins"),
        ("SCRIP_REDIS_DURABILITY", "everysec", "SCRIP_REDIS_DURABILITY"),
        ("SCRIP_RECONCILE_AT", "25:00", "SCRIP_RECONCILE_AT must be a time of day from 00:00 to 23:59, or off"),
        ("SCRIP_JWT_ISSUERS", '[{"issuer": "x"}]', "SCRIP_JWT_ISSUERS.0.jwks must be given$"),
        ("DATABASE_URL", "postgresql://scrip:ses#ame@db/scrip", "DATABASE_URL must not contain #: write it as %23"),
        ("DATABASE_URL", "postgresql://scrip:ses/ame@db/scrip", "DATABASE_URL must name hosts as .*percent-encode"),
        ("DATABASE_URL", "postgresql://a,b:port/scrip", "DATABASE_URL must name hosts as"),
        (
            "DATABASE_URL",
            "postgresql://db/s?sslrootcert=/none/ca.pem",
            "names a file as sslrootcert that can't be read",
        ),
        ("DATABASE_URL", "postgresql://db/s?passfile=/none/pgpass", "names a file as passfile that can't be read"),
        ("DATABASE_READ_URL", "postgresql://a,b:70000/scrip", "DATABASE_READ_URL must name ports up to 65535"),
    ],
)
def test_bad_values(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """A value out of bounds or of another form is refused by its name."""
    monkeypatch.setenv(name, value)
    with pytest.raises(click.ClickException, match=message):
        config.load()


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [("db:5432:scrip:scrip_api:secret\n", 0o644, "mode 600"), ("db:5432:secret\n", 0o600, "host:port:database:user:")],
)
def test_passfiles_that_asyncpg_ignores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, mode: int, message: str
) -> None:
    """Such a file is refused, and not answered by "password authentication failed"."""
    file = tmp_path / "pgpass"
    file.write_text(text)
    file.chmod(mode)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://db/s?passfile={file}")
    with pytest.raises(click.ClickException, match=message) as refused:
        config.load()
    assert "secret" not in refused.value.message
    file.write_text("# all\n\n*:*:scrip:scrip_api:a:b\n")
    file.chmod(0o400)
    assert config.load().database_url


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A .env that is no text, or a folder, is named."""
    file = tmp_path / ".env"
    file.write_bytes(b"SCRIP_PORT=8001\nSCRIP_HOST=\xff\n")
    with pytest.raises(click.ClickException, match=r"/\.env must be UTF-8: line 2 is not"):
        config.load()
    file.unlink()
    file.mkdir()
    with pytest.raises(click.ClickException, match=r"/\.env can't be read: Is a directory"):
        config.load()


@pytest.mark.parametrize(
    "url",
    ["postgresql://a:5432,b/scrip?target_session_attrs=read-write", "postgres://u:p@[::1]:5432/s", "postgresql://"],
)
def test_database_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Several hosts, an IPv6 address and no host are right."""
    monkeypatch.setenv("DATABASE_URL", url)
    assert config.load().database_url == url


def test_passwords_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings' repr nor an error about a URL has its password."""
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@example/0")
    assert "hunter2" not in repr(config.load())

    monkeypatch.setenv("REDIS_URL", "http://:hunter2@example/0")
    with pytest.raises(click.ClickException) as caught:
        config.load()
    assert "REDIS_URL must start with redis://" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_processes_need_servers() -> None:
    """`scrip api` and `scrip worker` name the missing URLs."""
    for command in ("api", "worker"):
        result = CliRunner().invoke(main, [command])

        assert result.exit_code == 2
        assert "REDIS_URL and DATABASE_URL are not set. Set them," in result.output


_ISSUER = {"issuer": "https://id.example/", "audience": "scrip", "workspace": "shop", "jwks": "/etc/jwks.json"}


def test_issuers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issuers are JSON with keys from a file or by TLS, and no two issuers accept the same tokens."""
    monkeypatch.setenv("SCRIP_JWT_ISSUERS", json.dumps([_ISSUER, _ISSUER | {"audience": "other"}]))
    assert [one.audience for one in config.load().jwt_issuers] == ["scrip", "other"]
    for bad in (
        "{", "5", _ISSUER, [_ISSUER, _ISSUER | {"workspace": "other"}], [_ISSUER | {"issuer": ""}],
        [_ISSUER | {"keys": 1}], [{"issuer": "x"}], *([_ISSUER | {"jwks": at}] for at in (
            "http://id.example/keys", "ftp://id.example/keys", "https://me:secret@id.example/", "https:///keys", "",
        )),
    ):  # fmt: skip
        monkeypatch.setenv("SCRIP_JWT_ISSUERS", bad if isinstance(bad, str) else json.dumps(bad))
        why = "" if isinstance(bad, list) else " must be a JSON array"
        with pytest.raises(click.ClickException, match=f"SCRIP_JWT_ISSUERS{why}"):
            config.load()
    for good in ("http://127.0.0.1:9/keys", "https://id.example/keys?a=b", "jwks.json"):
        monkeypatch.setenv("SCRIP_JWT_ISSUERS", json.dumps([_ISSUER | {"jwks": good}]))
        assert config.load().jwt_issuers[0].jwks == good
