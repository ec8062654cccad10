"""Validate, compare and display e-mail addresses."""

from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from instep.core.i18n import lazy_gettext
from instep.domain.errors import ChangeRejectedError


def validate_email_address(text: str) -> str:
    """Return an address in the form that Clerk expects: as typed, with its domain in ASCII.

    Raises ChangeRejectedError for an invalid address.
    """
    try:
        parsed = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        message = lazy_gettext("%(email)s is not a valid email address.", email=text.strip())
        if not text.strip():
            message = lazy_gettext("Enter an email address.")
        raise ChangeRejectedError(message, code="invalid_email", field="email") from error
    return f"{parsed.local_part}@{parsed.ascii_domain}"


def canonicalize_email(email: str | None) -> str:
    """Return the form in which addresses are compared; works for any text.

    Case is ignored, as Clerk does, and the domain is in ASCII (UTS 46). Addresses with a plus differ from those
    without.
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
    """Return an address for display, with an internationalized domain in Unicode."""
    local, at, domain = (email or "").rpartition("@")
    if "xn--" not in domain.lower():
        return email or ""
    try:
        return f"{local}{at}{idna.decode(domain.lower())}"
    except (idna.IDNAError, UnicodeError):
        return email or ""


def list_stored_forms(email: str | None) -> tuple[str, ...]:
    """Return the lower-case forms in which a database may store an address: domain in ASCII and in Unicode."""
    canonical = canonicalize_email(email)
    return tuple(dict.fromkeys((canonical, format_email(canonical)))) if canonical else ()


def is_same_email(first: str | None, second: str | None) -> bool:
    """Return whether two addresses are equal in canonical form."""
    return canonicalize_email(first) == canonicalize_email(second)


def find_alternate_form(email: str | None) -> str | None:
    """Return the other form of an internationalized address, so that both can be searched; else None."""
    if not email or (email.isascii() and "xn--" not in email.lower()):
        return None
    return format_email(email) if email.isascii() else canonicalize_email(email)


def make_invitation_target(organization_id: str | None, email: str) -> str:
    """Return the operation target for an invitation of an address. `organization_id` is Clerk's."""
    return f"invitation:{organization_id}:{canonicalize_email(email)}"
