"""What may be asked of whom, and Clerk's refusals in words that a person can use. Pure."""

from email_validator import EmailNotValidError, validate_email

from instep.identity import refusals
from instep.identity.model import ADMIN, MEMBER
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import Refused

EXPIRES_IN_DAYS = 7
ROLES = ((MEMBER, "Member"), (ADMIN, "Admin"))


class InviteRefused(Refused):
    """An invitation that was not sent, and nothing changed."""


def checked_email(text: str) -> str:
    """An address as it will be invited. Raises InviteRefused, before anything is tried, for one that can't be."""
    try:
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise InviteRefused(
            f"{text.strip() or 'An empty address'} is not an e-mail address.", code="invalid_email", field="email"
        ) from error


def in_words(refusal: ProviderRefused, *, email: str, role: str) -> InviteRefused:
    """Clerk's refusal of an invitation, said so that the reader knows what to do."""
    if refusal.code == "resource_not_found" and "role" in str(refusal).lower():
        return InviteRefused(f"{role} is not a role here.", code="unknown_role", field="role", refusal=refusal)
    if refusal.code == "form_param_format_invalid":
        words = f"Clerk does not take {email} as an address."
        return InviteRefused(words, code="invalid_email", field="email", refusal=refusal)
    said = refusals.in_words(refusal, whom=email)
    return InviteRefused(str(said), code=said.code, status=said.status, field=said.field, refusal=refusal)
