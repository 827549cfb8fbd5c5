"""A connection on which Redis also sends what no command asked for."""

from abc import abstractmethod
from typing import Any

import hiredis

from service.hot.connection import Connection


class PushConnection(Connection):
    """With RESP3, pushes have a type of their own. A subscription with RESP2 sends no further commands, so all that
    comes while no command waits for its reply is a push."""

    @abstractmethod
    def take_push(self, push: Any) -> None:
        """Handle a push."""

    def data_received(self, data: bytes) -> None:
        self._came += 1
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.PushNotification) or not self._waiting:
                self.take_push(reply)
            else:
                on_reply, requests = self._waiting.popleft()
                self.waiting -= requests
                on_reply(reply)
