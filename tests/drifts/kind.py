"""What a kind of drift is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from service.formats.coupon_state import Class
from tests.drifts.subject import Subject

Named = dict[str, str]
"""What a comparison says that differs: by the thing, in the words of Subject.thing, its classes."""


class Kind(NamedTuple):
    """A way in which Redis and the record come to differ: what has been done with a subject, what then is done behind
    the service's back, and what a comparison must say of it, no more and no less."""

    state: str
    named: Named
    change: str | Callable[[Any, Subject], Any]
    """A statement for Postgres, or what a client of Redis does."""
    args: str = "workspace code0"
    """The statement's parameters, as Subject.values names them."""

    def expected(self, subject: Subject) -> dict[str, set[Class]]:
        """What must be said of a subject, by thing."""
        return {subject.thing(name): set[Any](classes.split()) for name, classes in self.named.items()}
