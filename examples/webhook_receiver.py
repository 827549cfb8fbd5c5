"""A receiver of webhooks: verify each event, store it once, and answer quickly; the work comes afterwards.

SCRIP_WEBHOOK_SECRET is the secret of the webhook; run `python -m examples.webhook_receiver`, behind a proxy with TLS.
"""

import os
import sqlite3
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scrip_client import webhooks

MAX_BODY_BYTES = 64 << 10


class Inbox:
    """The events that came, in a table: an event that comes twice is stored once."""

    def __init__(self, path: str) -> None:
        self.path = path
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE IF NOT EXISTS inbox (id text PRIMARY KEY, type text, body blob, done int)")

    def store(self, event: webhooks.Event, body: bytes) -> None:
        with sqlite3.connect(self.path) as database:
            row = (event.id, event.type, body)
            database.execute("INSERT INTO inbox VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING", row)

    def work_off(self, work: Callable[[str, bytes], None]) -> None:
        """Do the work of each event that has not been worked on, in their order. A worker of yours calls this."""
        with sqlite3.connect(self.path) as database:
            for event_id, kind, body in database.execute(
                "SELECT id, type, body FROM inbox WHERE NOT done ORDER BY rowid"
            ):
                work(kind, body)  # after a crash once more: let it have an effect once
                database.execute("UPDATE inbox SET done = 1 WHERE id = ?", (event_id,))


def make_server(address: tuple[str, int], secret: str, inbox: Inbox) -> ThreadingHTTPServer:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(min(length, MAX_BODY_BYTES))
            try:
                event = webhooks.verify(body, dict(self.headers), secret)
            except webhooks.InvalidSignature:
                return self.send_error(400)
            inbox.store(event, body)  # before the answer: an event that is lost here comes again
            self.send_response(204)
            return self.end_headers()

    return ThreadingHTTPServer(address, Receiver)


if __name__ == "__main__":
    make_server(("127.0.0.1", 8080), os.environ["SCRIP_WEBHOOK_SECRET"], Inbox("inbox.sqlite")).serve_forever()
