"""Refusals in words that a person can use: ours, and Clerk's put into ours. Pure."""

from instep.identity.ports import ProviderRefused
from instep.kit.errors import InstepError, PermanentError, TemporaryError
from instep.kit.said import said

FORBIDDEN, NOT_FOUND, CONFLICT, INVALID, UNAVAILABLE = 403, 404, 409, 422, 503
LAST_ADMIN = said("This is the last admin. Make someone else admin first.")
NOT_CONFIGURED = said("Clerk authentication not configured. Nothing was changed.")


class Refused(PermanentError):
    """A change that was not made; nothing was changed on either side.

    `words` is the sentence, as it was said (see kit.said); `status` is the HTTP status that fits; `field` the input
    to correct; `clerk_code` and `trace_id` are Clerk's own, where the refusal is.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = INVALID,
        field: str | None = None,
        refusal: ProviderRefused | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.words = message
        self.status = status
        self.field = field
        self.clerk_code = refusal.code if refusal else None
        self.trace_id = refusal.trace_id if refusal else None


def status_of(error: InstepError, *, otherwise: int = INVALID) -> int:
    """Return the HTTP status of ours that fits a failure; `otherwise` where it names none.

    Clerk's own status is never passed on: it is about our call to Clerk, not about the call that somebody made to us.
    """
    if isinstance(error, TemporaryError):
        return UNAVAILABLE
    if isinstance(error, ProviderRefused):
        return in_words(error).status
    return int(getattr(error, "status", otherwise))


def in_words(refusal: ProviderRefused, *, whom: str = "This person") -> Refused:
    """Clerk's refusal, said so that the reader knows what happened and what to do. `whom` is a name or an address."""
    code, status, words, field = _said(refusal, whom)
    return Refused(words, code=code, status=status, field=field, refusal=refusal)


def _said(refusal: ProviderRefused, whom: str) -> tuple[str, int, str, str | None]:
    pending = ("already_invited", CONFLICT, said("%(whom)s already has a pending invitation.", whom=whom), "email")
    taken = (
        "email_taken",
        CONFLICT,
        said("Someone else already uses %(email)s. Nothing was changed.", email=whom),
        "email",
    )
    known: dict[str, tuple[str, int, str, str | None]] = {
        "organization_invitation_not_unique": pending,
        "duplicate_record": pending,
        "already_a_member_in_organization": (
            "already_member",
            CONFLICT,
            said("%(whom)s is already a member.", whom=whom),
            "email",
        ),
        "organization_membership_quota_exceeded": ("no_seats", CONFLICT, said("All seats are in use."), None),
        "organization_minimum_permissions_needed": ("last_admin", CONFLICT, LAST_ADMIN, None),
        "organization_invitation_not_pending": (
            "not_pending",
            CONFLICT,
            said("This invitation is no longer pending."),
            None,
        ),
        "form_identifier_exists": taken,
        "not_configured": ("not_configured", UNAVAILABLE, NOT_CONFIGURED, None),
        "clerk_key_invalid": ("not_configured", UNAVAILABLE, NOT_CONFIGURED, None),
        "form_param_format_invalid": ("invalid", INVALID, said("Clerk does not take this: %(why)s", why=refusal), None),
        "clerk_failed": ("clerk_failed", UNAVAILABLE, said("%(why)s Nothing was changed.", why=refusal), None),
    }
    if refusal.code in known:
        return known[refusal.code]
    if refusal.code.endswith("_managed_by_scim"):
        return ("managed_by_directory", CONFLICT, said("Managed by your directory; change it there."), None)
    if refusal.status == 401:
        return ("not_configured", UNAVAILABLE, said("Clerk does not accept the secret key. Nothing was changed."), None)
    if refusal.status == 402:
        return ("plan", CONFLICT, said("Your Clerk plan does not have this."), None)
    if refusal.status == 404:
        return (
            "not_in_clerk",
            NOT_FOUND,
            said("%(whom)s was not found in Clerk. They may have been deleted.", whom=whom),
            None,
        )
    return ("clerk_refused", INVALID, said("Clerk refused: %(why)s", why=refusal), None)
