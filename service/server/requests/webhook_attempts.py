"""The attempts of a webhook's delivery: sender.py makes them, delivery_rows.py stores them as JSON, webhooks.py returns
them. A new field needs a default."""

import codecs
import re
from typing import Annotated, NamedTuple

import msgspec

from service.engine.domain.field_types import Answer
from service.engine.domain.times import Timestamp, from_ms

MAX_LOGGED = 20
"""The newest attempts of a delivery are stored. The schedule of retries has no more."""
MAX_RESPONSE_BYTES = 1_024
USER = "{userId}"
"""Stands for the delivery's user in a stored response, so that nothing is left of a deleted user."""


class Posted(NamedTuple):
    """The outcome of an attempt: a status, or an error; the pause that the receiver requests (Retry-After); and the
    first bytes of the response."""

    status: int | None
    error: str | None = None
    retry_after_s: int = 0
    body: bytes = b""

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Attempt(Answer, kw_only=True):
    """An attempt to send a delivery: its beginning and length, and the receiver's status, or why there is none."""

    at: Timestamp
    milliseconds: int
    status: int | None
    error: str | None
    response: Annotated[
        str | None,
        msgspec.Meta(
            description=f"The first {MAX_RESPONSE_BYTES:,} bytes of the response's body as text, with escapes such as "
            f"`\\x1b` for characters that are not printable, and `{USER}` for the user whom the event names."
        ),
    ]


def make_attempt(
    at_s: float, took_s: float, status: int | None, error: str | None, response: bytes, sent: bytes
) -> Attempt:
    """The attempt that sent this body at this time, in seconds since 1970."""
    answer = None if status is None else _hide_user(_render_text(response), sent)
    at, milliseconds = from_ms(int(at_s * 1000)), round(took_s * 1000)
    return Attempt(at=at, milliseconds=milliseconds, status=status, error=error, response=answer)


def _render_text(response: bytes) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(response[:MAX_RESPONSE_BYTES], final=len(response) <= MAX_RESPONSE_BYTES)
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text.replace("\r\n", "\n")
    )


def _hide_user(text: str, sent: bytes) -> str:
    user = msgspec.json.decode(sent)["data"].get("userId") if text else None
    return re.sub(rf"(?<![\w-]){re.escape(user)}(?![\w-])", USER, text) if user else text
