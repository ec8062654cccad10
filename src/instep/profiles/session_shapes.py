"""What the API takes and gives of sessions."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from instep.identity.session import OpenSession
from instep.kit.clock import to_iso


class Session(BaseModel):
    """An open session, read live from Clerk; `device`, `place` and `ip_address` as far as Clerk tells."""

    id: str
    created_at: str | None
    last_active_at: str | None
    device: str
    place: str
    ip_address: str


class OpenSessions(BaseModel):
    """Somebody's open sessions, the latest activity first."""

    data: list[Session]


class SessionToEnd(BaseModel):
    """Which session to end; left out: all of them."""

    model_config = ConfigDict(extra="forbid")

    session: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class EndedSessions(BaseModel):
    """How many sessions were ended."""

    ended: int


def session_of(it: OpenSession) -> Session:
    """A session as the API gives it."""
    return Session(
        id=it.id,
        created_at=to_iso(it.created_at),
        last_active_at=to_iso(it.last_active_at),
        device=it.device,
        place=it.place,
        ip_address=it.ip_address,
    )
