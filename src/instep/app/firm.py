"""The demo's made-up firm: Northwind Law, its people and its invitations."""

from typing import Any

SLUG = "northwind-law"
ADMIN = "dana.whitfield@northwind.example"
MEMBER = "omar.haddad@northwind.example"
DEACTIVATED = ("pavel.novak", "ines.duarte", "theo.lindqvist")
SEATS = 30
SIZE = 24
_PEOPLE = """Dana Whitfield|Maya Cohen|Omar Haddad|Lucia Ferrari|Jonas Becker|Aisha Rahman|Tomas Silva|Grace Okafor
Henrik Dahl|Priya Nair|Samuel Ortiz|Yuki Tanaka|Claire Dubois|Noah Lindgren|Fatima Zahra|Elena Petrova
Marcus Reid|Sofia Conti|Daniel Kim|Hannah Weiss|Leo Marchetti|Pavel Novak|Ines Duarte|Theo Lindqvist"""
_ADMINS = ("dana.whitfield", "maya.cohen")


def seed() -> dict[str, Any]:
    """The firm in the emulator's form: 24 members (two admins), three pending invitations and an expired one."""
    names = [name for line in _PEOPLE.splitlines() for name in line.split("|")]
    return {
        "users": [_user(name, number) for number, name in enumerate(names)],
        "organizations": [
            {
                "name": "Northwind Law",
                "slug": SLUG,
                "created_by": ADMIN,
                "created_at": "-400d",
                "max_allowed_memberships": SEATS,
                "members": [_member(name, number) for number, name in enumerate(names)],
                "invitations": _invitations(),
            }
        ],
        "events": True,
    }


def deactivated() -> list[str]:
    """The addresses of those who are members and deactivated in the application."""
    return [f"{handle}@northwind.example" for handle in DEACTIVATED]


def _handle(name: str) -> str:
    return name.lower().replace(" ", ".")


def _user(name: str, number: int) -> dict[str, Any]:
    first, last = name.split(" ")
    return {
        "first_name": first,
        "last_name": last,
        "email_address": f"{_handle(name)}@northwind.example",
        "created_at": f"-{400 - number * 12}d",
        "last_active_at": f"-{number * number + 1}h",
        "last_sign_in_at": f"-{number * number + 2}h",
    }


def _member(name: str, number: int) -> dict[str, Any]:
    return {
        "user": f"{_handle(name)}@northwind.example",
        "role": "org:admin" if _handle(name) in _ADMINS else "org:member",
        "created_at": f"-{399 - number * 12}d",
    }


_WAITING = (
    ("rosa.alvarez", "-1d", "+6d", "org:member"),
    ("ben.carter", "-3d", "+4d", "org:member"),
    ("mei.lin", "-6d", "+30h", "org:admin"),
    ("viktor.hall", "-12d", "-5d", "org:member"),
)


def _invitations() -> list[dict[str, Any]]:
    return [
        {
            "email_address": f"{handle}@northwind.example",
            "created_at": created_at,
            "expires_at": expires_at,
            "role": role,
            "inviter": ADMIN,
        }
        for handle, created_at, expires_at, role in _WAITING
    ]
