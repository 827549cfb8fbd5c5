"""The worst case of each script within its bounds."""

from loadtests.worst import requests, work
from loadtests.worst.ground import CASES, Case

__all__ = ["CASES", "Case", "requests", "work"]
