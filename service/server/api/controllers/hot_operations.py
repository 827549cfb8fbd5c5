"""The handlers of the hot operations, one made from each row of table.py, which also has their
roles. app.py registers them."""

from typing import Annotated, Any

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler, get, post
from litestar.params import PathParameter

from service.engine.domain.outcomes import list_codes
from service.engine.operations.table import ROWS, Row
from service.server.api.documented import describe_route
from service.server.api.hot_path import perform, perform_decoded
from service.server.api.reading import parse_query

NAMES = {
    "code": "The coupon's code, in upper or lower case.",
    "orderId": "The order's id, which the client chose.",
    "redemptionId": "The redemption's id.",
    "userId": "The user's id, which the client chose.",
}
"""Descriptions of the path parameters."""


def make_handlers() -> list[HTTPRouteHandler]:
    """A handler for each row."""
    return [_make_handler(row) for row in ROWS]


def _make_handler(row: Row) -> HTTPRouteHandler:
    operation, texts = row.operation, row.operation.texts
    method, _, path = row.route.partition(" ")
    before, _, name = path.partition("{")
    name, _, after = name.partition("}")
    answer = perform if method == "POST" else _read

    async def run_unnamed(request: Request[Any, Any, Any]) -> Any:
        return await answer(request, row, None)

    async def run_named(request: Request[Any, Any, Any], name: Any) -> Any:
        return await answer(request, row, name)

    run = run_named if name else run_unnamed
    if name:
        path = f"{before}{{{name}:str}}{after}"
        run.__annotations__["name"] = Annotated[str, PathParameter(name=name, description=NAMES[name])]
    run.__annotations__["return"] = Response[operation.answer]
    run.__doc__ = texts.description
    described = describe_route(
        row.operation_id,
        texts.summary,
        texts.tag,
        returns=texts.returns,
        body=operation.request if method == "POST" else None,
        example=texts.example,
        answer=texts.answer,
        answers={200: (operation.answer, texts.repeated)} if texts.repeated else None,
        refusals=list_codes(row.operation_id),
        durable=operation.durable,
        keyed=None if row.reads else "by_script",
        counted=True,
        roles=row.roles,
    )
    make = post if method == "POST" else get
    return make(path, status_code=operation.status, **described)(run)


async def _read(request: Request[Any, Any, Any], row: Row, name: str | None) -> Response[Any]:
    def read() -> Any:
        parse_query(request)
        return row.operation.request()

    return await perform_decoded(request, row, name, read)
