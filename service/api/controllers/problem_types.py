"""The documentation of refusals: the address in a problem's `type`, for programs and for people."""

import html
from typing import Annotated, Any

from litestar import Controller, Request, Response, get
from litestar.params import PathParameter

from service.api.auth import OPEN
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.domain.outcomes import BY_CODE, Outcome

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title} · Scrip</title>
  <link rel="icon" type="image/svg+xml" href="/checkout/assets/icon.svg">
  <link rel="stylesheet" href="/console/assets/base.css">
  <link rel="stylesheet" href="/console/assets/parts.css">
</head>
<body>
  <main id="main">
    <h1>{title}</h1>
    {content}
    <p><a href="/problems">All refusals</a> · <a href="/schema">All operations</a></p>
  </main>
</body>
</html>
"""


class ProblemType(Answer):
    """A kind of problem, by its code."""

    code: str
    status: int
    title: str
    remedy: str


class ProblemTypes(Controller):
    path = "/problems"

    @get("/", include_in_schema=False, opt=OPEN)
    async def list_all(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """All codes. No credentials."""
        outcomes = sorted(BY_CODE.values(), key=lambda outcome: (outcome.status, outcome.code))
        if not _is_for_people(request):
            return Response([_describe(outcome) for outcome in outcomes])
        rows = "".join(
            f'<tr><td>{outcome.status}</td><td><a class="code" href="/problems/{outcome.code}">{outcome.code}</a></td>'
            f"<td>{html.escape(outcome.detail)}</td></tr>"
            for outcome in outcomes
        )
        head = (
            '<thead><tr><th scope="col">Status</th><th scope="col">Code</th><th scope="col">Meaning</th></tr></thead>'
        )
        return _page("Refusals", f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>')

    @get("/{code:str}", include_in_schema=False, opt=OPEN)
    async def show(self, request: Request[Any, Any, Any], code: Annotated[str, PathParameter()]) -> Response[Any]:
        """The meaning of a code. No credentials."""
        outcome = BY_CODE.get(code)
        if outcome is None:
            raise Refusal("not_found")
        if not _is_for_people(request):
            return Response(_describe(outcome))
        texts = [f"Status {outcome.status}. {outcome.sentence}", outcome.remedy]
        return _page(outcome.code, "".join(f"<p>{html.escape(text)}</p>" for text in texts))


def _describe(outcome: Outcome) -> ProblemType:
    return ProblemType(code=outcome.code, status=outcome.status, title=outcome.sentence, remedy=outcome.remedy)


def _is_for_people(request: Request[Any, Any, Any]) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _page(title: str, content: str) -> Response[Any]:
    return Response(_PAGE.format(title=title, content=content), media_type="text/html")
