"""What a stranger who requests the sign-in page again and again can cause."""

import asyncio
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from service.common.config import SignIn
from service.console import sign_in
from service.console.sign_in import (
    FAILED_S,
    MAX_AT_ONCE,
    MAX_LINES,
    METADATA_S,
    OF_ONE_ADDRESS,
    ProviderMetadata,
    RefusalLog,
    take_slot,
)
from service.server.access.people import Metadata, SignInRefused
from tests.unit.test_people import make_provider, parse_own_metadata


class Clock:
    """Stands in for `time` in sign_in.py."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sign_in, "time", clock)
    return clock


async def test_metadata_are_fetched_once(clock: Clock) -> None:
    """Sign-ins share a fetch of the provider's metadata for minutes, and one that failed for seconds."""
    fetches: list[str] = []
    is_away = False

    async def fetch(provider: SignIn) -> Metadata:
        fetches.append(provider.issuer)
        await asyncio.sleep(0)
        if is_away:
            raise SignInRefused("failed", "no answer")
        return parse_own_metadata()

    provider, metadata = make_provider(), ProviderMetadata(fetch)
    found = await asyncio.gather(*(metadata.find(provider) for _ in range(50)))
    assert (len(fetches), {one.token_endpoint for one in found}) == (1, {parse_own_metadata().token_endpoint})
    clock.now_s += METADATA_S
    await metadata.find(provider)
    assert len(fetches) == 1
    clock.now_s, is_away = clock.now_s + 1, True
    for seconds, count in ((0, 2), (FAILED_S, 2), (1, 3)):
        clock.now_s += seconds
        with pytest.raises(SignInRefused):
            await metadata.find(provider)
        assert len(fetches) == count
    clock.now_s, is_away = clock.now_s + FAILED_S + 1, False
    assert await metadata.find(provider) == found[0]


def test_the_log_of_refusals_is_bounded(clock: Clock) -> None:
    """Of one kind a bounded number of lines a minute is written; those of other kinds stay, and the rest is counted."""
    refusals = RefusalLog()
    with capture_logs() as lines:
        for number in range(MAX_LINES + 5):
            refusals.add(SignInRefused("failed", f"the provider refused: {number}"))
        refusals.add(SignInRefused("no_role", "the claim groups has nothing"))
        clock.now_s += 60
        refusals.add(SignInRefused("ended", "another browser"))
    assert [line["reason"] for line in lines] == ["failed"] * MAX_LINES + ["no_role", "ended"]
    assert [line["left_out"] for line in lines] == [0] * (MAX_LINES + 1) + [5]


def test_an_address_has_a_part_of_the_slots() -> None:
    """One address, or one IPv6 network, waits with a few sign-ins; other addresses have the other slots."""
    for addresses in (["192.0.2.1"] * MAX_AT_ONCE, [f"2001:db8::{number}" for number in range(1, MAX_AT_ONCE + 1)]):
        with ExitStack() as taken:
            for address in addresses[:OF_ONE_ADDRESS]:
                taken.enter_context(take_slot(address))
            for address in addresses[OF_ONE_ADDRESS:]:
                with pytest.raises(SignInRefused, match=f"{OF_ONE_ADDRESS} of this address"), take_slot(address):
                    pass
            for number in range(OF_ONE_ADDRESS, MAX_AT_ONCE):
                taken.enter_context(take_slot(f"198.51.100.{number}"))
            with pytest.raises(SignInRefused), take_slot("203.0.113.1"):
                pass
    with take_slot("203.0.113.1"):
        pass
