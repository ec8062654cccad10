"""Whom a list of addresses would invite: read from text or CSV, and decided for each. Pure."""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from instep.identity.addresses import canonical
from instep.identity.model import MEMBER
from instep.identity.roles import UNREAD, Roles
from instep.invitations.rules import LONGEST_EMAIL, InviteRefused, checked_email, checked_name, checked_role
from instep.kit.said import said

MOST_ROWS = 1_000
LONGEST_TEXT = 200_000
Verdict = Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]
SENT = ("new", "former")
NOTES: dict[str, str] = {
    "new": "Will be invited.",
    "former": "Was a member before; will be invited again.",
    "member": "Is a member already.",
    "deactivated": "Is a member who is deactivated; reactivate them instead.",
    "invited": "Has a pending invitation already.",
    "duplicate": "Is in the list more than once.",
    "over_seats": "No seat is left.",
}
_HEADERS = {"email": "email", "e-mail": "email", "email_address": "email", "role": "role", "name": "name"}


class Wish(Struct, frozen=True, kw_only=True):
    """Someone who is to be invited, as it was written."""

    email: str
    role: str = MEMBER
    name: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """What would become of one wish: `verdict`, and a sentence about it."""

    email: str
    role: str
    name: str | None
    verdict: Verdict
    note: str

    @property
    def is_sent(self) -> bool:
        """Whether this one would be invited."""
        return self.verdict in SENT


def read(text: str, *, role: str = MEMBER, roles: Roles = UNREAD) -> list[Wish]:
    """The people that a text names: CSV where its first line has a column `email`, else addresses in any order.

    `role` is for those whose role the text does not tell, `roles` are those that there are.
    Raises InviteRefused for what is too long or is nobody.
    """
    if len(text) > LONGEST_TEXT:
        raise InviteRefused("This list is too long to be read at once.", code="too_many", field="text")
    try:
        found = _read_csv(text, role, roles) if _columns(_first_line(text)) else _read_plain(text, role)
    except csv.Error as error:
        raise InviteRefused(
            said("This CSV can't be read: %(error)s.", error=error), code="invalid_csv", field="text"
        ) from error
    if not found:
        raise InviteRefused("There is no address in this list.", code="nobody", field="text")
    if len(found) > MOST_ROWS:
        words = said(
            "This list has %(count)s addresses; %(most)s can be read at once.",
            count=len(found),
            most=MOST_ROWS,
        )
        raise InviteRefused(words, code="too_many", field="text")
    return found


def decide(
    wishes: Sequence[Wish],
    *,
    standing: Mapping[str, str],
    invited: Collection[str],
    free: int | None,
    roles: Roles = UNREAD,
) -> list[Line]:
    """What would become of each.

    `standing` and `invited` are by canonical address; `free` are the seats that are left, None: no limit.
    """
    seen: set[str] = set()
    lines: list[Line] = []
    for wish in wishes:
        line = _line(wish, standing, invited, seen, roles)
        if line.is_sent and free is not None and sum(it.is_sent for it in lines) >= free:
            line = _with(line, "over_seats")
        seen.add(canonical(line.email))
        lines.append(line)
    return lines


def _line(
    wish: Wish, standing: Mapping[str, str], invited: Collection[str], seen: Collection[str], roles: Roles
) -> Line:
    line = Line(email=wish.email[:LONGEST_EMAIL], role=wish.role, name=wish.name, verdict="invalid", note="")
    try:
        line = replace(line, email=checked_email(wish.email), name=checked_name(wish.name))
        checked_role(roles, wish.role)
    except InviteRefused as refused:
        return replace(line, name=None, note=str(refused))
    address = canonical(line.email)
    if address in seen:
        return _with(line, "duplicate")
    known = standing.get(address)
    if known in ("member", "deactivated"):
        return replace(line, verdict="member", note=NOTES[known])
    if address in invited:
        return _with(line, "invited")
    return _with(line, "former" if known else "new")


def _with(line: Line, verdict: Verdict) -> Line:
    return replace(line, verdict=verdict, note=NOTES[verdict])


def _first_line(text: str) -> str:
    return next(iter(text.lstrip("\ufeff \t\r\n").splitlines()), "")


def _columns(line: str) -> list[str] | None:
    """What each column of a CSV's head is for; None where it is no head."""
    cells = next(csv.reader([line], delimiter=_delimiter(line)), [])
    columns = [_HEADERS.get(cell.strip().lower(), "") for cell in cells]
    return columns if "email" in columns else None


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _read_csv(text: str, role: str, roles: Roles) -> list[Wish]:
    text = text.lstrip("\ufeff \t\r\n")
    head = _first_line(text)
    columns = _columns(head) or []
    found = []
    for cells in list(csv.reader(io.StringIO(text), delimiter=_delimiter(head)))[1:]:
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column}
        if any(row.values()):
            wanted = roles.key_of(row["role"]) if row.get("role") else role
            found.append(Wish(email=row.get("email", ""), role=wanted, name=row.get("name") or None))
    return found


def _read_plain(text: str, role: str) -> list[Wish]:
    return [Wish(email=email, role=role, name=name) for email, name in _people(text)]


_TOKEN = re.compile(
    r'"(?P<quoted>(?:[^"\\\n]|\\.)*)"|<(?P<angle>[^<>\n]*)>|(?P<separator>[,;\t\n])|(?P<word>[^\s,;<"]+|[<"])'
)


def _people(text: str) -> list[tuple[str, str | None]]:
    """Read the addresses of a text, each with its name where one stands before `<address>`.

    A name may be quoted, and may hold a comma (`Roe, Richard <richard@x.com>`); entries end at a comma, a semicolon, a
    tab or a line. What is no address is given back as one, so that nothing that was typed gets lost.
    """
    found: list[tuple[str, str | None]] = []
    name: list[str] = []  # words since the last address that may be the name of the next one
    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "angle":
            addresses = value.split() or [token[0]]
            found += [(it, _joined(name)) for it in addresses]
            name = []
        elif kind == "quoted":
            name.append(re.sub(r"\\(.)", r"\1", value))
        elif kind == "word" and "@" in value:
            found += [*_alone(name), (value, None)]
            name = []
        elif kind == "word":
            name.append(value)
        elif value == "," and name:
            name.append(",")
        else:
            found += _alone(name)
            name = []
    return found + _alone(name)


def _joined(words: Sequence[str]) -> str | None:
    return " ".join(words).replace(" ,", ",").strip(", ") or None


def _alone(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """Give back words that are nobody's name, each as an address that is none."""
    return [(it, None) for it in words if it != ","]
