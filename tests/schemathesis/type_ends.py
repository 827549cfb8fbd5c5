"""Both ends of the type of each value of each request of the OpenAPI document, alone and in pairs: none is 5xx.

`python -m tests.schemathesis.type_ends` is part of `make fuzz`; tests/integration/requests/test_type_ends.py sends
fewer. Schemathesis draws values at random, and hardly ever one of these, never two.
"""

import argparse
import copy
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.harness import ends
from tests.harness.cases import filled
from tests.harness.routes.setup import make_quarantined, make_setup
from tests.harness.routes.table import ROUTES
from tests.harness.service_fixture import Service, new_id, shared_service

Schema = dict[str, Any]
MOST_CODES = 100
MANY = frozenset(("count", "totalCodes", "keepFree"))
"""Fields that make so many codes: their last value that is accepted costs minutes."""
LIMITS = frozenset(("requestsPerMinute", "missesPerMinute", "addressMissesPerMinute", "liveLocks"))
"""Fields whose first values would have all other requests refused."""
DEEPEST = 6
_NUMBERS = (0, 1, -1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400, 0.5, 1e300, True)
_MONEY = (
    0,
    "0",
    "0.00",
    "-0",
    "0.01",
    "0.0001",
    "99999999999.99",
    "99999999999.9999",
    99_999_999_999,
    10**11,
    "1e10",
    "NaN",
    -1,
)
_TIMES = (
    *ends.TIMES, *ends.TOO_EARLY, *ends.TOO_LATE, *ends.NO_TIMES, "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999+14:00", "9999-12-31T23:59:59.999-14:00", "2016-12-31T23:59:60Z", "9999-12-31T23:59:60Z",
)  # fmt: skip
_TEXTS = ("", " ", "x", "\0", "\ud800", "\U0010ffff", "é" * 100, "=1+1", "%", "..")
_ZONES = ("UTC", "Etc/GMT+12", "Etc/GMT-14", "Pacific/Kiritimati", "CET", "EST5EDT", "Factory", "Africa/Monrovia", "GB")
_IDS = (*ends.IDS, *ends.EVENTS)
_FIXED: dict[str, tuple[Any, ...]] = {"object": ({}, {"": ""}, {"\0": [1e300]}), "boolean": (True, False, 0, "true")}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_UNSENT = frozenset(("Idempotency-Key", "Prefer", "X-Request-Id"))


class Place(NamedTuple):
    """A value of a request: where it is, and both ends of its type."""

    part: str
    """query, path or body."""
    at: tuple[str | int, ...]
    values: tuple[Any, ...]
    around: tuple[tuple[tuple[str | int, ...], Any], ...] = ()
    """What the body needs around it, from the outside to the inside."""


class Operation(NamedTuple):
    """An operation with a request that works."""

    method: str
    template: str
    values: dict[str, Any]
    query: dict[str, str]
    body: dict[str, Any] | None
    places: tuple[Place, ...]


class Document:
    """The places of each operation of an OpenAPI document."""

    def __init__(self, document: Schema) -> None:
        self._schemas, self._paths = document["components"]["schemas"], document["paths"]

    def list_places(self, method: str, template: str) -> Iterator[Place]:
        """Yield the places of an operation."""
        operation = self._paths[template][method.lower()]
        for one in operation.get("parameters", ()):
            if one["in"] in ("query", "path") and one["name"] not in _UNSENT:
                yield Place(one["in"], (one["name"],), tuple(self._ends(one["name"], one["schema"])))
        content = operation.get("requestBody", {}).get("content", {})
        if schema := content.get("application/json", {}).get("schema"):
            yield from self._inside(schema, (), ())

    def _kinds(self, schema: Schema) -> Iterator[Schema]:
        """What the schema may be, without null."""
        if "$ref" in schema:
            yield from self._kinds(self._schemas[schema["$ref"].rpartition("/")[2]])
        elif options := schema.get("anyOf") or schema.get("oneOf"):
            for option in options:
                yield from self._kinds(option)
        elif schema.get("type") != "null":
            yield schema

    def _inside(self, schema: Schema, at: tuple[str | int, ...], around: tuple[Any, ...]) -> Iterator[Place]:
        """Yield the places inside an object, or the first item of an array."""
        for kind in self._kinds(schema) if len(at) < DEEPEST else ():
            around_ = (*around, (at, self._typical(kind))) if at else ()
            if "items" in kind:
                yield Place("body", (*at, 0), tuple(self._ends(str(at[-1]), kind["items"])), around_)
                yield from self._inside(kind["items"], (*at, 0), around_)
            for name, one in kind.get("properties", {}).items():
                yield Place("body", (*at, name), tuple(self._ends(name, one)), around_)
                yield from self._inside(one, (*at, name), around_)

    def _typical(self, schema: Schema) -> Any:
        """A value that such a field usually has."""
        kind = next(self._kinds(schema))
        if "properties" in kind:
            return {name: self._typical(kind["properties"][name]) for name in kind.get("required", ())}
        if "enum" in kind:
            return kind["enum"][0]
        if kind.get("examples"):
            return kind["examples"][0]
        usual: dict[str, Any] = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
        return [self._typical(kind["items"])] if "items" in kind else usual.get(kind.get("type", ""), "SUMMER-A")

    def _ends(self, name: str, schema: Schema) -> Iterator[Any]:
        """Yield both ends of a type, and what is just beyond them."""
        yield None
        for kind in self._kinds(schema):
            if "enum" in kind:
                yield from (kind["enum"][0], kind["enum"][-1], "")
            elif kind.get("type") in ("integer", "number"):
                bounds = [kind[bound] for bound in _BOUNDS if bound in kind]
                values = (*_NUMBERS, *bounds, *(_MONEY if kind["type"] == "number" else ()))
                yield from (one for one in values if is_cheap(name, one))
            elif kind.get("type") == "array":
                yield []
                yield [self._typical(kind["items"])] * min(kind.get("maxItems", 1000) + 1, 1001)
            elif kind.get("type") in _FIXED:
                yield from _FIXED[kind["type"]]
            elif kind.get("format") == "date-time":
                yield from _TIMES
            else:
                yield from _list_texts(name, kind)


def _list_texts(name: str, kind: Schema) -> Iterator[str]:
    most = kind.get("maxLength", 64)
    yield from (*_TEXTS, "\U0001f600" * most, *("A" * length for length in (kind.get("minLength", 4), most, most + 1)))
    if name == "timeZone":
        yield from _ZONES
    elif name.endswith("Id"):
        yield from _IDS


def is_cheap(name: str, value: Any) -> bool:
    """Whether the value may be sent: it makes no million of codes, and leaves the workspace usable."""
    if isinstance(value, str):
        return True
    if name in MANY:
        return value <= MOST_CODES or value > 10_000_000
    return name not in LIMITS or not 0 < value < 2**31 - 1


class Sender:
    """Sends requests to two workspaces: one is for settings, keys and clocks, after which others would be refused."""

    def __init__(self, service: Service) -> None:
        self.service, self.statuses, self.failed = service, Counter[int](), dict[str, tuple[int, Any]]()
        document = service.anonymous.get("/schema/openapi.json").json()
        known = Document(document)
        self._usual, self._own = (self._make_workspace() for _ in range(2))
        self.operations: list[tuple[Service, Operation]] = []
        for route in ROUTES:
            template = route.name.split(" ")[1]
            workspace, setup = (
                self._own if template.startswith(("/v1/workspace", "/v1/keys", "/v1/test")) else self._usual
            )
            address, body = filled(route.working, setup)
            names = dict(zip(template.split("/"), address.partition("?")[0].split("/"), strict=True))
            values = {name[1:-1]: value for name, value in names.items() if name.startswith("{")}
            query = dict(pair.split("=") for pair in address.partition("?")[2].split("&") if pair)
            places = tuple(known.list_places(route.method, template))
            self.operations.append((workspace, Operation(route.method, template, values, query, body, places)))

    def _make_workspace(self) -> tuple[Service, dict[str, str]]:
        own = self.service.make_workspace(new_id("ends"), "test")
        return own, make_setup(own) | {"event": make_quarantined(own)}

    def set_clock(self, now: str | None) -> None:
        """Set the clock of the workspaces: what is made from now, such as a lock's end, may be past the last time."""
        for workspace, _ in (self._usual, self._own):
            workspace.operate.post("/v1/test/clock", json={"now": now})

    def send(self, workspace: Service, operation: Operation, chosen: Sequence[tuple[Place, Any]]) -> None:
        """Send the operation's request with these values in it, and keep a failure."""
        values, query, body = dict(operation.values), dict(operation.query), copy.deepcopy(operation.body)
        for place, value in chosen:
            if place.part == "body":
                body = put(body, place, value)
            else:
                into = values if place.part == "path" else query
                into[str(place.at[0])] = value if isinstance(value, str) else json.dumps(value)
        parts = [
            _encode(values[part[1:-1]]) if part.startswith("{") else part for part in operation.template.split("/")
        ]
        address = "/".join(parts) + "".join(
            f"{'&?'[not i]}{name}={_encode(value)}" for i, (name, value) in enumerate(query.items())
        )
        content = b"" if body is None else json.dumps(body, ensure_ascii=True).encode()
        response = workspace.admin.request(
            operation.method, address, content=content, headers={"Content-Type": "application/json"} if content else {}
        )
        self.statuses[response.status_code] += 1
        if response.status_code >= 500:
            where = " ".join(".".join(map(str, place.at)) for place, _ in chosen)
            key = f"{operation.method} {operation.template} {where}"
            self.failed.setdefault(key, (response.status_code, [str(value)[:60] for _, value in chosen]))

    def send_alone(self, seed: int, most: int) -> None:
        """Send the ends of each place; of more than `most`, so many that are drawn, and each time."""
        draw = random.Random(seed)
        for workspace, operation in self.operations:
            for place in operation.places:
                few = place.values if len(place.values) <= most else draw.sample(place.values, most)
                for value in place.values:
                    if value in few or value in ends.TIMES:
                        self.send(workspace, operation, [(place, value)])

    def send_pairs(self, seed: int, count: int) -> None:
        """Send so many pairs of ends, drawn from all operations alike."""
        draw = random.Random(seed)
        having = [one for one in self.operations if len(one[1].places) > 1]
        for workspace, operation in itertools.islice(itertools.cycle(having), count):
            pair = draw.sample(operation.places, 2)
            self.send(workspace, operation, [(place, draw.choice(place.values)) for place in pair])


def put(body: Any, place: Place, value: Any) -> Any:
    """The body with this value; what is missing around it is put there first."""
    body = {} if body is None else body
    for at, around in place.around:
        if not isinstance(_get(body, at), type(around)) or not _get(body, at):
            _set(body, at, copy.deepcopy(around))
    _set(body, place.at, value)
    return body


def _get(node: Any, at: tuple[str | int, ...]) -> Any:
    for name in at:
        try:
            node = node[name]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _set(node: Any, at: tuple[str | int, ...], value: Any) -> None:
    *outer, last = at
    node = _get(node, tuple(outer))
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and isinstance(last, int):
        node[last : last + 1] = [value]


def _encode(value: str) -> str:
    return quote(value, safe="", errors="surrogatepass")


def main() -> int:
    """Send all, at three times of the clock; fail on any 5xx."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000, help="at each time")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="one that an earlier run printed")
    options = parser.parse_args()
    with shared_service() as service:
        sender = Sender(service)
        for now in (None, "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
            sender.set_clock(now)
            sender.send_alone(options.seed, 1000)
            sender.send_pairs(options.seed, options.pairs)
    for request, failure in sender.failed.items():
        print(request, *failure)
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(sender.statuses.items()))
    print(f"{sender.statuses.total():,} requests, seed {options.seed}: {statuses}")
    return bool(sender.failed)


if __name__ == "__main__":
    sys.exit(main())
