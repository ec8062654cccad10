"""Seed data of the demo organization, Northwind Law."""

from typing import Any

ORGANIZATION_SLUG = "northwind-law"
ADMIN_EMAIL = "dana.whitfield@northwind.example"
MEMBER_EMAIL = "omar.haddad@northwind.example"
DEACTIVATED_HANDLES = ("pavel.novak", "ines.duarte", "theo.lindqvist")
MAX_MEMBERSHIPS = 30
MEMBER_COUNT = 24
_MEMBER_NAMES = """\
Dana Whitfield|Maya Cohen|Omar Haddad|Lucia Ferrari|Jonas Becker|Aisha Rahman|Tomas Silva|Grace Okafor
Henrik Dahl|Priya Nair|Samuel Ortiz|Yuki Tanaka|Claire Dubois|Noah Lindgren|Fatima Zahra|Elena Petrova
Marcus Reid|Sofia Conti|Daniel Kim|Hannah Weiss|Leo Marchetti|Pavel Novak|Ines Duarte|Theo Lindqvist"""
_ADMIN_HANDLES = ("dana.whitfield", "maya.cohen")


def build_seed() -> dict[str, Any]:
    """Return the seed for the emulator: 24 members (two admins), three pending invitations and an expired one."""
    names = [name for line in _MEMBER_NAMES.splitlines() for name in line.split("|")]
    return {
        "users": [_build_user(name, number) for number, name in enumerate(names)],
        "organizations": [
            {
                "name": "Northwind Law",
                "slug": ORGANIZATION_SLUG,
                "created_by": ADMIN_EMAIL,
                "created_at": "-400d",
                "max_allowed_memberships": MAX_MEMBERSHIPS,
                "members": [_build_member(name, number) for number, name in enumerate(names)],
                "invitations": _build_invitations(),
            }
        ],
        "events": True,
    }


def list_deactivated_emails() -> list[str]:
    """Return the emails of members who are deactivated in the application."""
    return [f"{handle}@northwind.example" for handle in DEACTIVATED_HANDLES]


def _get_handle(name: str) -> str:
    return name.lower().replace(" ", ".")


def _build_user(name: str, number: int) -> dict[str, Any]:
    first, last = name.split(" ")
    return {
        "first_name": first,
        "last_name": last,
        "email_address": f"{_get_handle(name)}@northwind.example",
        "created_at": f"-{400 - number * 12}d",
        "last_active_at": f"-{number * number + 1}h",
        "last_sign_in_at": f"-{number * number + 2}h",
    }


def _build_member(name: str, number: int) -> dict[str, Any]:
    return {
        "user": f"{_get_handle(name)}@northwind.example",
        "role": "org:admin" if _get_handle(name) in _ADMIN_HANDLES else "org:member",
        "created_at": f"-{399 - number * 12}d",
    }


_INVITATION_ROWS = (
    ("rosa.alvarez", "-1d", "+6d", "org:member"),
    ("ben.carter", "-3d", "+4d", "org:member"),
    ("mei.lin", "-6d", "+30h", "org:admin"),
    ("viktor.hall", "-12d", "-5d", "org:member"),
)


def _build_invitations() -> list[dict[str, Any]]:
    return [
        {
            "email_address": f"{handle}@northwind.example",
            "created_at": created_at,
            "expires_at": expires_at,
            "role": role,
            "inviter": ADMIN_EMAIL,
        }
        for handle, created_at, expires_at, role in _INVITATION_ROWS
    ]
