"""Pages of reference that are made from the source: `python -m tests.reference` writes them, and tests/documents
compares them. `make docs` (tests/site.py) also takes from here what the site publishes for programs."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import click

from service.cli.main import main
from service.common.config import Settings
from service.engine.domain.outcomes import BY_CODE
from service.serving.app import create_app
from tests import log_events
from tests.harness.trees import ROOT

_REFUSALS = """\
# Refusals

For developers. At the end you know what each `code` of a refused request means, and what to do.

A refusal is `application/problem+json` (RFC 9457). It has changed nothing, except as the last row of the first table
says. Your program compares `code`, which never changes, and treats an unknown one by its `for`. `title` and `detail`
are for people. Figures are fields of their own: `order_value_too_low` has `minOrderValue`, `missing` and `currency`,
`expired` has `expiresAt`. `type` is the address of a page about the code, `/problems/<code>`; `instance` that of the
refused request, for an hour, in the console and in `GET /v1/ops/requests`. Only `scrip requests ID` finds a request
whose key, scope or address was refused.

| status | repeat the same request? |
|---|---|
| 4xx | no: it would be refused again, until something else changes; `coupon_locked` may be free after `Retry-After` |
| 408, 429, 503, `request_in_progress` | yes, after `Retry-After`, with the same `Idempotency-Key` |
| 500 `internal`, 503 `outcome_unknown` | yes, with the same `Idempotency-Key`: whether it happened is unknown |

| `for` | whose turn it is |
|---|---|
| `shopper` | your customer's: show the `detail`, or a sentence of your own for the `code`. *What to do* is for you |
| `caller` | yours: the program or its configuration is wrong. Show something general, and log the `detail` |
| `retry` | the same request may succeed later, as above |

Each `code` has one `for`, which never changes.
`python -m tests.reference` writes this page from `service/engine/domain/outcomes.py`.

| code | status | for | what happened | what to do |
|---|---|---|---|---|
"""
_HTTP = """\
# HTTP

For developers. At the end you know each request, who may send it, and where its fields are described.

- JSON in UTF-8, names in camelCase. Unknown fields are refused; an optional field may be null.
- `Authorization: Bearer <API key or user's token>`. *who*: a key needs one of these scopes, and none includes another;
  `user` is a user's token ([Users' tokens](../how-to/user-tokens.md)).
- *key*: it takes an `Idempotency-Key`; a repeat gets the first answer ([Lost answers](../how-to/lost-answers.md)).
- Times are RFC 3339; answers have UTC with milliseconds. Money is a decimal as text: `"25.00"`.
- Lists, newest first: `?limit=`, and as `?cursor=` the last `nextCursor`, null at the end. `/v1/coupons` = `/v1/books`.
- `durability` says where a change is: `accepted` (in Redis), `fsynced` (on Redis's disk), `recorded` (in Postgres).
  `Prefer: durability=recorded` waits for the last; `Preference-Applied` confirms it.

Fields, examples, refusals and samples are at `/schema` of a running service, all but the samples in its
`/schema/openapi.json`, from which `python -m tests.reference` writes this page.
"""
_COMMANDS = """\
# Commands

For operators. At the end you know what `scrip` can do; `--help` after a command describes its options.

Settings come from the environment or a file `.env` ([Settings](../deploy.md#settings)). Without `REDIS_URL` and
`DATABASE_URL` commands use the servers of the running `scrip run`. The exit code is 0 for done; 1 for refused, or
something wrong was found; 2 if arguments, settings or servers can't be used.

`python -m tests.reference` writes this page from the commands.

| command | what it does | options |
|---|---|---|
"""


_METHODS = ("get", "post", "patch", "delete")
"""In the order of a page. The document's own order, of paths too, is another one in each process."""


class Operation(NamedTuple):
    method: str
    path: str
    described: dict[str, Any]


@cache
def read_openapi() -> dict[str, Any]:
    return create_app(Settings(_env_file=None)).openapi_schema.to_schema()


def list_operations() -> Iterator[Operation]:
    """The operations, in the order of the document's tags, then of their paths."""
    document = read_openapi()
    for tag in document["tags"]:
        for path, item in sorted(document["paths"].items()):
            for method in filter(item.get, _METHODS):
                if item[method]["tags"] == [tag["name"]]:
                    yield Operation(method.upper(), path, item[method])


def render_refusals() -> str:
    rows = sorted(BY_CODE.values(), key=lambda one: (one.status, one.code))
    lines = [f"| `{one.code}` | {one.status} | {one.for_} | {one.sentence} | {one.remedy} |\n" for one in rows]
    return _REFUSALS + "".join(lines)


def render_http() -> str:
    lines = [_HTTP]
    tag = ""
    for method, path, operation in list_operations():
        if operation["tags"] != [tag]:
            (tag,) = operation["tags"]
            lines.append(f"\n## {tag}\n\n| request | what it does | who | answer |\n|---|---|---|---|\n")
        names = [name for way in operation["security"] for name in (way.get("key") or ["user"])]
        has_key = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
        answers = [status for status in operation["responses"] if status < "300"]
        answer = ", ".join(sorted(answers, reverse=True)) + (", key" if has_key else "")
        lines.append(f"| `{method} {path}` | {operation['summary']} | {' '.join(names) or 'all'} | {answer} |\n")
    return "".join(lines)


def render_commands() -> str:
    return _COMMANDS + "".join(_list_commands(main, ("scrip",)))


def _list_commands(group: click.Group, names: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield _describe_command(command, (*names, name))
            yield from _list_commands(command, (*names, name))
        else:
            yield _describe_command(command, (*names, name))


def _describe_command(command: click.Command, names: tuple[str, ...]) -> str:
    options = [f"`{one.opts[0]}`" for one in command.params if isinstance(one, click.Option) and not one.hidden]
    sentence = " ".join((command.help or "").split("\n\n")[0].split())
    arguments = [one.human_readable_name for one in command.params if isinstance(one, click.Argument)]
    return f"| `{' '.join((*names, *arguments))}` | {sentence} | {' '.join(options)} |\n"


PAGES = {
    ROOT / "docs/reference/refusals.md": render_refusals,
    ROOT / "docs/reference/http.md": render_http,
    ROOT / "docs/reference/commands.md": render_commands,
    log_events.DOCUMENT: log_events.render,
}
"""Each page that is made from the source, and what makes it."""


_HTTP_FILE = """\
# Requests for editors. Change the values here; a value that goes into a path must be percent-encoded.
@scrip = http://127.0.0.1:8000
@key = demo_admin
@code = SUMMER-A
@userId = user-42
@orderId = A-1001
"""
_FROM_ANSWERS = {
    "bookId": "Create a book",
    "lockToken": "Lock a coupon",
    "redemptionId": "Redeem a coupon",
    "jobId": "Generate codes",
    "keyId": "Create a key",
    "webhookId": "Create a webhook",
    "deliveryId": "List a webhook's deliveries",
    "eventId": "List events in quarantine",
    "requestId": "Lock a coupon",
}
"""Values that the service makes, and a request whose answer, or refusal, has each."""
_NAMED = {*_FROM_ANSWERS, "code", "userId", "orderId"}


def render_http_file() -> str:
    """A file of requests for editors (`.http`): each operation with the example of the OpenAPI document. What must be
    there, such as a code or a lock, is a variable: what is made up would be refused."""
    lines = [_HTTP_FILE]
    lines += [f'# Of the answer to "{request}":\n@{name} = \n' for name, request in _FROM_ANSWERS.items()]
    for method, path, operation in list_operations():
        contents = operation.get("requestBody", {}).get("content", {})
        needed = [one["name"] for one in operation["parameters"] if one["in"] == "query" and one["required"]]
        address = "?".join([path, *(f"{name}={{{name}}}" for name in needed)])
        lines.append(f"\n### {operation['summary']}\n")
        lines.append(f"{method} {{{{scrip}}}}{address.replace('{', '{{').replace('}', '}}')}\n")
        lines.append("Authorization: Bearer {{key}}\n")
        if examples := contents.get("application/json", {}).get("examples"):
            body = json.dumps(_with_variables(examples["example"]["value"]), indent=2, ensure_ascii=False)
            lines.append(f"Content-Type: application/json\n\n{body}\n")
    return "".join(lines)


def _with_variables(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_variables(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: f"{{{{{name}}}}}" if name in _NAMED else _with_variables(one) for name, one in value.items()}


if __name__ == "__main__":
    for page, render in PAGES.items():
        page.write_text(render(), "utf-8")
