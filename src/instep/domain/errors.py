"""Errors of rejected changes and of calls to Clerk, with readable messages."""

from instep.core.errors import InstepError, PermanentError, TemporaryError
from instep.core.i18n import lazy_gettext


class ClerkUnavailableError(TemporaryError):
    """Clerk could not be reached, was too slow, limits us, or failed by itself.

    `is_harmless`: the call certainly had no effect (it was never sent, or Clerk turned it away unread).
    `is_answered`: Clerk answered with a failure, so that the call is over and reading back tells whether it worked.
    Otherwise nothing is known of the effect yet. `status` is the HTTP status of an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        is_without_effect: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.is_without_effect = is_without_effect
        self.has_response = status is not None and not is_without_effect
        self.status = status


class ClerkRejectedError(PermanentError):
    """Clerk said no, definitely: nothing was changed there.

    `code` is Clerk's own (`organization_invitation_not_unique`, ...), `status` the HTTP status,
    `trace_id` Clerk's, for its support; `param` the parameter it is about, where Clerk names one.
    """

    def __init__(
        self, message: str, *, code: str, status: int, trace_id: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.trace_id = trace_id
        self.param = param


FORBIDDEN, NOT_FOUND, CONFLICT, INVALID, UNAVAILABLE = 403, 404, 409, 422, 503
LAST_ADMIN_MESSAGE = lazy_gettext("This is the last admin. Make someone else admin first.")
NOT_CONFIGURED_MESSAGE = lazy_gettext("Clerk authentication not configured. Nothing was changed.")


class ChangeRejectedError(PermanentError):
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
        refusal: ClerkRejectedError | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.words = message
        self.status = status
        self.field = field
        self.clerk_code = refusal.code if refusal else None
        self.trace_id = refusal.trace_id if refusal else None


def get_http_status(error: InstepError, *, otherwise: int = INVALID) -> int:
    """Return the HTTP status of ours that fits a failure; `otherwise` where it names none.

    Clerk's own status is never passed on: it is about our call to Clerk, not about the call that somebody made to us.
    """
    if isinstance(error, TemporaryError):
        return UNAVAILABLE
    if isinstance(error, ClerkRejectedError):
        return translate_clerk_error(error).status
    return int(getattr(error, "status", otherwise))


def translate_clerk_error(refusal: ClerkRejectedError, *, whom: str = "This person") -> ChangeRejectedError:
    """Clerk's refusal, said so that the reader knows what happened and what to do. `whom` is a name or an address."""
    code, status, words, field = _describe_rejection(refusal, whom)
    return ChangeRejectedError(words, code=code, status=status, field=field, refusal=refusal)


def _describe_rejection(refusal: ClerkRejectedError, whom: str) -> tuple[str, int, str, str | None]:
    pending = (
        "already_invited",
        CONFLICT,
        lazy_gettext("%(whom)s already has a pending invitation.", whom=whom),
        "email",
    )
    taken = (
        "email_taken",
        CONFLICT,
        lazy_gettext("Someone else already uses %(email)s. Nothing was changed.", email=whom),
        "email",
    )
    known: dict[str, tuple[str, int, str, str | None]] = {
        "organization_invitation_not_unique": pending,
        "duplicate_record": pending,
        "already_a_member_in_organization": (
            "already_member",
            CONFLICT,
            lazy_gettext("%(whom)s is already a member.", whom=whom),
            "email",
        ),
        "organization_membership_quota_exceeded": ("no_seats", CONFLICT, lazy_gettext("All seats are in use."), None),
        "organization_minimum_permissions_needed": ("last_admin", CONFLICT, LAST_ADMIN_MESSAGE, None),
        "organization_invitation_not_pending": (
            "not_pending",
            CONFLICT,
            lazy_gettext("This invitation is no longer pending."),
            None,
        ),
        "form_identifier_exists": taken,
        "not_configured": ("not_configured", UNAVAILABLE, NOT_CONFIGURED_MESSAGE, None),
        "clerk_key_invalid": ("not_configured", UNAVAILABLE, NOT_CONFIGURED_MESSAGE, None),
        "form_param_format_invalid": (
            "invalid",
            INVALID,
            lazy_gettext("Clerk does not take this: %(why)s", why=refusal),
            None,
        ),
        "clerk_failed": ("clerk_failed", UNAVAILABLE, lazy_gettext("%(why)s Nothing was changed.", why=refusal), None),
    }
    if refusal.code in known:
        return known[refusal.code]
    if refusal.code.endswith("_managed_by_scim"):
        return ("managed_by_directory", CONFLICT, lazy_gettext("Managed by your directory; change it there."), None)
    if refusal.status == 401:
        return (
            "not_configured",
            UNAVAILABLE,
            lazy_gettext("Clerk does not accept the secret key. Nothing was changed."),
            None,
        )
    if refusal.status == 402:
        return ("plan", CONFLICT, lazy_gettext("Your Clerk plan does not have this."), None)
    if refusal.status == 404:
        return (
            "not_in_clerk",
            NOT_FOUND,
            lazy_gettext("%(whom)s was not found in Clerk. They may have been deleted.", whom=whom),
            None,
        )
    return ("clerk_refused", INVALID, lazy_gettext("Clerk refused: %(why)s", why=refusal), None)


class InvalidSessionError(PermanentError):
    """A token, or the end of a sign-in, that can't be believed. `code` says why; `clerk.session` lists them."""
