"""Running the machine for so many steps, a seed at a time."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.databases import Databases
from tests.model.machine import Machine

EXAMPLE_STEPS = 100
SEED_STEPS = 5_000
"""At most so many with one seed: hypothesis keeps what it saw of a seed in memory."""


def play(
    databases: Databases, number: int, steps: int = SEED_STEPS, phases: Sequence[Phase] = (Phase.generate, Phase.shrink)
) -> Counter[str]:
    """About so many steps from this seed; how often each operation was answered how. Raises what the machine found, by
    the shortest way to it that hypothesis knows."""
    tally = Counter[str]()
    machine = type(Machine.__name__, (Machine,), {"databases": databases, "tally": tally})
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=-(-steps // EXAMPLE_STEPS),
            stateful_step_count=EXAMPLE_STEPS,
            phases=phases,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    return tally
