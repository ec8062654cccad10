"""In-memory fake of Clerk for tests of applications that embed instep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from instep.core.clock import DAY, Clock
from instep.core.errors import InstepError
from instep.domain.emails import canonicalize_email
from instep.domain.errors import ClerkRejectedError
from instep.domain.events import Absence, EntityState, LookupResult, Observation, Tombstone, make_observation
from instep.domain.models import (
    ADMIN_ROLE,
    MEMBER_ROLE,
    ClerkId,
    ClerkInvitation,
    ClerkInvitationList,
    ClerkMembership,
    ClerkOrganization,
    ClerkSession,
    ClerkUser,
    NewClerkInvitation,
)
from instep.domain.reconcile import NeedsRefetch

MAX_EXPIRY_DAYS = 365
MAX_BULK_INVITATIONS = 10


@dataclass
class FakeClerk:
    """Fake of Clerk. Implements ClerkReader, OrganizationsApi and SessionsApi.

    Prepare its state with `put_user`, `put_organization`, `join` and `put_session`; `accept` acts as the invitee.
    `failure`, while set, is raised by every call. `calls` lists the names of the calls so far.
    """

    clock: Clock
    roles: frozenset[str] = frozenset({ADMIN_ROLE, MEMBER_ROLE})
    failure: InstepError | None = None
    calls: list[str] = field(default_factory=list)
    _users: dict[ClerkId, Observation] = field(default_factory=dict)
    _organizations: dict[ClerkId, Observation] = field(default_factory=dict)
    _memberships: dict[ClerkId, Observation] = field(default_factory=dict)
    _invitations: dict[ClerkId, tuple[ClerkId, ClerkInvitation]] = field(default_factory=dict)
    _sessions: dict[str, ClerkSession] = field(default_factory=dict)
    _created_count: int = 0

    instance_id: str = "ins_1"

    # Preparing state

    def put_user(self, user: ClerkUser) -> Observation:
        """Create or update a user."""
        self._users[user.clerk_id] = make_observation(user, self.clock())
        return self._users[user.clerk_id]

    def put_organization(self, organization: ClerkOrganization) -> Observation:
        """Create or update an organization."""
        self._organizations[organization.clerk_id] = make_observation(organization, self.clock())
        return self._organizations[organization.clerk_id]

    def join(self, organization: ClerkId, user: ClerkId, role: str = MEMBER_ROLE) -> Observation:
        """Add a user as a member; each time with a new membership id."""
        now = self.clock()
        membership_id = self._new_id("orgmem")
        entity = ClerkMembership(clerk_id=membership_id, organization=organization, user=user, role=role, joined_at=now)
        self._memberships[membership_id] = make_observation(entity, now)
        return self._memberships[membership_id]

    def put_session(self, session: ClerkSession) -> None:
        """Create or update a session."""
        self._sessions[session.id] = session

    def delete_user(self, user_id: ClerkId) -> Tombstone:
        """Delete a user and all their memberships."""
        tombstone = Tombstone(self._users.pop(user_id).key)
        self._memberships = {
            key: item for key, item in self._memberships.items() if _to_membership(item).user != user_id
        }
        return tombstone

    def accept(self, invitation_id: ClerkId, user: ClerkId) -> Observation:
        """Accept an invitation as the invitee: create the membership and close the invitation."""
        organization, invitation = self._invitations[invitation_id]
        self._invitations[invitation_id] = (organization, replace(invitation, status="accepted", user=user))
        return self.join(organization, user, invitation.role)

    # ClerkReader

    async def find_instance(self) -> str | None:
        """Return the instance's id; not recorded in `calls`."""
        if self.failure is not None:
            raise self.failure
        return self.instance_id

    async def fetch(self, requests: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """Return the current state of entities. See ClerkReader."""
        self._call("look")
        entities = {"user": self._users, "organization": self._organizations, "membership": self._memberships}
        return [
            entities[request.key.kind].get(request.key.id) or Absence(request.key, request.entity)
            for request in requests
        ]

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return user ids by email address; each user of the fake has one address."""
        wanted = {canonicalize_email(email) for email in emails}
        self._call("find_user_ids_by_email")
        found = {canonicalize_email(_get_email(item)): item.key.id for item in self._users.values()}
        return {email: user_id for email, user_id in found.items() if email in wanted}

    async def list_user_memberships(self, user_id: ClerkId) -> list[EntityState]:
        """Return a user's organizations and memberships."""
        self._call("list_user_memberships")
        own = [item for item in self._memberships.values() if _to_membership(item).user == user_id]
        return [*(self._organizations[_to_membership(item).organization] for item in own), *own]

    async def list_invitations(
        self, organization_id: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """Return an organization's invitations, newest first."""
        self._call("list_invitations")
        self._require_organization(organization_id)
        found = [
            item
            for item in self._list_invitations(organization_id)
            if item.status in statuses and (email is None or item.email.lower() == email.lower())
        ]
        return ClerkInvitationList(sorted(found, key=lambda item: (item.created_at, item.clerk_id), reverse=True))

    # OrganizationsApi

    async def create_invitation(self, organization_id: ClerkId, invitation: NewClerkInvitation) -> ClerkInvitation:
        """Create an organization invitation."""
        self._call("invite")
        return self._create_invitation(organization_id, invitation)

    async def create_invitations(
        self, organization_id: ClerkId, invitations: Sequence[NewClerkInvitation]
    ) -> list[ClerkInvitation]:
        """Create up to 10 invitations, all or none."""
        self._call("invite_many")
        if not 0 < len(invitations) <= MAX_BULK_INVITATIONS:
            raise _make_error("form_param_value_invalid", 422, f"1 to {MAX_BULK_INVITATIONS} invitations at once.")
        before = dict(self._invitations)
        try:
            return [self._create_invitation(organization_id, invitation) for invitation in invitations]
        except ClerkRejectedError:
            self._invitations = before
            raise

    async def find_invitation(self, organization_id: ClerkId, invitation_id: ClerkId) -> ClerkInvitation | None:
        """Return the current state of an invitation."""
        self._call("find_invitation")
        return next((item for item in self._list_invitations(organization_id) if item.clerk_id == invitation_id), None)

    async def find_accept_url(self, organization_id: ClerkId, invitation_id: ClerkId) -> str | None:
        """Return the URL that accepts an invitation."""
        found = await self.find_invitation(organization_id, invitation_id)
        return f"https://clerk.invalid/accept?ticket={invitation_id}" if found is not None else None

    async def revoke_invitation(
        self, organization_id: ClerkId, invitation_id: ClerkId, *, revoked_by: ClerkId | None
    ) -> ClerkInvitation:
        """Revoke a pending invitation."""
        self._call("revoke")
        found = next((item for item in self._list_invitations(organization_id) if item.clerk_id == invitation_id), None)
        if found is None:
            raise _make_error("resource_not_found", 404, f"No invitation was found with id {invitation_id}.")
        if found.status != "pending":
            message = "The organization invitation is not in the 'pending' status."
            raise _make_error("organization_invitation_not_pending", 404, message)
        revoked = replace(found, status="revoked")
        self._invitations[invitation_id] = (organization_id, revoked)
        return revoked

    async def find_membership(self, organization_id: ClerkId, user_id: ClerkId) -> Observation | None:
        """Return a user's current membership."""
        self._call("find_membership")
        return self._find_membership(organization_id, user_id)

    async def set_role(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Change a member's role."""
        self._call("set_role")
        self._require_role(role)
        found = self._get_membership(organization_id, user_id)
        if role != ADMIN_ROLE:
            self._require_other_admin(organization_id, user_id)
        changed = make_observation(replace(_to_membership(found), role=role), self.clock())
        self._memberships[found.key.id] = changed
        return changed

    async def add_member(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Add a user as a member."""
        self._call("add_member")
        self._require_organization(organization_id)
        self._require_role(role)
        if user_id not in self._users:
            raise _make_error("resource_not_found", 404, f"No user was found with id {user_id}.")
        if self._find_membership(organization_id, user_id) is not None:
            raise _make_error(
                "already_a_member_in_organization", 400, f"{user_id} is already a member of the organization."
            )
        self._require_seats(organization_id)
        return self.join(organization_id, user_id, role)

    async def remove_member(self, organization_id: ClerkId, user_id: ClerkId) -> Tombstone:
        """Remove a member."""
        self._call("remove_member")
        found = self._get_membership(organization_id, user_id)
        self._require_other_admin(organization_id, user_id)
        del self._memberships[found.key.id]
        return Tombstone(found.key, found.entity)

    # SessionsApi

    async def find_session(self, session_id: str) -> ClerkSession | None:
        """Return the current state of a session."""
        self._call("find_session")
        return self._sessions.get(session_id)

    async def revoke_session(self, session_id: str) -> None:
        """Revoke a session; one that has ended is not an error."""
        self._call("revoke_session")
        if session_id in self._sessions:
            self._sessions[session_id] = replace(self._sessions[session_id], status="revoked")

    # Rules of Clerk

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure

    def _new_id(self, prefix: str) -> ClerkId:
        self._created_count += 1
        return ClerkId(f"{prefix}_fake{self._created_count:06}")

    def _create_invitation(self, organization: ClerkId, wanted: NewClerkInvitation) -> ClerkInvitation:
        self._require_organization(organization)
        self._require_role(wanted.role)
        email, now = wanted.email.lower(), self.clock()
        if email.count("@") != 1 or not all(email.split("@")):
            raise _make_error("form_param_format_invalid", 422, "email_address must be a valid email address.")
        if not 0 < wanted.expires_in_days <= MAX_EXPIRY_DAYS:
            raise _make_error("form_param_value_invalid", 422, f"expires_in_days must be 1 to {MAX_EXPIRY_DAYS}.")
        if any(
            item.email.lower() == email and item.status == "pending" for item in self._list_invitations(organization)
        ):
            message = "Organizations cannot have duplicate pending invitations for an email address."
            raise _make_error("organization_invitation_not_unique", 400, message)
        if any(
            self._find_membership(organization, user_id)
            for user_id, item in self._users.items()
            if _get_email(item) == email
        ):
            raise _make_error(
                "already_a_member_in_organization", 400, f"{email} is already a member of the organization."
            )
        self._require_seats(organization)
        created = ClerkInvitation(
            clerk_id=self._new_id("orginv"),
            email=wanted.email,
            role=wanted.role,
            status="pending",
            created_at=now,
            expires_at=now + wanted.expires_in_days * DAY,
            inviter=wanted.inviter,
            public_metadata=wanted.public_metadata,
            private_metadata=wanted.private_metadata,
        )
        self._invitations[created.clerk_id] = (organization, created)
        return created

    def _list_invitations(self, organization: ClerkId) -> list[ClerkInvitation]:
        now = self.clock()
        own = [item for owner, item in self._invitations.values() if owner == organization]
        return [replace(item, status="expired") if _is_expired(item, now) else item for item in own]

    def _find_membership(self, organization: ClerkId, user: ClerkId) -> Observation | None:
        own = [item for item in self._memberships.values() if _to_membership(item).user == user]
        return next((item for item in own if _to_membership(item).organization == organization), None)

    def _get_membership(self, organization: ClerkId, user: ClerkId) -> Observation:
        self._require_organization(organization)
        found = self._find_membership(organization, user)
        if found is None:
            raise _make_error("resource_not_found", 404, "No organization membership was found.")
        return found

    def _require_organization(self, organization: ClerkId) -> ClerkOrganization:
        found = self._organizations.get(organization)
        if found is None or not isinstance(found.entity, ClerkOrganization):
            raise _make_error("resource_not_found", 404, f"No organization was found with id {organization}.")
        return found.entity

    def _require_role(self, role: str) -> None:
        if role not in self.roles:
            raise _make_error("resource_not_found", 404, "Organization role not found")

    def _require_seats(self, organization: ClerkId) -> None:
        limit = self._require_organization(organization).max_members
        members = sum(_to_membership(item).organization == organization for item in self._memberships.values())
        pending = sum(item.status == "pending" for item in self._list_invitations(organization))
        if limit is not None and members + pending >= limit:
            message = (
                f"You have reached your limit of {limit} organization memberships, including outstanding invitations."
            )
            raise _make_error("organization_membership_quota_exceeded", 403, message)

    def _require_other_admin(self, organization: ClerkId, leaving_user: ClerkId) -> None:
        members = [
            _to_membership(item)
            for item in self._memberships.values()
            if _to_membership(item).organization == organization
        ]
        admins = {item.user for item in members if item.role == ADMIN_ROLE}
        if admins == {leaving_user}:
            message = "There has to be at least one organization member with the minimum required permissions"
            raise _make_error("organization_minimum_permissions_needed", 400, message)


def _to_membership(observation: Observation) -> ClerkMembership:
    assert isinstance(observation.entity, ClerkMembership)  # noqa: S101 (what `_memberships` holds)
    return observation.entity


def _get_email(observation: Observation) -> str:
    return (observation.entity.email or "").lower() if isinstance(observation.entity, ClerkUser) else ""


def _is_expired(invitation: ClerkInvitation, now: int) -> bool:
    return invitation.status == "pending" and invitation.expires_at is not None and invitation.expires_at <= now


def _make_error(code: str, status: int, message: str) -> ClerkRejectedError:
    return ClerkRejectedError(message, code=code, status=status, trace_id="trace_fake")
