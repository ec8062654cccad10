"""Signed deliveries as Clerk sends them, each unique, rendered from byte templates so that making them costs little.

The mix: 60 % user.updated (of people who are there), 30 % user.created, 10 % organizationMembership.created.
"""

import base64
import hashlib
import hmac
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KEY = b"a-signing-key-for-benches"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
EVENTS, WEIGHTS = ("user.updated", "user.created", "organizationMembership.created"), (60, 30, 10)
FIRST_AT = 1_700_000_000_000

NUMBER, AT = 77777777, 1999999999999  # stand-ins in a rendered example, which become fields of the template


@dataclass(frozen=True)
class Message:
    """One delivery: its svix-id, the second of its signature, the signature, and the signed bytes."""

    id: str
    stamp: int
    signature: str
    body: bytes

    def headers(self) -> dict[str, str]:
        return {"svix-id": self.id, "svix-timestamp": str(self.stamp), "svix-signature": self.signature}

    def request(self, path: str) -> bytes:
        """The whole HTTP request."""
        head = {
            "Host": "127.0.0.1",
            "User-Agent": "Svix-Webhooks/1.90",
            "Accept": "*/*",
            "Content-Type": "application/json",
            **self.headers(),
            "Content-Length": str(len(self.body)),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


def messages(count: int, *, existing: int, organizations: int, seed: int) -> Iterator[Message]:
    """`count` deliveries about `existing` people and new ones; `seed` must differ between runs on one database."""
    dice = random.Random(seed)
    run, first_new = os.urandom(6).hex(), 10_000_000 * (seed + 1)
    now = time.time_ns() // 1_000_000
    for i in range(count):
        event = dice.choices(EVENTS, WEIGHTS)[0]
        person = dice.randrange(existing) if event != "user.created" else first_new + i
        if event == "organizationMembership.created":
            body = JOINED % _fields(person, now + i, organization=dice.randrange(organizations), number=first_new + i)
        else:
            body = (UPDATED if event == "user.updated" else CREATED) % _fields(person, now + i)
        yield _signed(f"msg_{run}{i:09d}", now // 1000, body)


def _signed(id: str, stamp: int, body: bytes) -> Message:
    digest = hmac.digest(KEY, f"{id}.{stamp}.".encode() + body, hashlib.sha256)
    return Message(id, stamp, "v1," + base64.b64encode(digest).decode(), body)


def _fields(person: int, at: int, *, organization: int = 0, number: int = 0) -> dict[bytes, bytes]:
    return {b"person": b"%09d" % person, b"at": b"%d" % at, b"org": b"%09d" % organization, b"number": b"%09d" % number}


def person_id(number: int) -> str:
    return f"user_{number:027d}"


def organization_id(number: int) -> str:
    return f"org_{number:027d}"


def _user() -> dict[str, Any]:
    """A user with the fields, and about the size, that `user.*` events have."""
    n = NUMBER
    identification, external = f"idn_000000000000000000{n}", f"idn_google000000000000{n}"
    passed = {"status": "verified", "strategy": "email_code", "attempts": 1, "expire_at": AT}
    email = {
        "id": identification,
        "object": "email_address",
        "email_address": f"person{n}@example.com",
        "reserved": False,
        "matches_sso_connection": False,
        "verification": {"object": "verification_otp", **passed},
        "linked_to": [{"type": "oauth_google", "id": external}],
        "created_at": AT,
        "updated_at": AT,
    }
    account = {
        "object": "google_account",
        "id": external,
        "external_account_id": f"eac_000000000000000000{n}",
        "provider": "oauth_google",
        "identification_id": external,
        "provider_user_id": f"1000000000000{n}",
        "approved_scopes": "email openid profile",
        "email_address": f"person{n}@example.com",
        "email_address_verified": True,
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "avatar_url": f"https://lh3.example.com/a/{n}=s1000-c",
        "image_url": f"https://img.example.com/ext/{n}",
        "public_metadata": {},
        "created_at": AT,
        "updated_at": AT,
        "verification": {"object": "verification_oauth", **passed},
    }
    empty = ("phone_numbers", "web3_wallets", "passkeys", "saml_accounts", "enterprise_accounts")
    off = ("password_enabled", "two_factor_enabled", "totp_enabled", "backup_code_enabled", "banned", "locked")
    return {
        "id": f"user_000000000000000000{n}",
        "object": "user",
        "username": f"person{n}",
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "locale": "en-US",
        "image_url": f"https://img.example.com/eyJ0eXBlIjoicHJveHkiLCJzcmMi{n}",
        "has_image": True,
        "primary_email_address_id": identification,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "email_addresses": [email],
        "external_accounts": [account],
        **{name: [] for name in empty},
        **dict.fromkeys(off, False),
        "public_metadata": {"department": "engineering", "plan": "team"},
        "private_metadata": {"crm_id": f"crm-{n}"},
        "unsafe_metadata": {"onboarded": True},
        "external_id": f"ext-{n}",
        "last_sign_in_at": AT,
        "last_active_at": AT,
        "created_at": FIRST_AT,
        "updated_at": AT,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "verification_attempts_remaining": 100,
        "legal_accepted_at": AT,
        "requires_password_reset": False,
    }


def _membership() -> dict[str, Any]:
    return {
        "object": "organization_membership",
        "id": "orgmem_000000000000000000NUMBER",
        "role": "org:member",
        "role_name": "Member",
        "permissions": ["org:posts:read", "org:posts:write", "org:sys_memberships:read"],
        "public_metadata": {"team": "north"},
        "private_metadata": {},
        "organization": {
            "object": "organization",
            "id": "org_000000000000000000ORG",
            "name": "Firm ORG",
            "slug": "firm-ORG",
            "image_url": "https://img.example.com/org/ORG",
            "has_image": True,
            "members_count": 2,
            "pending_invitations_count": 0,
            "max_allowed_memberships": 5000,
            "admin_delete_enabled": True,
            "public_metadata": {"tier": "gold"},
            "private_metadata": {},
            "created_at": FIRST_AT,
            "updated_at": FIRST_AT,
        },
        "public_user_data": {
            "user_id": f"user_000000000000000000{NUMBER}",
            "first_name": f"First{NUMBER}",
            "last_name": f"Last{NUMBER}",
            "image_url": f"https://img.example.com/p/{NUMBER}",
            "has_image": True,
            "identifier": f"person{NUMBER}@example.com",
            "username": f"person{NUMBER}",
        },
        "created_at": AT,
        "updated_at": AT,
    }


def _template(type: str, data: dict[str, Any]) -> bytes:
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0"
    event = {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "192.0.2.100", "user_agent": agent}},
        "instance_id": "ins_000000000000000000000000001",
        "object": "event",
        "timestamp": AT,
        "type": type,
    }
    raw = json.dumps(event, separators=(",", ":")).encode().replace(b"%", b"%%")
    fields = {str(NUMBER): "person", str(AT): "at", "ORG": "org", "NUMBER": "number"}
    for stand_in, name in fields.items():
        raw = raw.replace(stand_in.encode(), b"%%(%b)b" % name.encode())
    return raw


UPDATED = _template("user.updated", _user())
CREATED = _template("user.created", _user())
JOINED = _template("organizationMembership.created", _membership())
