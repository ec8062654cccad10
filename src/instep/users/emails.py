"""Change a user's e-mail address: replacement, verification by code, or a new invitation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from instep.auth.principal import Principal
from instep.auth.repository import find_roles
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.domain.emails import is_same_email, validate_email_address
from instep.domain.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ChangeRejectedError, ClerkRejectedError
from instep.domain.events import decode_entity_state, encode_entity_state
from instep.domain.last_admin import ADMIN_LOSS_KEY, collect_pending_changes
from instep.domain.models import (
    ClerkApplicationInvitation,
    ClerkEmailAddress,
    ClerkId,
    ClerkInvitation,
    NewClerkApplicationInvitation,
    NewClerkInvitation,
)
from instep.domain.ports import ApplicationInvitationsApi, ClerkReader, OrganizationsApi, UsersApi
from instep.mirror import membership_status, user_repository
from instep.mirror.apply import apply_observations
from instep.mirror.user_repository import (
    UserRow,
    find_sole_admin_organizations,
    find_user,
    find_user_id_by_login,
    lock_organizations_of_admin,
)
from instep.operations.repository import find_by_idempotency_key, find_operation, list_open_intents
from instep.operations.workflow import (
    ConflictError,
    JsonObject,
    Operation,
    OperationPendingError,
    OperationRequest,
    Workflow,
    Workflows,
    WorkflowStep,
)
from instep.users import repository
from instep.users.context import (
    UserCommandContext,
    get_clerk_id,
    make_operation_request,
    require_same_clerk_account,
    scope_idempotency_key,
)
from instep.users.models import (
    EmailChange,
    EmailChangePolicy,
    Reinvitation,
    TargetUser,
    UserMembership,
    UserPermissions,
)
from instep.users.policies import (
    make_email_taken_error,
    require_another_admin,
    require_instance_admin,
    require_not_deleted,
)
from instep.users.workflows import EphemeralSecrets, extract_user, read_user

INVITATION_LIFETIME_DAYS = 7


@dataclass(frozen=True)
class EmailChangeService:
    """Changes addresses by `policy`. `redirect_url` is where an accepted invitation leads."""

    desk: UserCommandContext
    held: EphemeralSecrets
    policy: EmailChangePolicy
    redirect_url: str | None

    async def __call__(
        self, principal: Principal, ref: str, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Change one person's address, or take the first step.

        1 the address is checked; 2 someone without a Clerk account: the database only; 3 else the policy: invite anew
        in each organization, send a code, or replace. Raises Refused (nothing was changed), Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        email = validate_email_address(email)
        if is_same_email(email, subject.person.email):
            return EmailChange(outcome="same", email=subject.person.email or email)
        self.desk.require_api_key_allowed(principal, {"email": email}, subject.person)
        if self._needs_reinvitation(subject.person):
            return await self._reinvite(principal, subject, email, idempotency_key)
        return await self.begin(principal, subject, email, idempotency_key=idempotency_key)

    async def begin(
        self, principal: Principal, subject: TargetUser, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """What a plain edit of the address comes to: under `reinvite` nothing but the offer to invite anew."""
        if self._needs_reinvitation(subject.person):
            return await self._offer(principal, subject, email)
        if self._needs_verification_code(subject):
            return await self._send_code(principal, subject, email, idempotency_key)
        require_instance_admin(subject.rights, "change addresses")
        person = subject.person
        intent = {"email": email, "old": person.email}
        asked = make_operation_request(REPLACE_EMAIL, principal, person, idempotency_key, intent)
        await self.desk.run_operation(asked, partial(self._open, seen=person, email=email, is_final=True), whom=email)
        return EmailChange(outcome="changed", email=email)

    def _needs_reinvitation(self, person: UserRow) -> bool:
        """Return whether a new address means a new account; somebody without any address keeps theirs, and gets one."""
        return self.policy == "reinvite" and get_clerk_id(person) is not None and person.email is not None

    def _needs_verification_code(self, subject: TargetUser) -> bool:
        """Return whether a code is sent first: by the policy, or where somebody adds a first address themselves."""
        if get_clerk_id(subject.person) is None:
            return False
        return self.policy == "verify" or (self.policy == "reinvite" and not subject.rights.is_admin)

    async def verify(
        self, principal: Principal, ref: str, verification: str, code: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Prove an address by the code that was sent to it: it becomes the primary one, and the old one goes.

        1 the right; 2 `verification` is the operation that sent the code; 3 the code is held in this process while it
        is tried. Raises Refused, Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        _require_can_change_email(subject.rights)
        person = subject.person
        sent = await self.desk.db.read(find_operation, verification) if verification.isprintable() else None
        if sent is None or not _is_verification_of(sent, person):
            raise ChangeRejectedError("There is no such verification.", code="unknown_verification", status=NOT_FOUND)
        email = sent.intent["email"]
        with self.held.hold(code.strip()) as name:
            intent = {"email": email, "old": person.email, "address": sent.done["address"]["id"]}
            intent |= {"verification": sent.done["code"]["verification"], "secret": name}
            asked = make_operation_request(VERIFY_EMAIL, principal, person, idempotency_key, intent)
            opening = partial(self._open, seen=person, email=email)
            operation = await self.desk.run_operation(asked, opening, whom=email)
        kept = operation.done["old"]["kept"]
        note = lazy_gettext("The old address stays beside it in Clerk: %(kept)s", kept=kept) if kept else None
        return EmailChange(outcome="changed", email=email, note=note)

    async def _send_code(self, principal: Principal, subject: TargetUser, email: str, key: str | None) -> EmailChange:
        _require_can_change_email(subject.rights)
        person = subject.person
        asked = make_operation_request(SEND_EMAIL_CODE, principal, person, key, {"email": email})
        operation = await self.desk.run_operation(asked, partial(self._open, seen=person, email=email), whom=email)
        until = operation.done["code"]["expires_at"]
        return EmailChange(outcome="requires_verification", email=email, verification=operation.id, expires_at=until)

    def _open(self, conn: Conn, *, seen: UserRow, email: str, is_final: bool = False) -> None:
        """Look at the present state; someone without a Clerk account gets the address at once."""
        person = require_same_clerk_account(
            require_not_deleted(find_user(conn, seen.id, is_locking=True)), seen.clerk_id
        )
        if find_user_id_by_login(conn, email=email, but=person.id):
            raise make_email_taken_error(email)
        if is_final and person.clerk_id is None:
            user_repository.update_local_user(conn, person, {"email": email}, now=self.desk.clock())

    async def _offer(self, principal: Principal, subject: TargetUser, email: str) -> EmailChange:
        """What inviting anew would do; nothing is changed."""
        asked = partial(self._asked, principal, subject.person, email=email, key=None)
        movable, kept, is_alone = await self.desk.db.read(self._look, subject, email, asked)
        old = subject.person.email or "the old account"
        words = [f"{email} is invited to {it.name} as {it.role}, and {old} is deactivated there." for it in movable]
        words += [f"{it.name} is not in Clerk: {old} stays there." for it in kept]
        if is_alone:
            words.append(f"{email} is invited to the application, and {old} is deactivated.")
        if not (movable or is_alone):
            words.append(f"{subject.person.name} is in no organization to which they could be invited again.")
        elif not kept:
            words.append(f"{old} can't sign in any more after that. The person signs in anew, as {email}.")
        return EmailChange(outcome="requires_invitation", email=email, consequences=tuple(words))

    async def _reinvite(self, principal: Principal, subject: TargetUser, email: str, key: str | None) -> EmailChange:
        """Invite anew, organization by organization; one that fails stops neither the others nor the person."""
        asked = partial(self._asked, principal, subject.person, email=email, key=key)
        movable, kept, is_alone = await self.desk.db.read(self._look, subject, email, asked)
        if is_alone:
            return await self._reinvite_to_application(principal, subject.person, email, key)
        if not movable:
            words = lazy_gettext(
                "%(name)s is in no organization to which they could be invited again.", name=subject.person.name
            )
            raise ChangeRejectedError(words, code="no_organization", status=CONFLICT)
        results: list[Reinvitation] = []
        failures: list[ChangeRejectedError] = []
        for it in movable:
            try:
                results.append(await self._move(asked(it), subject.person, it, email))
            except (ChangeRejectedError, ConflictError) as error:
                results.append(_make_reinvitation(it, "refused", detail=str(error)))
                failures += [error] if isinstance(error, ChangeRejectedError) else []
        if failures and len(failures) == len(movable):
            raise failures[0]
        results += [_make_reinvitation(it, "kept", detail="This organization is not in Clerk.") for it in kept]
        return EmailChange(outcome="invited", email=email, organizations=tuple(results))

    async def _reinvite_to_application(
        self, principal: Principal, person: UserRow, email: str, key: str | None
    ) -> EmailChange:
        """Someone who is in no organization is invited to the application; only instance admins know of them."""
        intent = {"email": email, "expires_in_days": INVITATION_LIFETIME_DAYS, "redirect_url": self.redirect_url}
        asked = make_operation_request(
            REINVITE_TO_APPLICATION, principal, person, key, {**intent, "clerk_id": person.clerk_id}
        )
        await self.desk.run_operation(
            asked, partial(self._check_without_organization, seen=person, email=email), whom=email
        )
        return EmailChange(outcome="invited", email=email)

    def _check_without_organization(self, conn: Conn, *, seen: UserRow, email: str) -> None:
        """The present state of someone who is in no organization, in the transaction that keeps the intent."""
        person = require_same_clerk_account(
            require_not_deleted(find_user(conn, seen.id, is_locking=True)), seen.clerk_id
        )
        if find_user_id_by_login(conn, email=email, but=person.id):
            raise make_email_taken_error(email)
        if repository.list_user_memberships(conn, [person.id]):
            raise ChangeRejectedError(
                lazy_gettext("%(name)s is a member somewhere by now.", name=person.name),
                code="changed_meanwhile",
                status=CONFLICT,
            )

    async def _move(self, asked: OperationRequest, person: UserRow, it: UserMembership, email: str) -> Reinvitation:
        try:
            done = await self.desk.run_operation(
                asked, partial(self._check, seen=person, it=it, email=email), whom=email
            )
        except OperationPendingError as unsettled:
            return _make_reinvitation(it, "checking", detail=str(unsettled), operation=unsettled.operation.id)
        return _make_reinvitation(it, "invited", operation=done.id)

    def _asked(
        self, principal: Principal, person: UserRow, it: UserMembership, *, email: str, key: str | None
    ) -> OperationRequest:
        return OperationRequest(
            kind=REINVITE_MEMBER,
            target=f"membership:{it.membership_id}",
            actor=principal.id,
            organization_id=it.organization_id,
            idempotency_key=scope_idempotency_key(f"{REINVITE_MEMBER}:{it.membership_id}", key),
            intent=self._intent(person, it, email),
        )

    def _intent(self, person: UserRow, it: UserMembership, email: str) -> dict[str, Any]:
        return {
            "user": person.id,
            "clerk_id": person.clerk_id,
            "membership": it.membership_id,
            ADMIN_LOSS_KEY: it.membership_id,
            "organization": it.organization_clerk_id,
            "email": email,
            "role": it.role,
            "expires_in_days": INVITATION_LIFETIME_DAYS,
            "inviter": None,
            "redirect_url": self.redirect_url,
        }

    def _look(
        self, conn: Conn, subject: TargetUser, email: str, asked: Callable[[UserMembership], OperationRequest]
    ) -> tuple[list[UserMembership], list[UserMembership], bool]:
        """The memberships that can move to the new address (or just did, by this same request), those that can't, and
        whether there are none at all. Raises Refused.
        """
        person, rights = require_not_deleted(subject.person), subject.rights
        if not (rights.is_admin or rights.led):
            words = lazy_gettext("Ask an admin to change this address: the new one is invited anew.")
            raise ChangeRejectedError(words, code="forbidden", status=FORBIDDEN, field="email")
        if find_user_id_by_login(conn, email=email, but=person.id):
            raise make_email_taken_error(email)
        belongings = repository.list_user_memberships(conn, [person.id]).get(person.id, [])
        found = [
            it for it in belongings if it.status == "active" or find_by_idempotency_key(conn, asked(it)) is not None
        ]
        ours = [it for it in found if rights.is_admin or it.organization_id in rights.led]
        sole = find_sole_admin_organizations(
            conn, person.id, find_roles(conn), moving=collect_pending_changes(list_open_intents(conn))
        )
        require_another_admin({it.organization_id: it.name for it in ours if it.organization_id in sole})
        return (
            [it for it in ours if it.organization_clerk_id is not None],
            [it for it in ours if it.organization_clerk_id is None],
            not belongings,
        )

    def _check(self, conn: Conn, *, seen: UserRow, it: UserMembership, email: str) -> None:
        """The present state of one membership, in the transaction that keeps the intent."""
        person = require_same_clerk_account(
            require_not_deleted(find_user(conn, seen.id, is_locking=True)), seen.clerk_id
        )
        if find_user_id_by_login(conn, email=email, but=person.id):
            raise make_email_taken_error(email)
        lock_organizations_of_admin(conn, person.id, find_roles(conn))
        sole = find_sole_admin_organizations(
            conn, person.id, find_roles(conn), moving=collect_pending_changes(list_open_intents(conn))
        )
        require_another_admin({id: name for id, name in sole.items() if id == it.organization_id})
        present = repository.list_user_memberships(conn, [person.id]).get(person.id, [])
        if not any(here.membership_id == it.membership_id and here.status == "active" for here in present):
            raise ChangeRejectedError(
                lazy_gettext("%(name)s is no active member of %(name_2)s.", name=person.name, name_2=it.name),
                code="not_a_member",
                status=CONFLICT,
            )


def _make_reinvitation(
    it: UserMembership, state: Any, *, detail: str | None = None, operation: str | None = None
) -> Reinvitation:
    return Reinvitation(
        organization_id=it.organization_id, name=it.name, role=it.role, state=state, detail=detail, operation=operation
    )


def _is_verification_of(sent: Operation, person: UserRow) -> bool:
    return sent.kind == SEND_EMAIL_CODE and sent.state == "settled" and sent.intent["user"] == person.id


def _require_can_change_email(rights: UserPermissions) -> None:
    if not (rights.is_admin or rights.is_self):
        raise ChangeRejectedError("You may not change this address.", code="forbidden", status=FORBIDDEN, field="email")


REPLACE_EMAIL, SEND_EMAIL_CODE, VERIFY_EMAIL = "profile.email", "profile.email.code", "profile.email.verify"
EMAIL_NOT_PRIMARY = (
    "The new address is proven and added in Clerk, and is not the primary one yet; the old one still works."
)
CODE_NOT_TRIED = "The code was not tried. Enter it again."
CODE_REFUSALS = {
    "unverified": ("wrong_code", "That is not the code."),
    "expired": ("code_expired", "This code is too old. Have a new one sent."),
    "failed": ("code_failed", "There were too many tries. Have a new code sent."),
}


def make_email_workflows(accounts: UsersApi, held: EphemeralSecrets, clock: Clock) -> Workflows:
    """How each of them is carried out. Their intents name `user` (our id), `clerk_id` and `email`."""
    return {
        REPLACE_EMAIL: _make_replace_workflow(accounts, clock),
        SEND_EMAIL_CODE: _make_send_code_workflow(accounts),
        VERIFY_EMAIL: Workflow(
            steps=[_make_verify_step(accounts, held), _make_primary_step(accounts), _make_remove_old_step(accounts)],
            finalize=lambda conn, operation: _finalize_email(conn, operation, "old", clock),
            partial_failure_message=EMAIL_NOT_PRIMARY,
        ),
    }


def _make_replace_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """Someone without a Clerk account got the address when the operation was opened."""

    async def write(operation: Operation) -> JsonObject:
        id = operation.intent["clerk_id"]
        if id is None:
            return {}
        return {"news": encode_entity_state(await accounts.replace_email(ClerkId(id), operation.intent["email"]))}

    async def find(operation: Operation) -> JsonObject | None:
        id = operation.intent["clerk_id"]
        return await _find_primary(accounts, operation) if id is not None else {}

    step = WorkflowStep("replace", write, find)
    return Workflow(steps=[step], finalize=lambda conn, operation: _finalize_email(conn, operation, "replace", clock))


def _make_send_code_workflow(accounts: UsersApi) -> Workflow:
    """Adds the address, not verified, and has a code sent to it. Nothing is mirrored before it is proven."""

    async def add(operation: Operation) -> JsonObject:
        found = await find(operation)
        return found or _address_result(await accounts.add_email(_clerk_id(operation), operation.intent["email"]))

    async def find(operation: Operation) -> JsonObject | None:
        found = await _find_address(accounts, operation)
        return _address_result(found) if found else None

    async def send(operation: Operation) -> JsonObject:
        sent = await accounts.send_code(ClerkId(operation.done["address"]["id"]))
        return {"verification": sent.verification, "expires_at": sent.expires_at}

    async def find_sent(_operation: Operation) -> JsonObject | None:
        return None  # another code does no harm

    steps = [WorkflowStep("address", add, find), WorkflowStep("code", send, find_sent)]
    lost = "The new address is added in Clerk, and no code was sent to it. The old address still works."
    return Workflow(steps=steps, finalize=lambda _conn, _operation: None, partial_failure_message=lost)


def _make_verify_step(accounts: UsersApi, held: EphemeralSecrets) -> WorkflowStep:
    """The intent also names `address`, `verification` and `secret`, the name under which the code is held."""

    async def write(operation: Operation) -> JsonObject:
        intent = operation.intent
        code = held.find(intent["secret"])
        if code is None:
            raise ClerkRejectedError(CODE_NOT_TRIED, code="code_lost", status=409)
        status = await accounts.verify_code(ClerkId(intent["address"]), intent["verification"], code)
        if status != "verified":
            refused, words = CODE_REFUSALS.get(status, CODE_REFUSALS["failed"])
            raise ClerkRejectedError(words, code=refused, status=422, param="code")
        return {"status": status}

    async def find(operation: Operation) -> JsonObject | None:
        found = await _find_address(accounts, operation)
        return {"status": "verified"} if found and found.is_verified else None

    return WorkflowStep("code", write, find)


def _make_primary_step(accounts: UsersApi) -> WorkflowStep:
    async def write(operation: Operation) -> JsonObject:
        news = await accounts.set_primary_email(_clerk_id(operation), ClerkId(operation.intent["address"]))
        return {"news": encode_entity_state(news)}

    async def find(operation: Operation) -> JsonObject | None:
        return await _find_primary(accounts, operation)

    return WorkflowStep("primary", write, find)


def _make_remove_old_step(accounts: UsersApi) -> WorkflowStep:
    """The old address goes; one that Clerk keeps (a connected account hangs on it) stays beside the new one."""

    async def write(operation: Operation) -> JsonObject:
        addresses = await accounts.list_emails(_clerk_id(operation))
        kept = ""
        for old in (it for it in addresses if is_same_email(it.email, operation.intent["old"]) and not it.is_primary):
            try:
                await accounts.remove_email(old.clerk_id)
            except ClerkRejectedError as refusal:
                kept = str(refusal)
        return {"news": encode_entity_state(await read_user(accounts, _clerk_id(operation))), "kept": kept}

    async def find(_operation: Operation) -> JsonObject | None:
        return None  # an address that is gone already is fine

    return WorkflowStep("old", write, find)


async def _find_primary(accounts: UsersApi, operation: Operation) -> JsonObject | None:
    found = await read_user(accounts, _clerk_id(operation))
    user = extract_user(found)
    is_done = is_same_email(user.email, operation.intent["email"]) and user.is_email_verified
    return {"news": encode_entity_state(found)} if is_done else None


async def _find_address(accounts: UsersApi, operation: Operation) -> ClerkEmailAddress | None:
    addresses = await accounts.list_emails(_clerk_id(operation))
    return next((it for it in addresses if is_same_email(it.email, operation.intent["email"])), None)


def _address_result(address: ClerkEmailAddress) -> JsonObject:
    return {"id": address.clerk_id}


def _clerk_id(operation: Operation) -> ClerkId:
    return ClerkId(operation.intent["clerk_id"])


def _finalize_email(conn: Conn, operation: Operation, step: str, clock: Clock) -> None:
    if kept := operation.done[step].get("news"):
        apply_observations(conn, [decode_entity_state(kept)], now=clock())


REINVITE_MEMBER = "profile.reinvite"
REINVITE_TO_APPLICATION = "profile.reinvite.application"
OPERATION_METADATA_KEY = "instep_operation"
ALL_INVITATION_STATUSES = ("pending", "accepted", "revoked", "expired")
PARTIAL_REINVITATION = "The new address is invited; the old account could not be signed out, and still works."


def make_reinvite_workflow(
    actor: OrganizationsApi, accounts: UsersApi, directory: ClerkReader, clock: Clock
) -> Workflow:
    """How one membership moves to another address.

    The intent: `user`, `clerk_id`, `membership`, `organization` (Clerk's id), `email`, `role`, and what the invitation
    needs. Nobody is locked out before the invitation is there; someone who is a member nowhere any more is out.
    """

    async def invite(operation: Operation) -> JsonObject:
        organization = ClerkId(operation.intent["organization"])
        return _invitation_result(await actor.create_invitation(organization, _build_invitation(operation)))

    async def find(operation: Operation) -> JsonObject | None:
        intent = operation.intent
        listed = await directory.list_invitations(
            ClerkId(intent["organization"]), statuses=ALL_INVITATION_STATUSES, email=intent["email"]
        )
        found = next((it for it in listed if it.private_metadata.get(OPERATION_METADATA_KEY) == operation.id), None)
        return _invitation_result(found) if found else None

    def settle(conn: Conn, operation: Operation) -> None:
        intent, now = operation.intent, clock()
        membership_status.deactivate_membership(conn, intent["membership"], how="database", now=now)
        user_repository.deactivate_user_without_memberships(conn, intent["user"], now=now)

    return Workflow(
        steps=[WorkflowStep("invite", invite, find), _make_sign_out_step(accounts)],
        finalize=settle,
        partial_failure_message=PARTIAL_REINVITATION,
    )


def make_application_reinvite_workflow(
    admissions: ApplicationInvitationsApi, accounts: UsersApi, clock: Clock
) -> Workflow:
    """How someone who is in no organization moves to another address.

    The intent: `user`, `clerk_id`, `email`, `expires_in_days`, `redirect_url`.
    """

    async def invite(operation: Operation) -> JsonObject:
        intent = operation.intent
        wanted = NewClerkApplicationInvitation(
            email=intent["email"],
            expires_in_days=intent["expires_in_days"],
            redirect_url=intent["redirect_url"],
            public_metadata={OPERATION_METADATA_KEY: operation.id},
        )
        return _invitation_result(await admissions.create_application_invitation(wanted))

    async def find(operation: Operation) -> JsonObject | None:
        listed = await admissions.list_application_invitations(query=operation.intent["email"])
        return next(
            (_invitation_result(it) for it in listed if it.public_metadata.get(OPERATION_METADATA_KEY) == operation.id),
            None,
        )

    def settle(conn: Conn, operation: Operation) -> None:
        user_repository.deactivate_user_without_memberships(conn, operation.intent["user"], now=clock())

    return Workflow(
        steps=[WorkflowStep("invite", invite, find), _make_sign_out_step(accounts)],
        finalize=settle,
        partial_failure_message=PARTIAL_REINVITATION,
    )


def _make_sign_out_step(accounts: UsersApi) -> WorkflowStep:
    async def sign_out(operation: Operation) -> JsonObject:
        try:
            return {"signed_out": await accounts.revoke_all_sessions(ClerkId(operation.intent["clerk_id"]))}
        except ClerkRejectedError as refusal:
            if refusal.status != 404:
                raise
            return {"signed_out": 0}

    async def find(_operation: Operation) -> JsonObject | None:
        return None  # ending sessions again does no harm

    return WorkflowStep("sign_out", sign_out, find)


def _build_invitation(operation: Operation) -> NewClerkInvitation:
    intent = operation.intent
    return NewClerkInvitation(
        email=intent["email"],
        role=intent["role"],
        expires_in_days=intent["expires_in_days"],
        inviter=intent["inviter"],
        redirect_url=intent["redirect_url"],
        private_metadata={OPERATION_METADATA_KEY: operation.id, "instep_instead_of": intent["user"]},
    )


def _invitation_result(invitation: ClerkInvitation | ClerkApplicationInvitation) -> JsonObject:
    """What is remembered of an invitation; never its link."""
    return {"id": invitation.clerk_id, "email": invitation.email, "expires_at": invitation.expires_at}
