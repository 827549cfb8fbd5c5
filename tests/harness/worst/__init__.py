"""The worst case of each script within its bounds."""

from tests.harness.worst import requests, work
from tests.harness.worst.large_shop import CASES, Case

__all__ = ["CASES", "Case", "requests", "work"]
