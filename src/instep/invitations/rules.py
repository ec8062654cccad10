"""What may be asked of whom, and Clerk's refusals in words that a person can use. Pure."""

from email_validator import EmailNotValidError, validate_email

from instep.identity.model import ADMIN, MEMBER
from instep.identity.ports import ProviderRefused
from instep.kit.errors import PermanentError

EXPIRES_IN_DAYS = 7
ROLES = ((MEMBER, "Member"), (ADMIN, "Admin"))


class InviteRefused(PermanentError):
    """An invitation that was not sent, and nothing changed. `field` is what to correct; `clerk_code` Clerk's word."""

    def __init__(
        self, message: str, *, code: str, field: str | None = None, refusal: ProviderRefused | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.field = field
        self.clerk_code = refusal.code if refusal else None
        self.trace_id = refusal.trace_id if refusal else None


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
    said = {
        "organization_invitation_not_unique": (
            "already_invited",
            f"{email} already has a pending invitation.",
            "email",
        ),
        "duplicate_record": ("already_invited", f"{email} already has a pending invitation.", "email"),
        "already_a_member_in_organization": ("already_member", f"{email} is already a member.", "email"),
        "organization_membership_quota_exceeded": ("no_seats", "All seats are in use.", None),
        "not_configured": ("not_configured", str(refusal), None),
        "clerk_key_invalid": ("not_configured", "Clerk authentication not configured. Nothing was changed.", None),
        "form_param_format_invalid": ("invalid_email", f"Clerk does not take {email} as an address.", "email"),
    }
    if refusal.code in said:
        code, message, field = said[refusal.code]
        return InviteRefused(message, code=code, field=field, refusal=refusal)
    if refusal.code == "resource_not_found" and "role" in str(refusal).lower():
        return InviteRefused(f"{role} is not a role here.", code="unknown_role", field="role", refusal=refusal)
    return InviteRefused(f"Clerk refused: {refusal}", code="clerk_refused", refusal=refusal)
