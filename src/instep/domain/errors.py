"""Errors of rejected changes and of calls to Clerk, with readable messages."""

from typing import NamedTuple

from instep.core.errors import InstepError, PermanentError, TemporaryError
from instep.core.i18n import LazyString, lazy_gettext


class ClerkUnavailableError(TemporaryError):
    """Clerk could not be reached, was too slow, limited our calls, or failed.

    `is_without_effect`: the call certainly had no effect (it was never sent, or Clerk rejected it unread).
    `has_response`: Clerk answered with an error, so the call is over and reading back shows whether it worked.
    Otherwise its effect is still unknown. `status` is the HTTP status of the response.
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
    """Clerk definitely rejected a call: nothing was changed there.

    `code` is Clerk's own (`organization_invitation_not_unique`, ...), `status` the HTTP status, `trace_id` Clerk's, for
    its support; `param` the rejected parameter, if Clerk names one.
    """

    def __init__(
        self, message: str, *, code: str, status: int, trace_id: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.trace_id = trace_id
        self.param = param


class InvalidSessionError(PermanentError):
    """A session token or a completed sign-in is not valid. `clerk.session_tokens` lists the values of `code`."""


FORBIDDEN, NOT_FOUND, CONFLICT, INVALID, UNAVAILABLE = 403, 404, 409, 422, 503
LAST_ADMIN_MESSAGE = lazy_gettext("This is the last admin. Make someone else an admin first.")
NOT_CONFIGURED_MESSAGE = lazy_gettext("Clerk authentication not configured. Nothing was changed.")
UNNAMED_USER = lazy_gettext("This person")


class ChangeRejectedError(PermanentError):
    """A rejected change; nothing was changed on either side.

    `text` is the translatable sentence (see `core.i18n`); `status` is the matching HTTP status; `field` is the input to
    correct; `clerk_code` and `trace_id` are Clerk's own, if Clerk rejected it.
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
        self.text = message
        self.status = status
        self.field = field
        self.clerk_code = refusal.code if refusal else None
        self.trace_id = refusal.trace_id if refusal else None


def get_http_status(error: InstepError, *, otherwise: int = INVALID) -> int:
    """Return the HTTP status of our response to an error; `otherwise` if it has none.

    Clerk's own status is never passed on: it is about our call to Clerk, not about the call to us.
    """
    if isinstance(error, TemporaryError):
        return UNAVAILABLE
    if isinstance(error, ClerkRejectedError):
        return translate_clerk_error(error).status
    return int(getattr(error, "status", otherwise))


class _Rejection(NamedTuple):
    """A rejection by Clerk in our terms. `message` may use `%(subject)s` (a name or an address) and `%(reason)s`."""

    code: str
    status: int
    message: LazyString
    field: str | None = None


_ALREADY_INVITED = _Rejection(
    "already_invited", CONFLICT, lazy_gettext("%(subject)s already has a pending invitation."), "email"
)
_NOT_CONFIGURED = _Rejection("not_configured", UNAVAILABLE, NOT_CONFIGURED_MESSAGE)
_REJECTIONS_BY_CODE = {
    "organization_invitation_not_unique": _ALREADY_INVITED,
    "duplicate_record": _ALREADY_INVITED,
    "already_a_member_in_organization": _Rejection(
        "already_member", CONFLICT, lazy_gettext("%(subject)s is already a member."), "email"
    ),
    "organization_membership_quota_exceeded": _Rejection("no_seats", CONFLICT, lazy_gettext("All seats are in use.")),
    "organization_minimum_permissions_needed": _Rejection("last_admin", CONFLICT, LAST_ADMIN_MESSAGE),
    "organization_invitation_not_pending": _Rejection(
        "not_pending", CONFLICT, lazy_gettext("This invitation is no longer pending.")
    ),
    "form_identifier_exists": _Rejection(
        "email_taken", CONFLICT, lazy_gettext("Someone else already uses %(subject)s. Nothing was changed."), "email"
    ),
    "not_configured": _NOT_CONFIGURED,
    "clerk_key_invalid": _NOT_CONFIGURED,
    "form_param_format_invalid": _Rejection("invalid", INVALID, lazy_gettext("Clerk rejected the input: %(reason)s")),
    "clerk_failed": _Rejection("clerk_failed", UNAVAILABLE, lazy_gettext("%(reason)s Nothing was changed.")),
}
_REJECTIONS_BY_STATUS = {
    401: _Rejection("not_configured", UNAVAILABLE, lazy_gettext("Clerk rejected the secret key. Nothing was changed.")),
    402: _Rejection("plan", CONFLICT, lazy_gettext("Your Clerk plan does not include this feature.")),
    404: _Rejection(
        "not_in_clerk", NOT_FOUND, lazy_gettext("%(subject)s was not found in Clerk. They may have been deleted.")
    ),
}
_MANAGED_BY_DIRECTORY = _Rejection(
    "managed_by_directory", CONFLICT, lazy_gettext("This is managed by your directory. Change it there.")
)
_OTHER_REJECTION = _Rejection("clerk_refused", INVALID, lazy_gettext("Clerk rejected the change: %(reason)s"))


def translate_clerk_error(refusal: ClerkRejectedError, *, whom: str = UNNAMED_USER) -> ChangeRejectedError:
    """Translate a rejection by Clerk into one that says what happened and what to do.

    `whom` is a name or an address.
    """
    rejection = _find_rejection(refusal)
    message = lazy_gettext(rejection.message.message, subject=whom, reason=refusal)
    return ChangeRejectedError(
        message, code=rejection.code, status=rejection.status, field=rejection.field, refusal=refusal
    )


def _find_rejection(refusal: ClerkRejectedError) -> _Rejection:
    if refusal.code in _REJECTIONS_BY_CODE:
        return _REJECTIONS_BY_CODE[refusal.code]
    if refusal.code.endswith("_managed_by_scim"):
        return _MANAGED_BY_DIRECTORY
    return _REJECTIONS_BY_STATUS.get(refusal.status, _OTHER_REJECTION)
