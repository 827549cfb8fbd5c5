"""What scripts cost, by INFO. A link has `call`, as a connection has."""

from typing import Any

_AROUND = {"cmdstat_evalsha", "cmdstat_info"}


async def _stats(link: Any) -> dict[str, dict[str, float]]:
    lines = (await link.call("INFO", "commandstats")).split("\r\n")
    stats: dict[str, dict[str, float]] = {}
    for line in lines:
        name, _, figures = line.partition(":")
        if figures:
            pairs: Any = (figure.split("=") for figure in figures.split(","))
            stats[name] = {key: float(value) for key, value in pairs}
    return stats


async def count_commands(link: Any) -> int:
    """How many commands scripts ran, if clients send only EVALSHA and INFO."""
    return int(sum(figures["calls"] for name, figures in (await _stats(link)).items() if name not in _AROUND))


async def script_ms(link: Any) -> float:
    """Wall-clock time of all scripts so far."""
    return (await _stats(link)).get("cmdstat_evalsha", {"usec": 0.0})["usec"] / 1000


async def cpu_ms(link: Any) -> float:
    """CPU of the server's main thread: how long other clients wait on an otherwise idle machine."""
    lines = dict(line.split(":", 1) for line in (await link.call("INFO", "cpu")).split("\r\n") if ":" in line)
    return 1000 * (float(lines["used_cpu_user_main_thread"]) + float(lines["used_cpu_sys_main_thread"]))
