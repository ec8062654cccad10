"""Eighty forged session tokens: each lacks or falsifies one thing, most of them signed with the instance's own key."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from tests.attack.target import Report, Target

ROUTES = ("/v1/organizations/northwind/people", "/organizations/northwind/members")
CATEGORY = "cl_B7d4PD111AAA"
HUGE = 10**400


async def run(target: Target) -> Report:
    """Send every forged token to the API and to a page; each must be refused as if nobody were signed in."""
    report = Report("forged tokens")
    tokens = dict(forged(target))
    for name, token in tokens.items():
        for route in ROUTES:
            headers = {"authorization": f"Bearer {token}", "sec-fetch-dest": "document"}
            answer = await target.call("GET", route, headers=headers, follow_redirects=False)
            report.count("tokens" if route == ROUTES[0] else "pages")
            is_refused = answer.status_code in (401, 429) or (answer.status_code in (303, 307) and route == ROUTES[1])
            report.expect(is_refused, f"{name} at {route}: {answer.status_code} {answer.text[:120]}")
    good = signed(claims_of(target), target.private_key, headers_of(target))
    answer = await target.call("GET", ROUTES[0], headers={"authorization": f"Bearer {good}"})
    report.expect(answer.status_code == 200, f"the token that is not forged: {answer.status_code} {answer.text[:200]}")
    report.expect(len(tokens) >= 80, f"only {len(tokens)} forged tokens")
    return report


def claims_of(target: Target, **changes: Any) -> dict[str, Any]:
    """Return the claims of a good token of Northwind's admin."""
    now = int(time.time())
    good = {
        "azp": target.url,
        "exp": now + 60,
        "iat": now,
        "iss": target.clerk_url,
        "jti": "a1",
        "nbf": now - 10,
        "sid": "sess_attack",
        "sub": target.users["admin"],
        "sts": "active",
        "v": 2,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def headers_of(target: Target, **changes: Any) -> dict[str, Any]:
    """Return the header of a good token."""
    return {"kid": target.kid, "cat": CATEGORY, **changes}


def forged(target: Target) -> Iterator[tuple[str, str]]:
    """Yield the forged tokens by name."""
    key = target.private_key
    for name, claims in _false_claims(target):
        yield f"claims: {name}", signed(claims, key, headers_of(target))
    for name, headers in _false_headers(target):
        yield f"header: {name}", signed(claims_of(target), key, headers)
    yield from _false_signatures(target)
    yield from _malformed(target)


def _false_claims(target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    now = int(time.time())
    changes: dict[str, dict[str, Any]] = {
        "expired a minute ago": {"exp": now - 60},
        "expired long ago": {"exp": 1},
        "no expiry": {"exp": ...},
        "expiry is text": {"exp": "tomorrow"},
        "expiry is null": {"exp": None},
        "expiry is huge": {"exp": HUGE},
        "expiry is negative": {"exp": -1},
        "expiry is a list": {"exp": [now + 60]},
        "not valid yet": {"nbf": now + 3600, "exp": now + 7200},
        "no start": {"nbf": ...},
        "start is text": {"nbf": "now"},
        "start is huge": {"nbf": HUGE},
        "foreign issuer": {"iss": "https://clerk.example.com"},
        "no issuer": {"iss": ...},
        "issuer is a list": {"iss": [target.clerk_url]},
        "issuer with a suffix": {"iss": target.clerk_url + ".example.com"},
        "foreign party": {"azp": "https://evil.example.com"},
        "party with our prefix": {"azp": target.url + ".evil.example.com"},
        "party with another port": {"azp": target.url + "0"},
        "party is null in text": {"azp": "null"},
        "party is empty": {"azp": ""},
        "party is a list": {"azp": [target.url]},
        "party in capitals and a path": {"azp": target.url + "/x"},
        "pending": {"sts": "pending"},
        "no subject": {"sub": ...},
        "subject is empty": {"sub": ""},
        "subject is a number": {"sub": 7},
        "subject is a machine": {"sub": "mch_2qV"},
        "subject is an API key": {"sub": "ak_0123"},
        "subject is an organization": {"sub": "org_2qV"},
        "subject is our own id": {"sub": "usr_1"},
        "no session": {"sid": ...},
        "session is empty": {"sid": ""},
        "session is null": {"sid": None},
        "session is a sign-in": {"sid": "sia_1"},
        "organization is text": {"o": "org_1"},
        "organization without an id": {"o": {"rol": "admin"}},
        "actor is text": {"act": "user_1"},
    }
    for name, change in changes.items():
        yield name, claims_of(target, **change)


def _false_headers(target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    good = headers_of(target)
    yield "machine category", good | {"cat": "cl_B7d4PD333AAA"}
    yield "unknown category", good | {"cat": "x"}
    yield "category is a number", good | {"cat": 1}
    yield "unknown key", good | {"kid": "ins_none"}
    yield "key of a path", good | {"kid": "../../etc/passwd"}
    yield "key of a query", good | {"kid": "' OR 1=1 --"}
    yield "another type", good | {"typ": "at+jwt"}
    yield "critical extension", good | {"crit": ["exp"], "exp": 1}


def _false_signatures(target: Target) -> Iterator[tuple[str, str]]:
    claims, headers = claims_of(target), headers_of(target)
    other = generate_private_key(public_exponent=65537, key_size=2048)
    public = target.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    good = signed(claims, target.private_key, headers)
    head, body, signature = good.split(".")
    yield "signature: another key", signed(claims, other, headers)
    yield "signature: another key and no kid", signed(claims, other, {"cat": CATEGORY})
    yield "signature: RS512", signed(claims, target.private_key, headers, algorithm="RS512")
    yield "signature: PS256", signed(claims, target.private_key, headers, algorithm="PS256")
    yield "signature: empty", f"{head}.{body}."
    yield "signature: of another body", f"{head}.{_part(claims | {'sub': target.users['instance admin']})}.{signature}"
    yield "signature: first character changed", f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    yield "signature: cut", f"{head}.{body}.{signature[:-8]}"
    yield "signature: twice", f"{head}.{body}.{signature}{signature}"
    yield "signature: not base64", f"{head}.{body}.%%%"
    for name in ("none", "None", "NONE", "nOnE", ""):
        yield f"algorithm: {name or 'empty'}", f"{_part(headers | {'alg': name, 'typ': 'JWT'})}.{body}."
    yield "algorithm: missing", f"{_part(headers)}.{body}.{signature}"
    yield "algorithm: a list", f"{_part(headers | {'alg': ['RS256']})}.{body}.{signature}"
    for name in ("HS256", "HS384", "HS512"):
        token = _hmac(f"{_part(headers | {'alg': name, 'typ': 'JWT'})}.{body}", public, name)
        yield f"algorithm: {name} with the public key", token
    embedded = headers | {"jwk": RSAAlgorithm.to_jwk(other.public_key(), as_dict=True)}
    yield "key in the header", signed(claims, other, embedded)
    yield "key by address", signed(claims, other, headers | {"jku": "http://127.0.0.1:9/jwks"})


def _malformed(target: Target) -> Iterator[tuple[str, str]]:
    good = signed(claims_of(target), target.private_key, headers_of(target))
    head, body, signature = good.split(".")
    yield "empty parts", ".."
    yield "four parts", f"{good}.{signature}"
    yield "one part", head
    yield "two parts", f"{head}.{body}"
    yield "no JSON", f"{_raw(b'x')}.{_raw(b'y')}.{signature}"
    yield "JSON list", f"{_raw(b'[]')}.{_raw(b'[]')}.{signature}"
    yield "deep JSON", f"{head}.{_raw(b'[' * 50_000)}.{signature}"
    yield "opaque API key", "ak_" + "0" * 32
    yield "opaque machine token", "mt_" + "0" * 32
    yield "opaque OAuth token", "oat_" + "0" * 32
    yield "very long", "a." * 20_000
    yield "a space inside", f"{head} .{body}.{signature}"


def signed(claims: Any, key: RSAPrivateKey, headers: dict[str, Any], *, algorithm: str = "RS256") -> str:
    """Sign any claims under any header; a library would refuse most of these."""
    content = f"{_part({'alg': algorithm, 'typ': 'JWT'} | headers)}.{_part(claims)}"
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if algorithm == "PS256" else padding.PKCS1v15()
    digest = hashes.SHA512() if algorithm == "RS512" else hashes.SHA256()
    return f"{content}.{_raw(key.sign(content.encode(), scheme, digest))}"


def _part(value: Any) -> str:
    return _raw(json.dumps(value).encode())


def _raw(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _hmac(content: str, key: bytes, name: str) -> str:
    digest = hmac.new(key, content.encode(), getattr(hashlib, "sha" + name[2:])).digest()
    return f"{content}.{_raw(digest)}"
