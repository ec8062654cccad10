"""Base classes of temporary and permanent errors."""


class InstepError(Exception):
    """Base of every failure that instep raises on purpose. `str(error)` is a sentence a person can read."""


class TemporaryError(InstepError):
    """Trying again later can succeed. `retry_after` is in seconds, None where nobody said."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(InstepError):
    """Trying again cannot succeed; someone has to change something. `code` names which."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


def describe_error(error: BaseException) -> str:
    """Return the message with what only operators may read of it: for logs, the command line and `instep doctor`."""
    detail = getattr(error, "detail", "")
    return f"{error} ({detail})" if detail else str(error)
