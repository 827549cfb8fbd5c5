"""Webhooks: payloads, and sending them."""
