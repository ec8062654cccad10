"""A Frontend API call as its handler sees it: client, user, fields and files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clerk_emulator.state import memberships, sessions, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_a_member_error, parameter_detail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Membership, Session, User
from clerk_emulator.wire.client_json import client as client_json
from clerk_emulator.wire.request_parameters import RequestParameters
from clerk_emulator.wire.site_config import SiteConfig


@dataclass(frozen=True, slots=True)
class UnwrappedResponse:
    """A response without the envelope."""

    body: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file uploaded in a form, or as the whole body."""

    content_type: str
    content: bytes


@dataclass(slots=True, kw_only=True)
class FrontendCall:
    """A call as its handler receives it."""

    instance: Instance
    site: SiteConfig
    params: Mapping[str, str]
    query: RequestParameters
    fields: RequestParameters
    files: Mapping[str, FormFile] = field(default_factory=dict)
    origin: str | None = None  # the Origin header; it becomes `azp` of the tokens that this request creates
    application: str | None = None  # the application of the requesting page: by Origin, else by Referer
    known: Client | None = None  # the client, once it exists
    clears_cookies: bool = False  # the response deletes the client's cookies

    def find_client(self) -> Client | None:
        """Return the client, if the browser has one."""
        return self.known

    def get_or_create_client(self) -> Client:
        """Return the client; create it if the browser has none."""
        if self.known is None:
            self.known = sessions.create_client(self.instance)
        return self.known

    def find_session(self) -> Session | None:
        """Return the session named by `_clerk_session_id`, else the active one of the client."""
        wanted = self.query.text("_clerk_session_id")
        if wanted is None or self.known is None:
            return sessions.active_session(self.instance, self.known)
        found = self.instance.sessions.find(wanted) if wanted in self.known.session_ids else None
        return found if found is not None and found.status(self.instance.now) == "active" else None

    @property
    def session(self) -> Session:
        """Return the session of the call, or raise an ApiError."""
        found = self.find_session()
        if found is None:
            raise ApiError(401, ErrorDetail("signed_out", "signed out", "No user is signed in in this browser."))
        return found

    @property
    def user(self) -> User:
        """Return the user of the call, or raise an ApiError."""
        return users.get(self.instance, self.session.user_id)

    def membership(self, organization_id: str) -> Membership:
        """Return the user's membership in an organization, or raise an ApiError."""
        found = memberships.find(self.instance, organization_id, self.user.id)
        if found is None:
            raise not_a_member_error()
        return found

    def to_client_json(self) -> Any:
        """Return the client as JSON, or None."""
        return client_json(self.instance, self.known, self.site, self.origin) if self.known else None

    def record_origin(self, session_id: str | None) -> None:
        """Record the application that uses the tokens of a session."""
        session = self.instance.sessions.find(session_id)
        if session is not None and self.application is not None:
            session.origin = self.application


def require_field(fields: RequestParameters, name: str) -> str:
    """Return a required field, or raise an ApiError."""
    found = fields.text(name)
    if found is None:
        raise ApiError(422, parameter_detail("form_param_missing", name, "is missing"))
    return found


FrontendHandler = Callable[[FrontendCall], Any]


@dataclass(frozen=True, slots=True)
class FrontendRoute:
    """An operation of the Frontend API and its handler."""

    method: str
    path: str
    operation: str
    handler: FrontendHandler
