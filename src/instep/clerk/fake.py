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
    """Implements Directory, Actor and SessionsApi (see identity.ports and access.ports).

    Set the scene with `put_user`, `put_organization`, `join` and `put_session`; `accept` does what an invitee does.
    `failure`, while set, is raised by every call instead of an answer. `calls` names the calls so far.
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
    _made: int = 0

    instance_id: str = "ins_1"

    # Setting the scene

    def put_user(self, user: ClerkUser) -> Observation:
        """Have this user, or have them changed."""
        self._users[user.clerk_id] = make_observation(user, self.clock())
        return self._users[user.clerk_id]

    def put_organization(self, organization: ClerkOrganization) -> Observation:
        """Have this organization, or have it changed."""
        self._organizations[organization.clerk_id] = make_observation(organization, self.clock())
        return self._organizations[organization.clerk_id]

    def join(self, organization: ClerkId, user: ClerkId, role: str = MEMBER_ROLE) -> Observation:
        """Make a user a member; each joining is a membership of its own."""
        now = self.clock()
        id = self._new_id("orgmem")
        entity = ClerkMembership(clerk_id=id, organization=organization, user=user, role=role, joined_at=now)
        self._memberships[id] = make_observation(entity, now)
        return self._memberships[id]

    def put_session(self, session: ClerkSession) -> None:
        """Have this session."""
        self._sessions[session.id] = session

    def delete_user(self, id: ClerkId) -> Tombstone:
        """Delete a user, with every membership."""
        gone = Tombstone(self._users.pop(id).key)
        self._memberships = {key: it for key, it in self._memberships.items() if _get_membership(it).user != id}
        return gone

    def accept(self, id: ClerkId, user: ClerkId) -> Observation:
        """What happens when the invitee accepts: they are a member, and the invitation is over."""
        organization, invitation = self._invitations[id]
        self._invitations[id] = (organization, replace(invitation, status="accepted", user=user))
        return self.join(organization, user, invitation.role)

    # Directory

    async def find_instance(self) -> str | None:
        """See Directory.find_instance; not among `calls`."""
        if self.failure is not None:
            raise self.failure
        return self.instance_id

    async def fetch(self, requests: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """See Directory.look."""
        self._call("look")
        of = {"user": self._users, "organization": self._organizations, "membership": self._memberships}
        return [of[ask.key.kind].get(ask.key.id) or Absence(ask.key, ask.entity) for ask in requests]

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """See Directory.find_holders; every user here has one address."""
        wanted = {canonicalize_email(email) for email in emails}
        self._call("find_holders")
        found = {canonicalize_email(_get_email(it)): it.key.id for it in self._users.values()}
        return {email: id for email, id in found.items() if email in wanted}

    async def list_user_memberships(self, user_id: ClerkId) -> list[EntityState]:
        """See Directory.list_memberships_of."""
        self._call("list_memberships_of")
        theirs = [it for it in self._memberships.values() if _get_membership(it).user == user_id]
        return [*(self._organizations[_get_membership(it).organization] for it in theirs), *theirs]

    async def list_invitations(
        self, organization_id: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """See Directory.list_invitations."""
        self._call("list_invitations")
        self._require(organization_id)
        found = [
            it
            for it in self._invitations_of(organization_id)
            if it.status in statuses and (email is None or it.email.lower() == email.lower())
        ]
        return ClerkInvitationList(sorted(found, key=lambda it: (it.created_at, it.clerk_id), reverse=True))

    # Actor

    async def create_invitation(self, organization_id: ClerkId, invitation: NewClerkInvitation) -> ClerkInvitation:
        """See Actor.invite."""
        self._call("invite")
        return self._invite(organization_id, invitation)

    async def create_invitations(
        self, organization_id: ClerkId, invitations: Sequence[NewClerkInvitation]
    ) -> list[ClerkInvitation]:
        """See Actor.invite_many. All or nothing."""
        self._call("invite_many")
        if not 0 < len(invitations) <= MAX_BULK_INVITATIONS:
            raise _make_refusal("form_param_value_invalid", 422, f"1 to {MAX_BULK_INVITATIONS} invitations at once.")
        before = dict(self._invitations)
        try:
            return [self._invite(organization_id, it) for it in invitations]
        except ClerkRejectedError:
            self._invitations = before
            raise

    async def find_invitation(self, organization_id: ClerkId, invitation_id: ClerkId) -> ClerkInvitation | None:
        """See Actor.find_invitation."""
        self._call("find_invitation")
        return next((it for it in self._invitations_of(organization_id) if it.clerk_id == invitation_id), None)

    async def find_accept_url(self, organization_id: ClerkId, invitation_id: ClerkId) -> str | None:
        """See Actor.find_link."""
        found = await self.find_invitation(organization_id, invitation_id)
        return f"https://clerk.invalid/accept?ticket={invitation_id}" if found is not None else None

    async def revoke_invitation(
        self, organization_id: ClerkId, invitation_id: ClerkId, *, revoked_by: ClerkId | None
    ) -> ClerkInvitation:
        """See Actor.revoke."""
        self._call("revoke")
        found = next((it for it in self._invitations_of(organization_id) if it.clerk_id == invitation_id), None)
        if found is None:
            raise _make_refusal("resource_not_found", 404, f"No invitation was found with id {invitation_id}.")
        if found.status != "pending":
            words = "The organization invitation is not in the 'pending' status."
            raise _make_refusal("organization_invitation_not_pending", 404, words)
        revoked = replace(found, status="revoked")
        self._invitations[invitation_id] = (organization_id, revoked)
        return revoked

    async def find_membership(self, organization: ClerkId, user: ClerkId) -> Observation | None:
        """See Actor.find_membership."""
        self._call("find_membership")
        return self._find(organization, user)

    async def set_role(self, organization: ClerkId, user: ClerkId, role: str) -> Observation:
        """See Actor.set_role."""
        self._call("set_role")
        self._require_role(role)
        found = self._get(organization, user)
        if role != ADMIN_ROLE:
            self._require_other_admin(organization, user)
        changed = make_observation(replace(_get_membership(found), role=role), self.clock())
        self._memberships[found.key.id] = changed
        return changed

    async def add_member(self, organization: ClerkId, user: ClerkId, role: str) -> Observation:
        """See Actor.add_member."""
        self._call("add_member")
        self._require(organization)
        self._require_role(role)
        if user not in self._users:
            raise _make_refusal("resource_not_found", 404, f"No user was found with id {user}.")
        if self._find(organization, user) is not None:
            raise _make_refusal(
                "already_a_member_in_organization", 400, f"{user} is already a member of the organization."
            )
        self._require_seats(organization)
        return self.join(organization, user, role)

    async def remove_member(self, organization: ClerkId, user: ClerkId) -> Tombstone:
        """See Actor.remove_member."""
        self._call("remove_member")
        found = self._get(organization, user)
        self._require_other_admin(organization, user)
        del self._memberships[found.key.id]
        return Tombstone(found.key, found.entity)

    # Sessions

    async def find_session(self, id: str) -> ClerkSession | None:
        """See SessionsApi.find_session."""
        self._call("find_session")
        return self._sessions.get(id)

    async def revoke_session(self, id: str) -> None:
        """See SessionsApi.revoke_session."""
        self._call("revoke_session")
        if id in self._sessions:
            self._sessions[id] = replace(self._sessions[id], status="revoked")

    # Clerk's laws

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure

    def _new_id(self, prefix: str) -> ClerkId:
        self._made += 1
        return ClerkId(f"{prefix}_fake{self._made:06}")

    def _invite(self, organization: ClerkId, wanted: NewClerkInvitation) -> ClerkInvitation:
        self._require(organization)
        self._require_role(wanted.role)
        email, now = wanted.email.lower(), self.clock()
        if email.count("@") != 1 or not all(email.split("@")):
            raise _make_refusal("form_param_format_invalid", 422, "email_address must be a valid email address.")
        if not 0 < wanted.expires_in_days <= MAX_EXPIRY_DAYS:
            raise _make_refusal("form_param_value_invalid", 422, f"expires_in_days must be 1 to {MAX_EXPIRY_DAYS}.")
        if any(it.email.lower() == email and it.status == "pending" for it in self._invitations_of(organization)):
            words = "Organizations cannot have duplicate pending invitations for an email address."
            raise _make_refusal("organization_invitation_not_unique", 400, words)
        if any(self._find(organization, id) for id, it in self._users.items() if _get_email(it) == email):
            raise _make_refusal(
                "already_a_member_in_organization", 400, f"{email} is already a member of the organization."
            )
        self._require_seats(organization)
        made = ClerkInvitation(
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
        self._invitations[made.clerk_id] = (organization, made)
        return made

    def _invitations_of(self, organization: ClerkId) -> list[ClerkInvitation]:
        now = self.clock()
        theirs = [it for of, it in self._invitations.values() if of == organization]
        return [replace(it, status="expired") if _is_expired(it, now) else it for it in theirs]

    def _find(self, organization: ClerkId, user: ClerkId) -> Observation | None:
        theirs = [it for it in self._memberships.values() if _get_membership(it).user == user]
        return next((it for it in theirs if _get_membership(it).organization == organization), None)

    def _get(self, organization: ClerkId, user: ClerkId) -> Observation:
        self._require(organization)
        found = self._find(organization, user)
        if found is None:
            raise _make_refusal("resource_not_found", 404, "No organization membership was found.")
        return found

    def _require(self, organization: ClerkId) -> ClerkOrganization:
        found = self._organizations.get(organization)
        if found is None or not isinstance(found.entity, ClerkOrganization):
            raise _make_refusal("resource_not_found", 404, f"No organization was found with id {organization}.")
        return found.entity

    def _require_role(self, role: str) -> None:
        if role not in self.roles:
            raise _make_refusal("resource_not_found", 404, "Organization role not found")

    def _require_seats(self, organization: ClerkId) -> None:
        limit = self._require(organization).max_members
        members = sum(_get_membership(it).organization == organization for it in self._memberships.values())
        pending = sum(it.status == "pending" for it in self._invitations_of(organization))
        if limit is not None and members + pending >= limit:
            words = (
                f"You have reached your limit of {limit} organization memberships, including outstanding invitations."
            )
            raise _make_refusal("organization_membership_quota_exceeded", 403, words)

    def _require_other_admin(self, organization: ClerkId, leaving: ClerkId) -> None:
        members = [
            _get_membership(it) for it in self._memberships.values() if _get_membership(it).organization == organization
        ]
        admins = {it.user for it in members if it.role == ADMIN_ROLE}
        if admins == {leaving}:
            words = "There has to be at least one organization member with the minimum required permissions"
            raise _make_refusal("organization_minimum_permissions_needed", 400, words)


def _get_membership(it: Observation) -> ClerkMembership:
    assert isinstance(it.entity, ClerkMembership)  # noqa: S101 (what `_memberships` holds)
    return it.entity


def _get_email(it: Observation) -> str:
    return (it.entity.email or "").lower() if isinstance(it.entity, ClerkUser) else ""


def _is_expired(it: ClerkInvitation, now: int) -> bool:
    return it.status == "pending" and it.expires_at is not None and it.expires_at <= now


def _make_refusal(code: str, status: int, message: str) -> ClerkRejectedError:
    return ClerkRejectedError(message, code=code, status=status, trace_id="trace_fake")
