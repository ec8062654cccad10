"""Session tokens as Clerk makes them, signed with keys made here."""

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm
from jwt.api_jws import PyJWS

ISSUER = "https://swift-emu-1.clerk.accounts.dev"
ORIGIN = "http://127.0.0.1:8000"
KEY = generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = generate_private_key(public_exponent=65537, key_size=2048)
NOW = 1_795_219_200_000
SECONDS = NOW // 1000


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good v2 token; a change to None leaves a claim out."""
    good = {
        "azp": ORIGIN,
        "exp": SECONDS + 60,
        "iat": SECONDS,
        "iss": ISSUER,
        "jti": "0123",
        "nbf": SECONDS - 10,
        "sid": "sess_2qV",
        "sub": "user_2qV",
        "sts": "active",
        "v": 2,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def sign(
    payload: dict[str, Any], *, key: Any = KEY, kid: str | None = "ins_1", algorithm: str = "RS256", **headers: Any
) -> str:
    """A token with these claims, whatever their types."""
    named = {"kid": kid} if kid else {}
    encoded = json.dumps(payload).encode()
    return PyJWS().encode(encoded, key, algorithm, {**named, "cat": "cl_B7d4PD111AAA", **headers})


def jwk(key: RSAPrivateKey = KEY, kid: str = "ins_1") -> dict[str, Any]:
    """The public half as Clerk lists it."""
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"kty": "RSA", "n": public["n"], "e": public["e"], "use": "sig", "alg": "RS256", "kid": kid}
