import base64
import hmac
import time


def is_genuine(headers, body: bytes, secret: str) -> bool:
    """Whether Scrip has sent this. `headers` finds names in any case, `body` is the bytes as received."""
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(time.time() - int(at)) > 300:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{event_id}.{at}.".encode() + body, "sha256")
    expected = f"v1,{base64.b64encode(mac).decode()}".encode()
    signatures = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(one.encode(), expected) for one in signatures)
