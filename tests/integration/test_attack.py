"""The attacks in small: nothing is guessed, nobody locks a sale empty, one of each race wins."""

import pytest

from loadtests import attack
from tests.service_fixture import shared_service


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer of everything, and no judging of times on a busy machine."""
    monkeypatch.setattr(attack, "ADDRESSES", 4)
    monkeypatch.setattr(attack, "LOCKERS", 40)
    monkeypatch.setattr(attack, "CODES", 100)
    monkeypatch.setattr(attack, "SLOWER", 1e9)
    monkeypatch.setenv("SCRIP_TRUSTED_PROXIES", "127.0.0.1")


@pytest.mark.usefixtures("small")
async def test_attacks() -> None:
    """600 guesses by 4 addresses, 400 locks by 40 users on 100 codes, 20 rounds of 100 redeems."""
    told: list[str] = []
    with shared_service() as service:
        chosen = attack.options(["--guesses", "600", "--rate", "300", "--locks", "400", "--rounds", "20"])
        assert await attack.run(service.run.url, chosen, told.append), told
    assert "0 hits" in told[1]
    assert "400 looked up, 200 refused unread" in told[1]
