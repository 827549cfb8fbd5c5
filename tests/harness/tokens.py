"""An issuer of users' tokens, with its keys."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://id.example/", "scrip"


class Idp:
    """An identity provider with a key for each algorithm."""

    def __init__(self, issuer: str = ISSUER, audience: str = AUDIENCE) -> None:
        self.issuer, self.audience = issuer, audience
        self.private: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }

    def jwks(self, *algorithms: str, **more: Any) -> bytes:
        """Encode the public keys of these algorithms, or of all; a key's id is its algorithm's name."""
        keys = [self.jwk(algorithm) | more for algorithm in algorithms or self.private]
        return json.dumps({"keys": keys}).encode()

    def jwk(self, algorithm: str) -> dict[str, Any]:
        """Build the JWK of a public key."""
        kind = jwt.get_algorithm_by_name(algorithm)
        return json.loads(kind.to_jwk(self.private[algorithm].public_key())) | {"kid": algorithm, "use": "sig"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Build valid claims with these changes; None removes a claim."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": self.audience, "sub": "ann", "iat": now, "exp": now + 600}
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """Sign a token with the algorithm's key."""
        headers = {"kid": algorithm} | (headers or {})
        return jwt.encode(self.claims(**changes), self.private[algorithm], algorithm, headers=headers)

    def pem(self, algorithm: str) -> bytes:
        """Encode the public key as PEM."""
        public = self.private[algorithm].public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def part(value: Any) -> str:
    """Encode a segment of a token: JSON, or bytes as they are."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_token(headers: Any, claims: Any, secret: bytes) -> str:
    """Sign a token with a secret, whatever algorithm its header names."""
    body = f"{part(headers)}.{part(claims)}"
    return f"{body}.{part(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"
