"""A request of the Frontend API as its handler sees it: who asks, by which browser, and what was sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clerk_emulator.state import memberships, sessions, users
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Client, Membership, Session, User
from clerk_emulator.state.refusals import Problem, Refused, bad_parameter, not_a_member
from clerk_emulator.wire.clients import client as client_shape
from clerk_emulator.wire.queries import Query
from clerk_emulator.wire.site import Site


@dataclass(frozen=True, slots=True)
class Bare:
    """An answer without the envelope."""

    body: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class File:
    """A file that came in a form, or as the whole body."""

    content_type: str
    content: bytes


@dataclass(slots=True, kw_only=True)
class Visit:
    """Everything a handler needs."""

    instance: Instance
    site: Site
    params: Mapping[str, str]
    query: Query
    fields: Query
    files: Mapping[str, File] = field(default_factory=dict)
    origin: str | None = None  # the Origin header: what `azp` says in the tokens that this request mints
    application: str | None = None  # which application's page asks: by Origin, else by Referer
    known: Client | None = None  # the browser, as soon as there is one
    is_over: bool = False  # the browser is to forget its cookies

    def find_client(self) -> Client | None:
        """Return the browser, if it was here before."""
        return self.known

    def need_client(self) -> Client:
        """Return the browser; a new one is made known."""
        if self.known is None:
            self.known = sessions.new_client(self.instance)
        return self.known

    def find_session(self) -> Session | None:
        """Return the session that is asked for by `_clerk_session_id`, else the active one of the browser."""
        wanted = self.query.text("_clerk_session_id")
        if wanted is None or self.known is None:
            return sessions.active_session(self.instance, self.known)
        found = self.instance.sessions.find(wanted) if wanted in self.known.session_ids else None
        return found if found is not None and found.status(self.instance.now) == "active" else None

    @property
    def session(self) -> Session:
        """Return the session in whose name this is asked, or refuse."""
        found = self.find_session()
        if found is None:
            raise Refused(401, Problem("signed_out", "signed out", "Nobody is signed in in this browser."))
        return found

    @property
    def user(self) -> User:
        """Return the user in whose name this is asked, or refuse."""
        return users.get(self.instance, self.session.user_id)

    def membership(self, organization_id: str) -> Membership:
        """Return the user's membership in an organization, or refuse."""
        found = memberships.find(self.instance, organization_id, self.user.id)
        if found is None:
            raise not_a_member()
        return found

    def shape(self) -> Any:
        """Return the browser as JSON, or None."""
        return client_shape(self.instance, self.known, self.site, self.origin) if self.known else None

    def note_origin(self, session_id: str | None) -> None:
        """Remember for which application the tokens of a session are."""
        session = self.instance.sessions.find(session_id)
        if session is not None and self.application is not None:
            session.origin = self.application


def require(fields: Query, name: str) -> str:
    """Return a field that has to be there, or refuse."""
    found = fields.text(name)
    if found is None:
        raise Refused(422, bad_parameter("form_param_missing", name, "is missing"))
    return found


Handler = Callable[[Visit], Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the Frontend API and what answers it."""

    method: str
    path: str
    operation: str
    handler: Handler
