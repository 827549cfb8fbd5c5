"""A Redis that was not verified decides nothing: every script reads the gate first."""

import pytest

from service.engine.formats import key_names
from service.engine.hot.fencing import Nonce
from service.engine.hot.scripts import HOT, PROJECTION
from service.engine.operations.batch import prepare_records
from service.server.in_redis.workspace_state import Workspace
from tests.harness.described import Ask, descriptions
from tests.harness.script_runner import EPOCH
from tests.harness.shop import Shop

FULL_REFUSES, BEHIND_REFUSES = (
    {one.row.script for one in descriptions() if state in one.refused.split()} for state in ("full", "behind")
)
WRITING = [*(one.row.script for one in descriptions() if one.writes), "store_answer"]


@pytest.fixture
async def asks(still: Shop) -> dict[str, Ask]:
    """A request of every script, each of which would succeed."""
    requests = dict[str, Ask]()
    for one in descriptions():
        code = f"{one.row.operation_id.upper()}-1"
        requests[one.row.script] = await one.prepare(still, await still.book(code, **one.rules), code)
    book, caller, workspace = await still.book("CODE-1", "CODE-2"), still.caller, Workspace(still.decider)
    await still.redeem("CODE-2", "ann")
    event = (await still.events())[-1][0]
    await still.gift(await still.book("GIFT-2"), "ann", "A-5")
    requests |= {
        "book_stats": lambda: still.stats(book),
        "coupon_locks": lambda: still.live_locks("CODE-1"),
        "order_locks": lambda: workspace.order_locks(caller, "A-5"),
        "user_coupons": lambda: still.held("ann"),
        "claim_key": lambda: workspace.claim_key(caller, "k", "f"),
        "store_answer": lambda: workspace.store_answer(caller, "k", "f", 200, b"{}", ""),
        "read_records": lambda: still.decide(prepare_records(caller, [event])),
        "put_workspace": lambda: still.put_workspace(coupons_per_order=1),
        "put_book": lambda: still.change(book, status="archived"),
        "put_codes": lambda: still.add(book, "CODE-5"),
        "put_user": lambda: still.user("ann", 5),
        "advance_config": lambda: still.projector.advance_config(0, 99),
        "sweep_locks": lambda: still.decider.run(
            0, "sweep_locks", (caller.gate, f"{caller.prefix}w"), (book.book, "u")
        ),
    }
    assert set(requests) == {*HOT, *PROJECTION}
    return requests


@pytest.mark.parametrize(
    "gate", [None, "7 closed", "6 open", "8 open", "8 closed", "7 opened", "77 open", "8 full", ""]
)
async def test_a_gate_that_doesnt_fit_stops_everything(still: Shop, asks: dict[str, Ask], gate: str | None) -> None:
    """With a gate that is missing, closed or of another epoch every script answers recovering, reads included."""
    if gate is None:
        await still.gate(None)
    else:
        await still.link.call("SET", key_names.gate(0), gate)
    for ask in asks.values():
        await still.refuses("recovering", ask())


@pytest.mark.parametrize("state", ["full", "behind"])
async def test_a_gate_that_is_full_or_behind(still: Shop, asks: dict[str, Ask], state: str) -> None:
    """Full stops locks and assigns alone; behind, all that the hot path records. Reads and configuration go on."""
    stopped = FULL_REFUSES if state == "full" else BEHIND_REFUSES
    await still.gate(state)
    for name, ask in asks.items():
        if name in stopped:
            await still.refuses("behind", ask())
    if state == "behind":
        await still.refuses("behind", still.checkout("ann", "A-6"))
    else:
        assert (await still.checkout("ann", "A-6"))[0] == 201
    for name in asks.keys() - stopped:
        answer = await asks[name]()
        assert not isinstance(answer, tuple) or answer[0] < 400, (name, answer)


async def test_a_workspace_that_isnt_there_is_recovering(still: Shop, asks: dict[str, Ask]) -> None:
    """Without the workspace's settings no operation decides: they come with the rest of what is missing."""
    settings = key_names.settings(still.caller.prefix)
    await still.link.call("RENAME", settings, "aside")
    for name in HOT:
        await still.refuses("recovering", asks[name]())
    await still.link.call("RENAME", "aside", settings)


@pytest.mark.parametrize("lost", ["FLUSHDB", "SCRIPT FLUSH"])
async def test_a_server_that_lost_keys_or_scripts_is_recovering(still: Shop, asks: dict[str, Ask], lost: str) -> None:
    """A server that was emptied, or lost its scripts, answers recovering, never that something isn't found."""
    await still.link.call(*lost.split())
    await still.at(1)
    for ask in asks.values():
        await still.refuses("recovering", ask())


async def test_a_server_with_another_history_decides_nothing(still: Shop, kind: str) -> None:
    """Where scripts follow the server's history, they run on the one that was verified, and on no other. The fencing is
    one whose epochs need no confirmation within half a second."""
    if kind == "fakeredis":
        pytest.skip("it has no history")
    await still.book("CODE-1")
    info = await still.link.call("INFO", "replication")
    verified = info.partition("master_replid:")[2].split()[0]
    for history, answer in (("f" * 40, (503, "recovering")), (verified, (404, "coupon_not_found"))):
        await still.load(EPOCH, str(Nonce("n", "log", history)))
        assert await still.coupon("NO-SUCH") == answer


async def test_what_a_newer_epoch_fenced_writes_nothing(still: Shop, asks: dict[str, Ask]) -> None:
    """With an entry of a newer epoch in the outbox nothing that makes an event goes through an open gate."""
    await still.link.call("XADD", key_names.outbox(0), f"{EPOCH + 1}-0", "e", "O")
    for name in WRITING:
        await still.refuses("recovering", asks[name]())
    await still.refuses("recovering", still.rollback_order("A-5", key="k"))  # nothing but a gift
    await still.link.call("XDEL", key_names.outbox(0), f"{EPOCH + 1}-0")


async def test_without_an_outbox_nothing_is_written(still: Shop, asks: dict[str, Ask]) -> None:
    """A stream that isn't there is not made again."""
    await still.record()
    await still.link.call("RENAME", key_names.outbox(0), "aside")
    for name in WRITING:
        await still.refuses("recovering", asks[name]())
    await still.link.call("RENAME", "aside", key_names.outbox(0))


async def test_the_fence_ends_an_epoch_once(still: Shop) -> None:
    """The fence closes the gate and begins a new epoch in the outbox; for one that is not newer it does nothing."""
    names = [key_names.gate(0), key_names.outbox(0)]
    before = await still.everything()
    for epoch in (EPOCH, EPOCH - 1):
        assert await still.work("fence", names, epoch) == [90, f"{EPOCH} open"]
    assert await still.everything() == before
    assert await still.work("fence", names, EPOCH + 3) == [0, f"{EPOCH} open"]
    assert (await still.everything())[key_names.gate(0)] == f"{EPOCH + 3} closed"
    assert (await still.events())[-1] == (f"{EPOCH + 3}-0", ["O"])
    await still.gate(None)
    await still.link.call("XTRIM", key_names.outbox(0), "MAXLEN", "0")
    assert await still.work("fence", names, EPOCH + 12) == [0, ""]
    await still.link.call("DEL", key_names.outbox(0))
    await still.link.call("XADD", key_names.outbox(0), f"{EPOCH}-0", "e", "O")


async def test_the_gate_changes_only_from_the_expected_text(still: Shop) -> None:
    """set_gate changes the gate if it has the expected text, and otherwise replies with its text."""
    assert await still.work("set_gate", [key_names.gate(0)], "7 closed", "7 open") == [90, "7 open"]
    assert await still.work("set_gate", [key_names.gate(0)], "7 open", "7 full") == [0, "7 full"]
    assert (await still.everything())[key_names.gate(0)] == "7 full"
    await still.gate(None)
    assert await still.work("set_gate", [key_names.gate(0)], "7 open", "7 full") == [90, ""]


@pytest.mark.parametrize("gate", ["7 open", "7 full", "7 behind", "8 closed", "6 closed", None])
async def test_mending_needs_a_closed_gate(still: Shop, gate: str | None) -> None:
    """Scripts of a recovery run only while the gate has `closed` and their own epoch."""
    await still.gate(None) if gate is None else await still.link.call("SET", key_names.gate(0), gate)
    before = await still.everything()
    assert await still.work("apply_events", [key_names.gate(0)], "A 1 1 CODE-1 ann 1 5", "", "") == [90]
    assert await still.work("restore_keys", [key_names.gate(0)], f"{still.caller.prefix}i:k", "f 0 x", "1000") == [90]
    assert await still.work("fill_pool", [key_names.gate(0), f"{still.caller.prefix}w"], 1) == [90]
    assert await still.work("block_codes", [key_names.gate(0)], "", 1, 5, "CODE-1") == [90]
    assert await still.work("remove_keys", [key_names.gate(0)], f"{still.caller.prefix}w") == [90]
    for text in ("whole", ""):
        assert await still.work(
            "record_progress", [key_names.gate(0), key_names.mend(0), key_names.layout(0)], text, "9"
        ) == [90]
    assert await still.work("complete_recovery", [key_names.gate(0), key_names.outbox(0)], "nonce") == [90]
    assert await still.everything() == before


async def test_a_recovery_writes_how_far_it_is_and_its_end(still: Shop) -> None:
    """The mark has the progress; the end deletes it, writes the layout, and enters the nonce as second event."""
    names = [key_names.gate(0), key_names.mend(0), key_names.layout(0)]
    await still.gate("closed")
    before = await still.everything()
    assert await still.work("record_progress", names, "7-1", "9") == [0]
    assert await still.everything() == before | {key_names.mend(0): "7-1"}
    assert await still.work("record_progress", names, "", "9") == [0]
    assert await still.everything() == before | {key_names.layout(0): "9"}
    await still.link.call("DEL", key_names.layout(0))
    assert await still.work("complete_recovery", [key_names.gate(0), key_names.outbox(0)], "abc") == [0]
    assert (await still.read_outbox_entries())[1:] == [(f"{EPOCH}-1", {"d": "M abc", "r": ""})]
    await still.link.call("XDEL", key_names.outbox(0), f"{EPOCH}-1")
    await still.gate("open")


async def test_locks_are_swept_behind_an_open_gate_alone(still: Shop) -> None:
    """Nothing is swept where the gate doesn't fit or the workspace has no settings; full or behind, it goes on."""
    book = await still.book("CODE-1")
    await still.lock("CODE-1", "ann", lockSeconds=1)
    await still.wait(1_000)
    names = (still.caller.gate, f"{still.caller.prefix}w")

    async def swept() -> list[int]:
        return await still.work("sweep_locks", names, book.book, "u")

    before = await still.everything()
    await still.gate("closed")
    assert await swept() == [90]
    await still.gate("open")
    settings = await still.link.call("GETDEL", names[1])
    assert await swept() == [0, 0, 0]
    await still.link.call("SET", names[1], settings)
    assert await still.everything() == before
    for state, count in (("full", 1), ("behind", 0)):
        await still.gate(state)
        assert await swept() == [0, count, 0]
    await still.gate("open")


async def test_keys_are_restored_with_their_remaining_life(still: Shop) -> None:
    """Recorded idempotency keys come back as they were kept, each for what remains of its life."""
    await still.book("CODE-1")
    _, first = await still.redeem("CODE-1", "ann", key="k")
    name = f"{still.caller.prefix}i:k"
    kept = (await still.everything())[name]
    await still.link.call("DEL", name)
    await still.gate("closed")
    assert await still.work("restore_keys", [key_names.gate(0)], name, kept, 5_000, f"{name}2", "f 0 x", 60_000) == [0]
    await still.gate("open")
    assert 0 < await still.link.call("PTTL", name) <= 5_000
    assert await still.redeem("CODE-1", "ann", key="k") == (201, {**first, "replayed": True})
