"""Base classes of temporary and permanent errors."""


class InstepError(Exception):
    """Base class of every error that instep raises on purpose. `str(error)` is a readable sentence."""


class TemporaryError(InstepError):
    """A failure that may succeed when retried. `retry_after` is in seconds; None if unknown."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(InstepError):
    """A failure that retrying cannot fix: someone has to change something. `code` identifies the reason."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


def describe_error(error: BaseException) -> str:
    """Return the message with details for operators only: for logs, the CLI and `instep doctor`."""
    detail = getattr(error, "detail", "")
    return f"{error} ({detail})" if detail else str(error)
