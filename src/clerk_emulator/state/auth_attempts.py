"""Sign-in, sign-up and reverification attempts."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from clerk_emulator.state.tables import Table, TableRow

LIFETIME = 24 * 60 * 60 * 1000
MAX_ATTEMPTS_KEPT = 10_000
R = TypeVar("R", bound=TableRow)


@dataclass(slots=True, kw_only=True)
class SignIn:
    """A sign-in attempt. It stores the verified factors; the next step follows from them."""

    id: str
    client_id: str
    identifier: str | None = None
    user_id: str | None = None
    first_verification_id: str | None = None
    second_verification_id: str | None = None
    first_proof: str | None = None  # the strategy that verified the first factor
    second_proof: str | None = None
    needs_second: bool = False
    needs_password: bool = False
    session_id: str | None = None
    abandon_at: int
    created_at: int
    updated_at: int

    def status(self, now: int) -> str:
        """Return the next step, `complete` or `abandoned`."""
        if self.session_id is not None:
            return "complete"
        if self.abandon_at <= now:
            return "abandoned"
        if self.user_id is None:
            return "needs_identifier"
        if self.first_proof is None:
            return "needs_first_factor"
        if self.needs_password:
            return "needs_new_password"
        return "needs_second_factor"


@dataclass(slots=True, kw_only=True)
class SignUp:
    """A sign-up attempt. The user is created when no field is missing."""

    id: str
    client_id: str
    email_address: str | None = None
    email_proof: str | None = None  # ticket | email_code, once verified
    verification_id: str | None = None
    ticket: str | None = None
    password: str | None = None  # result of passwords.hash_password() or import_digest()
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    unsafe_metadata: dict[str, Any] = field(default_factory=dict)
    legal_accepted_at: int | None = None
    user_id: str | None = None
    session_id: str | None = None
    abandon_at: int
    created_at: int
    updated_at: int

    def status(self, now: int) -> str:
        """Return `missing_requirements`, `complete` or `abandoned`."""
        if self.user_id is not None:
            return "complete"
        return "abandoned" if self.abandon_at <= now else "missing_requirements"

    def missing(self, required: list[str]) -> list[str]:
        """Return the missing fields, apart from the address."""
        return [name for name in ("email_address", *required) if getattr(self, name) is None]

    @property
    def unverified_fields(self) -> list[str]:
        """Return the unverified fields."""
        return ["email_address"] if self.email_address is not None and self.email_proof is None else []


@dataclass(slots=True, kw_only=True)
class Reverification:
    """An attempt to verify the user again within a session."""

    id: str
    session_id: str
    level: str  # first_factor | second_factor | multi_factor
    first_verification_id: str | None = None
    second_verification_id: str | None = None
    first_proof: str | None = None
    second_proof: str | None = None
    created_at: int
    updated_at: int

    @property
    def status(self) -> str:
        """Return the next step, or `complete`."""
        if self.level != "second_factor" and self.first_proof is None:
            return "needs_first_factor"
        return "needs_second_factor" if self.level != "first_factor" and self.second_proof is None else "complete"


def store_attempt(table: Table[R], attempt: R) -> None:
    """Store an attempt and delete the oldest if there are too many."""
    table.add(attempt)
    if len(table) > MAX_ATTEMPTS_KEPT:
        table.remove(next(iter(table)).id)
