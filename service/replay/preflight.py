"""Checks, before anything is created, that a Scrip answers at the URL and accepts the keys. command.py calls this."""

from contextlib import aclosing

from service.replay.order_sender import Target
from service.replay.retrying_client import Client, UnexpectedResponse

RETRY_DEADLINE_S = 2.0
_READS = {
    "checkout": "/v1/users?limit=1",
    "manage": "/v1/books?limit=1",
    "operate": "/v1/ops/consistency",
}
"""By scope, a request that a key with this scope may send and that changes nothing."""


async def check_access(target: Target) -> None:
    """Read something with each key. Raises UnexpectedResponse and Unreachable, whose messages name the remedy."""
    tokens = {"checkout": target.checkout_token, "manage": target.manage_token, "operate": target.operate_token}
    async with aclosing(Client(target.url, RETRY_DEADLINE_S)) as client:
        for scope, path in _READS.items():
            response = await client.request("GET", path, tokens[scope])
            if response.status in (401, 403):
                fault = "does not accept" if response.status == 401 else f"gives no scope `{scope}` to"
                raise UnexpectedResponse(
                    f"{target.url} {fault} the key of --{scope}-token. Pass one with that scope: "
                    f"`scrip keys create WORKSPACE NAME --scope {scope}` prints one."
                )
            if response.status != 200:
                has_code = "code" in response.json
                remedy = "Retry when `scrip doctor` reports no fault." if has_code else "That is no Scrip: check --url."
                raise UnexpectedResponse(f"{target.url} answers {response.outcome} to GET {path}. {remedy}")
