"""What keeps the event loop busy longest within each bound."""

from tests.harness.growth.request_shapes import OPERATIONS, SHAPES, Shape, body_request, fill

ARRIVING_BYTES = 256 << 10
"""What the transport reads at once, at most."""
HOT_BYTES, JSON_BYTES, HEAD_BYTES = 60_000, (1 << 20) - 200, 15_000
OPERATIONS_AT_ONCE, FILE_BYTES = 200, 32 << 10
"""More would only take more turns."""


def _body(path: str, body: bytes) -> tuple[Shape, int]:
    return Shape(0, lambda _: body_request(path, body, ARRIVING_BYTES)), 0


def _batch(operation: str) -> tuple[Shape, int]:
    return _body("/v1/batch", b'{"operations":[' + b",".join([operation.encode()] * OPERATIONS_AT_ONCE) + b"]}")


def _list(path: str, field: str, item: str, size: int) -> tuple[Shape, int]:
    return _body(path, f'{{"{field}":['.encode() + fill(item + ",", size)[:-1] + b"]}")


def _string(path: str, field: str, text: str, size: int) -> tuple[Shape, int]:
    return _body(path, f'{{"{field}":"'.encode() + fill(text, size) + b'"}')


_ITEMS = ",".join(['{"sku":"a","quantity":1,"unitPrice":"1.00"}'] * 1_000)
_ODD = f'{{"userId":"u","code":"ABCD","orderValue":"1000","items":[{_ITEMS}],"currency":"1_0"}}'
_LARGE = f'{{"op":"validate","userId":"u","code":"ABCD","orderValue":"1000","items":[{_ITEMS}]}}'
_CONNECTIONS = ("line ends '\\r\\n'", "chunks of a byte", "trailers")
_FILES = (
    "text/csv 'A#,u,31.12.2036,\\n'",
    "text/csv '\"\\n'",
    "text/csv ','",
    "text/plain 'ABCD\\n'",
    "json '\"A#\",'",
    "json ' '",
)
_HEADERS = ("Cookie: ';'", "Content-Type: ';'", "Idempotency-Key: 'a'", "Prefer: 'a;q=0.1, '")

PIECES: dict[str, tuple[Shape, int]] = {
    **{f"256 KiB of {name}": (SHAPES["connections"][name], ARRIVING_BYTES) for name in _CONNECTIONS},
    "requests without a key": (SHAPES["connections"]["requests without a key at once"], HEAD_BYTES),
    **{f"a head of {name}": (SHAPES["headers"][name], HEAD_BYTES) for name in _HEADERS},
    "a path of '%'": (SHAPES["targets"]["/v1/books/'%'"], HEAD_BYTES),
    "a query of '%'": (SHAPES["targets"]["/v1/books?cursor='%'"], HEAD_BYTES),
    "64 KiB, a string of escapes": _string("/v1/coupons/redeem/ABCD", "orderValue", '\\"', HOT_BYTES),
    "64 KiB, a list of odd amounts": _list("/v1/coupons/validate", "items", '"1_0"', HOT_BYTES),
    "64 KiB, 1,000 items and an odd amount": _body("/v1/coupons/validate", _ODD.encode()),
    "1 MiB, a string of digits": _string("/v1/books", "tags", "1", JSON_BYTES),
    "1 MiB, a string of escapes": _string("/v1/books", "tags", '\\"', JSON_BYTES),
    "1 MiB, a list of odd amounts": _list("/v1/books", "tags", '"1_0"', JSON_BYTES),
    "49,000 odd amounts": _list("/v1/books", "tags", '"1_0"', 6 * 49_000),
    "1 MiB, spaces": _body("/v1/batch", b" " * JSON_BYTES),
    "1 MiB, nested objects": _body("/v1/books", fill('{"a":', JSON_BYTES)),
    "1 MiB, a batch of numbers": _list("/v1/batch", "operations", "1", JSON_BYTES),
    "a batch of 15 orders of 1,000 items": _body("/v1/batch", f'{{"operations":[{",".join([_LARGE] * 15)}]}}'.encode()),
    "a batch of 49,000 numbers": _list("/v1/batch", "operations", "1", 2 * 49_000),
    **{f"a batch of {operation}": _batch(operation) for operation in OPERATIONS},
    **{f"a file, {name}": (SHAPES["files"][name], FILE_BYTES) for name in _FILES},
}
"""Shapes, and their sizes."""
