"""RS256 key pair for tokens: generated once, kept as PEM, published as JWKS."""

import base64
import json
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

BITS = 2048
ALGORITHM = "RS256"


class Keyring:
    """Signs tokens. `kid` is the id of the key in tokens and in the JWKS."""

    def __init__(self, kid: str, private_pem: str | None = None) -> None:
        self.kid = kid
        self._given_pem = private_pem

    @cached_property
    def private_pem(self) -> str:
        """Return the private key as PEM: the given one, or one generated when first needed."""
        return self._given_pem or _new_pem()

    @cached_property
    def _private(self) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(self.private_pem.encode(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey), "an RSA key"  # noqa: S101
        return key

    @cached_property
    def public_pem(self) -> str:
        """Return the public key as PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @cached_property
    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        key = json.loads(RSAAlgorithm.to_jwk(self._private.public_key()))
        public = {"kty": "RSA", "n": key["n"], "e": key["e"]}
        return {"keys": [{"use": "sig", "kid": self.kid, "alg": ALGORITHM, **public}]}

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """Return a signed token with these claims."""
        return jwt.encode(claims, self._private, ALGORITHM, headers={"kid": self.kid, **headers})

    def read(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token that was signed with this key, even if expired; None: it was not."""
        try:
            options: Any = {"verify_exp": False, "verify_nbf": False, "verify_aud": False, "verify_iat": False}
            return dict(jwt.decode(token, self._private.public_key(), [ALGORITHM], options=options))
        except jwt.InvalidTokenError:
            return None


def publishable_key(frontend_host: str) -> str:
    """Return the publishable key, which contains the host of the Frontend API."""
    return "pk_test_" + base64.b64encode(f"{frontend_host}$".encode()).decode()


def _new_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, none).decode()
