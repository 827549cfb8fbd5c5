"""Whose job a partition works on next."""

TURN_S = 1.0
"""After this time another workspace's job has its turn."""
MAX_KNOWN = 1_000


class JobTurns:
    """The workspaces whose jobs had a turn; first the one whose turn was longest ago."""

    def __init__(self) -> None:
        self._served: dict[int, None] = {}

    @property
    def served(self) -> list[int]:
        return list(self._served)

    def note(self, workspace: int) -> None:
        """A job of the workspace has its turn now."""
        self._served.pop(workspace, None)
        self._served[workspace] = None
        if len(self._served) > MAX_KNOWN:
            del self._served[next(iter(self._served))]
