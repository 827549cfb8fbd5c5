"""Changes to the protocol that the simulation must find. Each is a name that the modelled protocol asks for."""

PLANTED = (
    "no nonce in the text",
    "epoch numbered per partition",  # and the text says the number alone
    "stream deleted instead of fenced",
    "gate opened unconditionally",
    "scripts loaded before the mend",
    "worker not stopped by the lease",
    "cursor compare without fence",
    "no anchor check",
    "redo of only the touched codes",
    "configuration not re-applied",
    "free pool refilled without asking the directory",
    "a retry by the driver",
    "used entries without their event",
    "pool never left",
    "no facts asked for",
    "keys not restored",
    "outbox trimmed before it is recorded",
    "layout not asked",
)
"""Each is found in at most 600 seeds."""

HOLES = (
    "no replication id in the text",
    "stale epochs used",
    "epochs not asked for again",
    "recorded judged by the tail",
    "postgres restored unseen",
    "changes put late",
    "entered in a restored postgres",
    "fences from a sequence",
    "mark not asked first",
    "cursor enters at the fence",
    "facts of any epoch believed",
    "redemptions known by their numbers",
    "outbox kept when rebuilt",
)
"""What the protocol had, or might have left out: rarer ones take more than 600 seeds."""
