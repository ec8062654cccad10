"""Two families of failure.

    InstepError
    +-- TemporaryError   tried again by itself; `retry_after` seconds where the other side said so
    +-- PermanentError   shown to a person; `code` is stable and can be matched by a program

"Not found" is a value (None), never one of these.
"""


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


def described(error: BaseException) -> str:
    """Return the message with what only operators may read of it: for logs, the command line and `instep doctor`."""
    detail = getattr(error, "detail", "")
    return f"{error} ({detail})" if detail else str(error)
