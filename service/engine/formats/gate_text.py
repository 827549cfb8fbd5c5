"""Parse the gate's text, `<epoch> <state>`, for decider.py, workers and doctor. lua/includes/gate_refuses.lua
compares it; lua/fence.lua and set_gate.lua write it."""

from typing import NamedTuple

SERVING_STATES = ("open", "full", "behind")


class Gate(NamedTuple):
    """A gate's parts; '' for parts that the text lacks."""

    epoch: str
    state: str

    def __str__(self) -> str:
        return f"{self.epoch} {self.state}"

    def serves(self, epoch: int) -> bool:
        """Whether the scripts of this epoch may run."""
        return self.epoch == str(epoch) and self.state in SERVING_STATES


def parse_gate(text: str) -> Gate:
    """The inverse of str."""
    epoch, _, state = text.partition(" ")
    return Gate(epoch, state)
