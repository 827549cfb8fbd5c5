"""The client of Scrip: Client and AsyncClient, with a method for each operation. `refusals` has an exception for each
refusal, `models` what requests and answers are made of, `webhooks` what verifies events."""

from scrip_client import webhooks
from scrip_client._version import __version__
from scrip_client.async_client import AsyncClient
from scrip_client.client import Client
from scrip_client.core import Answer, Call
from scrip_client.errors import OutcomeUnknown, Refused, ScripError, UnexpectedResponse, Unreachable
from scrip_client.generated import models, operations, refusals

__all__ = [
    "Answer",
    "AsyncClient",
    "Call",
    "Client",
    "OutcomeUnknown",
    "Refused",
    "ScripError",
    "UnexpectedResponse",
    "Unreachable",
    "__version__",
    "models",
    "operations",
    "refusals",
    "webhooks",
]
