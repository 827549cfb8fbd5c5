"""What a request is refused with."""

from collections.abc import Callable
from typing import Any

import pytest

from service.engine.domain.errors import Refusal


def catch_refusal(call: Callable[..., object], *args: Any, **named: Any) -> tuple[str, list[str]]:
    """The code of the refusal that a call raises, and the fields that it names, each with a reason."""
    with pytest.raises(Refusal) as caught:
        call(*args, **named)
    assert caught.value.detail
    assert all(error.reason for error in caught.value.errors)
    return caught.value.code, [error.field for error in caught.value.errors]
