"""REDIS_URL: what it may name, and the messages about a wrong one."""

import pytest

from service.common import config
from service.common.redis_address import Host, parse_redis_address

APP = {"username": "app", "password": "x"}


def test_a_server() -> None:
    """A URL names a host, a port, a database, a user and TLS; what it leaves out has Redis's defaults."""
    plain = parse_redis_address("redis://")
    assert (plain.hosts, plain.options, plain.is_tls, plain.service) == ((Host("localhost", 6379),), {}, False, "")
    full = parse_redis_address(
        "rediss://app:p%40ss%2F@r.example:6380/3?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k"
    )
    assert (full.hosts, full.is_tls) == ((Host("r.example", 6380),), True)
    tls = {"ssl_ca_certs": "/ca.pem", "ssl_certfile": "/c", "ssl_keyfile": "/k"}
    assert full.options == {"username": "app", "password": "p@ss/", "db": 3} | tls
    assert parse_redis_address("redis://:secret@[::1]:7/").hosts == (Host("::1", 7),)
    assert parse_redis_address("redis://:secret@h").options == {"password": "secret"}
    assert parse_redis_address("redis://h?db=2&username=app&password=x").options == {"db": 2} | APP
    assert parse_redis_address("redis://nopass:@h").options == {"username": "nopass"}


def test_a_socket() -> None:
    """A Unix socket is a path; its database is an option."""
    address = parse_redis_address("unix://app:x@/run/redis.sock?db=1")
    assert (address.options, address.hosts) == ({"path": "/run/redis.sock", "db": 1} | APP, ())
    assert str(address) == "/run/redis.sock/1"


def test_sentinels() -> None:
    """Sentinels are several hosts and a service; they have a login of their own."""
    address = parse_redis_address(
        "redis+sentinel://app:x@s1:26380,s2,[::1]:5/main/4?sentinel_username=w&sentinel_password=y"
    )
    assert address.hosts == (Host("s1", 26380), Host("s2", 26379), Host("::1", 5))
    assert (address.service, address.options, address.is_tls) == ("main", {"db": 4} | APP, False)
    assert address.sentinel_options == {"username": "w", "password": "y"}
    assert str(address) == "s1:26380,s2:26379,[::1]:5/main"
    both = parse_redis_address("rediss+sentinel://s/main?ssl_ca_certs=ca.pem")
    assert both.options == both.sentinel_options == {"ssl_ca_certs": "ca.pem"}


def test_cluster() -> None:
    """A cluster is named by some of its nodes; the address of one node is that of a server."""
    address = parse_redis_address("rediss+cluster://app:x@n1:7000,n2,[::1]:5/0?ssl_ca_certs=ca.pem")
    assert address.hosts == (Host("n1", 7000), Host("n2", 6379), Host("::1", 5))
    assert (address.is_cluster, address.service) == (True, "")
    assert str(address) == "n1:7000,n2:6379,[::1]:5"
    node = address.at(Host("n9", 1))
    assert (node.is_cluster, node.hosts, node.is_tls, node.options) == (False, (Host("n9", 1),), True, address.options)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://h", "must start with redis:// or rediss://"), ("h:6379", "must start with"),
        ("redis://:hunter2@h:99999", "must name hosts as"),
        ("redis://:hunter2@h:hunter2", "must name hosts as"), ("redis://:hunter2@a,b/0", "must name hosts as"),
        ("redis://h/hunter2", "database by its number"), ("redis://:hunter#2@h", "write it as %23"),
        ("redis://:hunter/2@h", "must name hosts as"), ("redis://hunter2@h", "a user without a password"),
        ("redis://h?hunter2", "options like name=value"), ("redis://h?pasword_file=hunter2", "only these options"),
        ("redis://:hunter2@h?password_file=/hunter2", "not both"), ("redis://[::1/0", "must name hosts as"),
        ("redis+sentinel://:hunter2@s:26379", "after the /, their service"), ("unix://h", "path of a socket"),
        ("redis+sentinel:///main", "must name hosts as"), ("redis+sentinel://s1,,s2/main", "must name hosts as"),
        ("redis+sentinel://s/main/hunter2", "database by its number"),
        ("redis+cluster://:hunter2@n1,,n2", "must name hosts as"),
        ("redis+cluster://:hunter2@n/1", "not name a database"),
        ("redis+cluster://n1/hunter2", "database by its number"),
        ("redis+sentinel://s/main?sentinel_username=hunter2", "a user without a password"),
        ("redis://:hunter2@h?ssl_ca_certs=/hunter2/ca.pem", "names a file as ssl_ca_certs that can't be read"),
        ("redis://h?password_file=/hunter2", "names a file as password_file that can't be read"),
    ],
)  # fmt: skip
def test_wrong_urls(monkeypatch: pytest.MonkeyPatch, url: str, rule: str) -> None:
    """A wrong URL is refused at the start, with the rule that it breaks and without any part of it."""
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(config.SettingsError) as caught:
        config.load()
    assert rule in caught.value.message
    assert "hunter" not in caught.value.message


def test_no_text_of_an_address_has_its_password() -> None:
    """Neither its representation nor its name has it."""
    both = parse_redis_address("redis+sentinel://a:hunter2@s/main?sentinel_password=hunter3")
    assert "hunter" not in f"{both!r}{both}"
