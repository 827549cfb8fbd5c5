"""When the certificates of servers expire: connections to Redis and Postgres note it, the API's metrics show it."""

import asyncio
from typing import Any, Literal

expires_s: dict[Literal["redis", "postgres"], float] = {}
"""Seconds since 1970, as of the last connection of this process to each server."""


def note_certificate(
    server: Literal["redis", "postgres"], transport: asyncio.BaseTransport | asyncio.StreamWriter
) -> None:
    """Note the certificate of a connection's server. Without TLS there is none."""
    secured: Any = transport.get_extra_info("ssl_object")
    if secured and (certificate := secured.getpeercert(binary_form=True)):
        from cryptography import x509  # connections without TLS don't need it

        expires_s[server] = x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()
