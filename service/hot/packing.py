"""Encode requests to Redis as bytes, for connection.py."""

from typing import Any

import hiredis

_SIZES = [f"\r\n${size}\r\n" for size in range(1 << 10)]
"""What stands before a text of each length in a request."""

MANY = 100
"""Up to so many texts hiredis is fast enough, whatever they contain."""


def pack(command: tuple[Any, ...]) -> bytes:
    """A request in RESP. For more than MANY short ASCII texts hiredis takes twice as many instructions."""
    if len(command) > MANY:
        parts = [""] * (2 * len(command))
        try:
            parts[::2] = map(_SIZES.__getitem__, map(len, command))
            parts[1::2] = command
            request = f"*{len(command)}{''.join(parts)}\r\n"
        except (TypeError, IndexError):  # a number, bytes, or a longer text
            return hiredis.pack_command(command)
        if request.isascii():
            return request.encode()
    return hiredis.pack_command(command)
