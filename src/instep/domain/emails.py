"""Validate, compare and display e-mail addresses."""

from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from instep.core.i18n import lazy_gettext
from instep.domain.errors import ChangeRejectedError


def validate_email_address(text: str) -> str:
    """Return an address as Clerk gets it: as it was typed, its domain in ASCII.

    Raises Refused, before anything is tried, for what is none.
    """
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        shown = text.strip() or "An empty address"
        raise ChangeRejectedError(
            lazy_gettext("%(shown)s is not an e-mail address.", shown=shown), code="invalid_email", field="email"
        ) from error
    return f"{found.local_part}@{found.ascii_domain}"


def canonicalize_email(email: str | None) -> str:
    """Return the form in which addresses are compared; for any text, also one that is no address.

    Letter case does not count, as at Clerk, and the domain is in ASCII (UTS 46). Addresses with a plus stay different
    from those without.
    """
    if not email:
        return ""
    return email.lower() if email.isascii() else _canonicalize_unicode(email)


@lru_cache(maxsize=4096)
def _canonicalize_unicode(email: str) -> str:
    local, at, domain = email.rpartition("@")
    return f"{local.lower()}{at}{_encode_domain(domain)}"


def _encode_domain(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return domain.lower()


def format_email(email: str | None) -> str:
    """Return an address as people read it: its domain in Unicode, where it is an internationalized one."""
    local, at, domain = (email or "").rpartition("@")
    if "xn--" not in domain.lower():
        return email or ""
    try:
        return f"{local}{at}{idna.decode(domain.lower())}"
    except (idna.IDNAError, UnicodeError):
        return email or ""


def list_stored_forms(email: str | None) -> tuple[str, ...]:
    """Return the lower-case forms in which a database may hold an address: its domain in ASCII, and in Unicode."""
    one = canonicalize_email(email)
    return tuple(dict.fromkeys((one, format_email(one)))) if one else ()


def is_same_email(one: str | None, other: str | None) -> bool:
    """Return whether two addresses are one."""
    return canonicalize_email(one) == canonicalize_email(other)


def find_alternate_form(email: str | None) -> str | None:
    """Return an internationalized address in the form that it is not in, to be found by both; else None."""
    if not email or (email.isascii() and "xn--" not in email.lower()):
        return None
    return format_email(email) if email.isascii() else canonicalize_email(email)


def make_invitation_target(organization: str | None, email: str) -> str:
    """Return what an operation on the invitation of an address is about. `organization` is Clerk's id of it."""
    return f"invitation:{organization}:{canonicalize_email(email)}"
