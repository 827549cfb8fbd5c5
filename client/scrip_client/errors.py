"""What a call may raise. refusals.py has a class for each refusal of the service; core.py chooses the class."""

from typing import TYPE_CHECKING, Any, ClassVar

from scrip_client.generated.models import Problem

if TYPE_CHECKING:
    from scrip_client.core import Call


class ScripError(Exception):
    """The base of all errors. `problem` is the service's answer, if there is one; `call` may be sent again."""

    code: ClassVar[str] = ""
    for_: str = "retry"
    """Whose turn it is: `shopper` (tell the customer the `detail`), `caller` (the program or its configuration is
    wrong), `retry` (the same request may succeed later)."""

    def __init__(
        self, message: str, call: "Call[Any]", problem: Problem | None = None, retry_after_s: float | None = None
    ) -> None:
        self.call, self.problem, self.retry_after_s = call, problem, retry_after_s
        self.detail = problem.detail if problem else ""
        if problem:
            self.for_ = problem.for_
        super().__init__(message, call, problem, retry_after_s)  # all of them: such an error can be pickled

    def __str__(self) -> str:
        return str(self.args[0])


class Refused(ScripError):
    """The service refused the request, and changed nothing. Each code has a subclass in refusals.py, whose attributes
    are the refusal's figures; None for those that it does not have."""

    figures: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, call: "Call[Any]", problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(message, call, problem, retry_after_s)
        self.status, self.title = problem.status, problem.title
        self.request_id, self.errors = problem.request_id, problem.errors or []
        for name in self.figures:
            setattr(self, name, getattr(problem, name))


class OutcomeUnknown(ScripError):
    """The change may have been made or not: an answer was lost, and the deadline passed before another one came.

    Send the same request with this `idempotency_key`, also later and from another process: it answers what happened.
    """

    code = "outcome_unknown"

    @property
    def idempotency_key(self) -> str:
        """The key to go on with; '' if the request had none."""
        return self.call.idempotency_key


class Unreachable(ScripError):
    """No answer came until the deadline, and nothing was changed."""


class UnexpectedResponse(ScripError):
    """The response is not Scrip's, or not in the documented form."""

    for_ = "caller"
