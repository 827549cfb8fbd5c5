"""Codes that all fall into one bucket of the directory, as anybody can make them: crc32 is linear."""

from collections.abc import Iterator
from zlib import crc32

from service.engine.formats import key_names

BITS = 17
"""Of a bucket's number."""
WIDTH = 40
"""Places of a code, each of which is one of two letters."""


def colliding(count: int) -> list[str]:
    """So many codes of one bucket, at most 2 to the WIDTH - BITS."""
    zero = crc32(b"A" * WIDTH)
    deltas = [(crc32(_letters({place})) ^ zero) & (key_names.BUCKETS - 1) for place in range(WIDTH)]
    free = list(_kernel(deltas))
    codes: list[str] = []
    for number in range(count):
        flipped: set[int] = set()
        for bit, places in enumerate(free):
            if number >> bit & 1:
                flipped ^= places
        codes.append(_letters(flipped).decode())
    assert {key_names.bucket(code) for code in codes[:1000]} == {key_names.bucket(codes[0])}
    return codes


def _letters(flipped: set[int]) -> bytes:
    return b"".join(b"C" if place in flipped else b"A" for place in range(WIDTH))


def _kernel(deltas: list[int]) -> Iterator[set[int]]:
    """Sets of places that together change no bit of the bucket's number, none made of the others."""
    pivots: dict[int, tuple[int, set[int]]] = {}
    for place, delta in enumerate(deltas):
        places = {place}
        while delta and (bit := delta.bit_length()) in pivots:
            delta ^= pivots[bit][0]  # noqa: PLW2901
            places ^= pivots[bit][1]
        if delta:
            pivots[delta.bit_length()] = delta, places
        else:
            yield places
