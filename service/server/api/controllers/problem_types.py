"""The documentation of refusals, at the address in a problem's `type`: the path stays. app.py registers it; the texts
are those of outcomes.py."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.params import PathParameter
from litestar.response import Redirect
from msgspec import field

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.engine.domain.outcomes import BY_CODE, For, Outcome
from service.server.api.auth import OPEN


class ProblemType(Answer):
    """A kind of problem, by its code."""

    code: str
    status: int
    for_: For = field(name="for")
    title: str
    remedy: str


class ProblemTypes(Controller):
    path = "/problems"

    @get("/", include_in_schema=False, opt=OPEN)
    async def list_all(self) -> list[ProblemType]:
        """All codes. No credentials."""
        return [_describe(one) for one in sorted(BY_CODE.values(), key=lambda one: (one.status, one.code))]

    @get("/{code:str}", include_in_schema=False, opt=OPEN)
    async def show(self, request: Request[Any, Any, Any], code: Annotated[str, PathParameter()]) -> Response[Any]:
        """The meaning of a code; a browser is sent to the page of the API. No credentials."""
        outcome = BY_CODE.get(code)
        if outcome is None:
            raise Refusal("not_found")
        if "text/html" in request.headers.get("accept", ""):
            return Redirect(f"/schema#{code}")
        return Response(_describe(outcome))


def _describe(outcome: Outcome) -> ProblemType:
    return ProblemType(
        code=outcome.code, status=outcome.status, for_=outcome.for_, title=outcome.sentence, remedy=outcome.remedy
    )
