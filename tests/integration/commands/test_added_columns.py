"""A newer version adds columns to tables and views (docs/upgrading.md): this version goes on, and does all its work."""

from collections.abc import Callable

from service.engine.operations.caller import SCOPES
from tests.harness.cases import filled
from tests.harness.commands import scrip, succeeded
from tests.harness.routes.setup import make_quarantined, make_setup
from tests.harness.routes.table import ROUTES
from tests.harness.running import run_aside
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import until

_ADD_COLUMNS = """
DO $$
DECLARE one record;
BEGIN
  SET LOCAL lock_timeout = '5s';
  FOR one IN
    SELECT oid, relname, relkind FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
  LOOP
    IF one.relkind = 'v' THEN
      EXECUTE format(
        'CREATE OR REPLACE VIEW %I AS SELECT old.*, NULL::text AS note FROM (%s) AS old',
        one.relname, rtrim(pg_get_viewdef(one.oid), '; ')
      );
    ELSE
      EXECUTE format('ALTER TABLE %I ADD COLUMN note text DEFAULT ''new''', one.relname);
    END IF;
  END LOOP;
END
$$
"""
_COMMANDS = (
    ("partitions", "--json"), ("quarantine", "list"), ("workspaces", "list"), ("reports",), ("reconcile",),
)  # fmt: skip


def _ask_all(service: Service) -> None:
    """Send a request to each route, and check that it succeeds."""
    setup = make_setup(service) | {"event": make_quarantined(service)}
    for route in ROUTES:
        scope = next((scope for scope in SCOPES if scope in route.scopes.split()), "anonymous")
        if route.scopes == "user":
            continue
        address, body = filled(route.working, setup)
        answer = getattr(service, scope).request(route.method, address, json=body)
        assert answer.is_success, (route.name, answer.text)


def test_every_request_and_command_goes_on(own_service: Callable[[], Service]) -> None:
    """With a column more in each table and view, every route succeeds, and everything is recorded, compared and built
    again from Postgres; also after a restart."""
    service = own_service()
    code, sold, user = new_code(), new_code(), new_id()
    book = service.book(code, sold, discount={"type": "percentage", "value": 10})
    ok(service.checkout.post(f"/v1/coupons/redeem/{sold}", json={"userId": user, "orderValue": 20}), 201)
    run_aside(service.fetch(_ADD_COLUMNS))
    _ask_all(service.make_workspace(new_id("own"), "test"))
    run_aside(service.fetch("DELETE FROM quarantine"))
    for command in _COMMANDS:
        succeeded(scrip(*command, **service.urls))
    succeeded(scrip("rebuild", **service.urls))
    assert run_aside(service.fetch("SELECT task, thing FROM failing_tasks")) == []
    until(lambda: service.checkout.get(f"/v1/coupons/{code}").is_success)
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": user}), 201)
    service.run.end()
    service = own_service()
    until(lambda: service.checkout.get(f"/v1/coupons/{code}").is_success)
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user, "orderValue": 20}), 201)
    until(lambda: ok(service.manage.get(f"/v1/books/{book}/stats"))["redeemed"] == 2)
