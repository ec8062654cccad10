"""E-mail addresses as people type them. Pure."""

from email_validator import EmailNotValidError, validate_email

from instep.identity.refusals import Refused
from instep.kit.said import said


def checked_email(text: str) -> str:
    """An address as it will be used. Raises Refused, before anything is tried, for what is none."""
    try:
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        shown = text.strip() or "An empty address"
        raise Refused(
            said("%(shown)s is not an e-mail address.", shown=shown), code="invalid_email", field="email"
        ) from error


def is_same(one: str | None, other: str | None) -> bool:
    """Whether two addresses are one: Clerk does not tell large from small letters."""
    return (one or "").casefold() == (other or "").casefold()
