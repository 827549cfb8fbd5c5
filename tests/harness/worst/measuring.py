"""What scripts cost, by INFO. A link has `call`, as a connection has."""

from typing import Any

from service.engine.hot.fitness import read_info

_AROUND = {"cmdstat_evalsha", "cmdstat_info", "cmdstat_config|get"}
"""What clients send: scripts, and what this module and fitness.py ask."""


async def _stats(link: Any) -> dict[str, dict[str, str]]:
    info = read_info(await link.call("INFO", "commandstats"))
    return {name: dict(pair.split("=") for pair in figures.split(",")) for name, figures in info.items()}


async def count_commands(link: Any) -> int:
    """How many commands scripts ran, if clients send only what is in _AROUND."""
    return sum(int(figures["calls"]) for name, figures in (await _stats(link)).items() if name not in _AROUND)


async def script_ms(link: Any) -> float:
    """Wall-clock time of all scripts so far."""
    return int((await _stats(link))["cmdstat_evalsha"]["usec"]) / 1000


async def cpu_ms(link: Any) -> float:
    """CPU of the server's main thread: how long other clients wait on an otherwise idle machine."""
    info = read_info(await link.call("INFO", "cpu"))
    return 1000 * (float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"]))
