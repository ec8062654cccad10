"""A stand-in for Clerk with any number of users, made up as they are asked for: for the benches of sync.

`POST /drift` changes one user and one membership in a hundred.
"""

import asyncio
import json
import sys
from urllib.parse import parse_qsl, urlsplit

T0 = 1_700_000_000_000
STEP = 1_000
ORGANIZATIONS = 1_000
DRIFT = 100
LATER = 3_600_000
_ID = 777777777777777777777777777
_AT = 1888888888888
_UP = 1999999999999


def _user() -> dict[str, object]:
    verified = {"object": "verification_otp", "status": "verified", "strategy": "email_code", "attempts": 1}
    email = {
        "id": f"idn_{_ID}",
        "object": "email_address",
        "email_address": f"member{_ID}@example.com",
        "reserved": False,
        "verification": verified,
        "linked_to": [],
        "created_at": _AT,
        "updated_at": _AT,
    }
    account = {
        "object": "google_account",
        "id": f"eac_{_ID}",
        "provider": "oauth_google",
        "approved_scopes": "email openid profile",
        "email_address": f"member{_ID}@example.com",
        "first_name": "First",
        "last_name": "Last",
        "avatar_url": f"https://img.example.com/{_ID}",
        "public_metadata": {},
        "verification": verified,
    }
    return {
        "id": f"user_{_ID}",
        "object": "user",
        "username": f"member{_ID}",
        "first_name": "FIRST",
        "last_name": f"Last{_ID}",
        "locale": "en-US",
        "image_url": f"https://img.example.com/{_ID}",
        "has_image": True,
        "primary_email_address_id": f"idn_{_ID}",
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "password_enabled": False,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "email_addresses": [email],
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [account],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "public_metadata": {"department": "engineering", "plan": "team"},
        "private_metadata": {"crm_id": f"crm-{_ID}"},
        "unsafe_metadata": {"onboarded": True},
        "external_id": f"ext-{_ID}",
        "last_sign_in_at": _AT,
        "banned": False,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": _AT,
        "updated_at": _UP,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "last_active_at": _AT,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "legal_accepted_at": _AT,
    }


def _organization(id: object) -> dict[str, object]:
    return {
        "object": "organization",
        "id": f"org_{id}",
        "name": f"Acme {id}",
        "slug": f"acme-{id}",
        "image_url": f"https://img.example.com/org/{id}",
        "has_image": True,
        "max_allowed_memberships": 0,
        "admin_delete_enabled": True,
        "public_metadata": {"tier": "gold"},
        "private_metadata": {},
        "created_at": T0,
        "updated_at": T0,
    }


def _membership() -> dict[str, object]:
    return {
        "object": "organization_membership",
        "id": f"orgmem_{_ID}",
        "role": "ROLE",
        "role_name": "Member",
        "permissions": ["org:posts:read", "org:posts:write", "org:sys_memberships:read"],
        "public_metadata": {"team": "north"},
        "private_metadata": {},
        "organization": _organization(_ID + 1),
        "public_user_data": {
            "user_id": f"user_{_ID + 2}",
            "first_name": "First",
            "last_name": "Last",
            "image_url": f"https://img.example.com/{_ID + 2}",
            "has_image": True,
            "identifier": f"member{_ID + 2}@example.com",
        },
        "created_at": _AT,
        "updated_at": _UP,
    }


def _template(thing: object) -> bytes:
    """Bytes with fields: n (own number), o (organization), u (user), at, up, first, role."""
    raw = json.dumps(thing, separators=(",", ":")).encode().replace(b"%", b"%%")
    marks = {_ID: b"%(n)b", _ID + 1: b"%(o)b", _ID + 2: b"%(u)b", _AT: b"%(at)b", _UP: b"%(up)b"}
    for number, mark in marks.items():
        raw = raw.replace(str(number).encode(), mark)
    return raw.replace(b"FIRST", b"%(first)b").replace(b"ROLE", b"%(role)b")


USER, MEMBERSHIP = _template(_user()), _template(_membership())


class Clerk(asyncio.Protocol):
    """Answers one connection."""

    users = 0
    has_drift = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head, self.waiting = self.waiting[:end], self.waiting[end + 4 :]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            status, body = self.answer(method, target)
            headers = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            self.transport.writelines([headers.encode(), body])

    def answer(self, method: str, target: str) -> tuple[str, bytes]:
        url = urlsplit(target)
        asked = dict(parse_qsl(url.query))
        if method == "POST":
            Clerk.has_drift = True
            return "200 OK", b"{}"
        if url.path == "/v1/users/count":
            low, high = self.bounds(asked)
            return "200 OK", b'{"object":"total_count","total_count":%d}' % max(high - low, 0)
        if url.path == "/v1/users":
            return "200 OK", b"[%b]" % b",".join(self.page_of_users(asked))
        limit, offset = int(asked.get("limit", 10)), int(asked.get("offset", 0))
        if url.path == "/v1/organization_memberships":
            total = self.users * 6 // 5
            rows = [self.membership(n) for n in range(offset, min(offset + limit, total))]
            return "200 OK", b'{"data":[%b],"total_count":%d}' % (b",".join(rows), total)
        if url.path == "/v1/organizations":
            found = [_organization(f"{n:027d}") for n in range(offset, min(offset + limit, ORGANIZATIONS))]
            return "200 OK", json.dumps({"data": found, "total_count": ORGANIZATIONS}).encode()
        return "404 Not Found", b'{"errors":[{"message":"not found","code":"resource_not_found"}]}'

    def bounds(self, asked: dict[str, str]) -> tuple[int, int]:
        """The numbers of the users within the asked time."""
        low, high = 0, self.users
        if "created_at_after" in asked:
            low = max(low, (int(asked["created_at_after"]) - T0) // STEP + 1)
        if "created_at_before" in asked:
            high = min(high, -(-(int(asked["created_at_before"]) - T0) // STEP))
        return low, high

    def page_of_users(self, asked: dict[str, str]) -> list[bytes]:
        limit, offset = int(asked.get("limit", 10)), int(asked.get("offset", 0))
        low, high = self.bounds(asked)
        if "created_at" in asked.get("order_by", "-created_at") and "-" not in asked.get("order_by", "-"):
            low = max(low, int(asked["starting_after"][5:]) + 1) if "starting_after" in asked else low
            return [self.user(n) for n in range(low + offset, min(high, low + offset + limit))]
        return [self.user(n) for n in range(high - 1 - offset, max(high - 1 - offset - limit, low - 1), -1)]

    def user(self, n: int) -> bytes:
        at = T0 + n * STEP
        is_changed = self.has_drift and n % DRIFT == 0
        fields = {
            b"n": b"%027d" % n,
            b"at": b"%d" % at,
            b"up": b"%d" % (at + LATER if is_changed else at),
            b"first": b"Changed" if is_changed else b"First",
        }
        return USER % fields

    def membership(self, n: int) -> bytes:
        at = T0 + n * STEP
        is_changed = self.has_drift and n % DRIFT == 0
        fields = {
            b"n": b"%027d" % n,
            b"o": b"%027d" % ((n + n // self.users) % ORGANIZATIONS),
            b"u": b"%027d" % (n % self.users),
            b"at": b"%d" % at,
            b"up": b"%d" % (at + LATER if is_changed else at),
            b"role": b"org:admin" if is_changed else b"org:member",
        }
        return MEMBERSHIP % fields


async def serve(port: int, users: int) -> None:
    Clerk.users = users
    server = await asyncio.get_running_loop().create_server(Clerk, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
