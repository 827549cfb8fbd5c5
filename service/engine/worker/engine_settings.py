"""The settings of an engine's worker. A composition root (service/serving/worker.py) fills it from the environment."""

from typing import Literal, NamedTuple


class EngineSettings(NamedTuple):
    """The fields of service/common/config.py with these names explain themselves there."""

    redis_url: str
    database_url: str
    redis_durability: Literal["always", "log"] | None = None
    standbys: int = 0
    max_unrecorded_s: int = 900
