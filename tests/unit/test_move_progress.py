"""What `scrip move` shows of a move that runs."""

from service.cli.moving import LINE_S, Progress
from service.record.partitions.moves import Move, State


def _move(state: State, reason: str, done: int = 0, total: int = 0) -> Move:
    return Move(1, 0, 1, state, reason, attempts=1, total=total, done=done, closed_ms=None)


def test_progress_shows_rate_and_rest() -> None:
    """A line each LINE_S has the copied keys, the rate since the line before, and what is left."""
    progress = Progress()
    assert progress.next_line(_move("running", "copies keys", 1000, 9000), 10.0) == (
        "copies keys; 1000 keys are copied (0 a second), about 8000 are left"
    )
    assert progress.next_line(_move("running", "copies keys", 2000, 9000), 10.0 + LINE_S / 2) == ""
    assert progress.next_line(_move("running", "copies keys", 3000, 9000), 10.0 + LINE_S) == (
        "copies keys; 3000 keys are copied (1000 a second), about 6000 are left"
    )


def test_a_reason_shows_at_once() -> None:
    """The reason of an attempt's end does not wait for the next line, and the next attempt counts from 0."""
    progress = Progress()
    progress.next_line(_move("running", "copies keys", 1000, 9000), 10.0)
    interrupted = _move("ordered", "interrupted: Postgres has ended the connection", 1000, 9000)
    assert progress.next_line(interrupted, 10.1) == "interrupted: Postgres has ended the connection"
    assert progress.next_line(interrupted, 10.2) == ""
    assert progress.next_line(_move("running", "copies keys", 10, 9000), 10.3).startswith(
        "copies keys; 10 keys are copied (0 a second)"
    )
    assert progress.next_line(_move("clearing", "copies keys", 9000, 9000), 10.4) == (
        "it has moved; the worker removes its old keys"
    )
    assert progress.next_line(_move("done", ""), 20.0) == ""
