"""E-mail addresses: the one form in which they are compared, the one Clerk gets, and the one people read. Pure."""

from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from instep.identity.refusals import Refused
from instep.kit.said import said


def checked_email(text: str) -> str:
    """Return an address as Clerk gets it: as it was typed, its domain in ASCII.

    Raises Refused, before anything is tried, for what is none.
    """
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        shown = text.strip() or "An empty address"
        raise Refused(
            said("%(shown)s is not an e-mail address.", shown=shown), code="invalid_email", field="email"
        ) from error
    return f"{found.local_part}@{found.ascii_domain}"


def canonical(email: str | None) -> str:
    """Return the form in which addresses are compared; for any text, also one that is no address.

    Letter case does not count, as at Clerk, and the domain is in ASCII (UTS 46). Addresses with a plus stay different
    from those without.
    """
    if not email:
        return ""
    return email.lower() if email.isascii() else _canonical(email)


@lru_cache(maxsize=4096)
def _canonical(email: str) -> str:
    local, at, domain = email.rpartition("@")
    return f"{local.lower()}{at}{_to_ascii(domain)}"


def _to_ascii(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return domain.lower()


def displayed(email: str | None) -> str:
    """Return an address as people read it: its domain in Unicode, where it is an internationalized one."""
    local, at, domain = (email or "").rpartition("@")
    if "xn--" not in domain.lower():
        return email or ""
    try:
        return f"{local}{at}{idna.decode(domain.lower())}"
    except (idna.IDNAError, UnicodeError):
        return email or ""


def stored_forms(email: str | None) -> tuple[str, ...]:
    """Return the lower-case forms in which a database may hold an address: its domain in ASCII, and in Unicode."""
    one = canonical(email)
    return tuple(dict.fromkeys((one, displayed(one)))) if one else ()


def is_same(one: str | None, other: str | None) -> bool:
    """Return whether two addresses are one."""
    return canonical(one) == canonical(other)


def other_form(email: str | None) -> str | None:
    """Return an internationalized address in the form that it is not in, to be found by both; else None."""
    if not email or (email.isascii() and "xn--" not in email.lower()):
        return None
    return displayed(email) if email.isascii() else canonical(email)


def invitation_target(organization: str | None, email: str) -> str:
    """Return what an operation on the invitation of an address is about. `organization` is Clerk's id of it."""
    return f"invitation:{organization}:{canonical(email)}"
