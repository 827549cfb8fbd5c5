"""The rows that the first start and the commands write to Postgres."""

import pytest
from click.testing import Result

from service.engine.record.pool import connect
from service.server.embedded import demo_data
from service.server.in_postgres import key_rows
from tests.harness.commands import scrip, succeeded
from tests.harness.service_fixture import Service, new_id, ok


async def test_the_demo_is_seeded_once(database_url: str) -> None:
    """Seeding twice makes everything once, and the fixed keys work."""
    await demo_data.seed(database_url)
    counts = "SELECT version, (SELECT count(*) FROM codes), (SELECT count(*) FROM books) FROM config_versions"
    async with await connect(database_url) as pool:
        before = await pool.fetch(counts)
        await demo_data.seed(database_url)
        callers = await key_rows.read_callers(pool)
        assert callers[key_rows.digest("demo_admin")].scopes == {"public", "checkout", "manage", "operate"}
        assert callers[key_rows.digest("rival_manage")].workspace != callers[key_rows.digest("demo_manage")].workspace
        assert len(callers) == 7
        giving = await pool.fetch(
            "SELECT books.name, gifts.name AS gift FROM books JOIN books AS gifts ON gifts.book_id = books.gift_book_id"
        )
        assert {tuple(row) for row in giving} == {("Summer 2026", "Gift cards"), ("Flash sale", "Gift cards")}
        assert await pool.fetch(counts) == before


async def test_a_workspace_has_the_partition_that_is_named(database_url: str) -> None:
    """`workspaces create --partition` places it; a partition that does not exist is refused."""

    def run(command: str) -> Result:
        return scrip(*command.split(), DATABASE_URL=database_url)

    succeeded(run("migrate --partitions 4"))
    for partition in range(4):
        succeeded(run(f"workspaces create shop{partition} --partition {partition}"))
    refused = run("workspaces create other --partition 4")
    assert (refused.exit_code, refused.stderr) == (1, "Error: There is no partition 4: they are 0 to 3.\n")
    async with await connect(database_url) as pool:
        placed = await pool.fetch("SELECT name, partition FROM workspaces ORDER BY name")
    assert [tuple(row) for row in placed] == [(f"shop{partition}", partition) for partition in range(4)]


async def test_commands(database_url: str) -> None:
    """`workspaces create` makes a workspace once per name. `keys create` prints a secret that authenticates; `keys
    list` shows none; `keys revoke` revokes a key by its id, in its own workspace alone."""

    def run(command: str) -> Result:
        return scrip(*command.split(), DATABASE_URL=database_url)

    succeeded(run("migrate"))
    assert run("workspaces create trial --test").exit_code == run("workspaces create other").exit_code == 0
    again = run("workspaces create trial")
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: There is a workspace trial already. Choose another name")
    secret = run("keys create trial shop --scope manage --scope operate").output.strip()
    assert secret.startswith("scrip_test_")
    assert run("keys create none shop --scope manage").exit_code == 1
    assert run("keys list none").output == "Error: There is no workspace none. `scrip workspaces list` shows all.\n"
    header, *rows = run("workspaces list").stdout.splitlines()
    assert header.split() == ["ID", "MODE", "PARTITION", "STATUS", "NAME"]
    listed = [row.split() for row in rows]
    assert [(row[1], *row[3:]) for row in listed] == [("live", "active", "other"), ("test", "active", "trial")]
    header, row = run("keys list trial").stdout.splitlines()
    assert header.split() == ["ID", "SECRET", "SCOPES", "LAST", "USED", "NAME"]
    key_id, *shown = row.split()
    assert shown == [f"{secret[:16]}…", "manage,operate", "never", "shop"]
    assert secret not in row
    assert row.index("never") == header.index("LAST USED")
    async with await connect(database_url) as pool:
        callers = await key_rows.read_callers(pool)
    caller = callers[key_rows.digest(secret)]
    assert (caller.scopes, caller.mode) == ({"manage", "operate"}, "test")
    refused = run(f"keys revoke other {key_id}")
    assert refused.output == "Error: other has no such key. `scrip keys list other` shows all.\n"
    assert run(f"keys revoke trial {key_id}").output == "Revoked.\n"
    assert run("keys list trial").output.split() == header.split()


@pytest.mark.parametrize("name", ["first", "second"])
def test_used_codes_are_restored(patient: Service, name: str) -> None:
    """`demo reset` rolls redemptions of the demo's books back, gifts too, and takes assigned codes back, each time
    again. Codes with an owner of their own keep the owner."""
    checkout, order = patient.client("demo_checkout"), new_id(f"order-{name}")
    spend = {"userId": "ann", "orderId": order, "code": "SUMMER-A", "orderValue": "100.00"}
    bought = ok(checkout.post("/v1/checkout", json=spend), 201)
    gift = {"userId": "ann", "orderId": f"{order}-gift", "orderValue": "50.00"}
    ok(checkout.post(f"/v1/coupons/redeem/{bought['gift']['code']}", json=gift), 201)
    owned = {"userId": "alice", "orderId": f"{order}-own", "orderValue": "50.00"}
    ok(checkout.post("/v1/coupons/redeem/ALICE-1", json=owned), 201)
    ok(checkout.post("/v1/coupons/assign/FIVE-1", json={"userId": "bob"}), 201)

    done = succeeded(scrip("demo", "reset", SCRIP_DATA_DIR=str(patient.run.data_dir), REDIS_URL="", DATABASE_URL=""))
    for code in ("SUMMER-A", bought["gift"]["code"], "FIVE-1"):
        assert ok(checkout.get(f"/v1/coupons/{code}"))["status"] == "available", done.output
    assert ok(checkout.get("/v1/coupons/ALICE-1"))["userId"] == "alice"


def test_a_held_code_is_left(patient: Service) -> None:
    """A code that a checkout holds keeps its user, and is no error of `demo reset`; the next one takes it back."""
    checkout, env = patient.client("demo_checkout"), {"SCRIP_DATA_DIR": str(patient.run.data_dir)}
    ok(checkout.post("/v1/coupons/assign/FIVE-1", json={"userId": "bob"}), 201)
    held = ok(checkout.post("/v1/coupons/lock/FIVE-1", json={"userId": "bob"}), 201)
    done = scrip("demo", "reset", REDIS_URL="", DATABASE_URL="", **env)
    assert (done.exit_code, "Held by checkouts: 1. " in done.output) == (0, True), done.output
    assert ok(checkout.get("/v1/coupons/FIVE-1"))["userId"] == "bob"
    assert checkout.post("/v1/coupons/unlock/FIVE-1", json={"lockToken": held["lockToken"]}).status_code == 204
    assert "taken back from users: 1." in scrip("demo", "reset", REDIS_URL="", DATABASE_URL="", **env).output
