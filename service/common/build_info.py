"""The metric that names the running version; API processes and workers export it when they start."""

import platform
from importlib.metadata import version
from typing import Literal

from prometheus_client import Gauge

_BUILD = Gauge("scrip_build_info", "Always 1: the version that runs, and Python's.", ["version", "python", "process"])


def export_build_info(process: Literal["api", "worker"]) -> None:
    _BUILD.labels(version("scrip"), platform.python_version(), process).set(1)
