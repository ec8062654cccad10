"""Workflows of invitation operations: send, resend, revoke, batches and application invitations."""

from collections.abc import Callable
from typing import Any

from instep.core.clock import HOUR
from instep.core.db import Conn
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.models import (
    ClerkApplicationInvitation,
    ClerkId,
    ClerkInvitation,
    NewClerkApplicationInvitation,
    NewClerkInvitation,
)
from instep.domain.ports import ApplicationInvitationsApi, ClerkReader, OrganizationsApi
from instep.invitations import models, repository
from instep.invitations.models import (
    ALL_STATUSES,
    APPLICATION_INVITE_KIND,
    APPLICATION_RESEND_KIND,
    APPLICATION_REVOKE_KIND,
    BATCH_KIND,
    BATCH_PART_KIND,
    LOST_INVITATION_MESSAGE,
    OPERATION_METADATA_KEY,
    ClerkInvitationsApi,
    get_batch_part_target,
    is_lost,
    split_into_parts,
)
from instep.invitations.policies import (
    NOT_PENDING_ERRORS,
    build_not_pending_error,
    convert_clerk_error,
    schedule_bulk_calls,
)
from instep.operations.repository import insert_operation
from instep.operations.workflow import JsonObject, Operation, OperationRequest, Workflow, Workflows, WorkflowStep

APPLICATION_LOST_MESSAGE = "The old invitation is revoked; the new one could not be made. Send it again."
APPLICATION_DUPLICATE_CODE = "duplicate_record"


def make_application_workflows(clerk: ApplicationInvitationsApi) -> Workflows:
    """How both kinds are carried out."""
    return {
        APPLICATION_INVITE_KIND: _make_application_invite_workflow(clerk),
        APPLICATION_RESEND_KIND: _make_application_resend_workflow(clerk),
        APPLICATION_REVOKE_KIND: _make_application_revoke_workflow(clerk),
    }


def _make_application_invite_workflow(clerk: ApplicationInvitationsApi) -> Workflow:
    """Its intent: the fields of NewAppInvitation."""

    async def create(operation: Operation) -> JsonObject:
        intent = operation.intent
        wanted = NewClerkApplicationInvitation(
            email=intent["email"],
            expires_in_days=intent["expires_in_days"],
            redirect_url=intent["redirect_url"],
            notify=intent["notify"],
            public_metadata={**intent["public_metadata"], OPERATION_METADATA_KEY: operation.id},
        )
        try:
            return serialize_application_invitation(await clerk.create_application_invitation(wanted))
        except ClerkRejectedError as refusal:
            found = await find(operation) if refusal.code == APPLICATION_DUPLICATE_CODE else None
            if found is None:
                raise
            return found

    async def find(operation: Operation) -> JsonObject | None:
        listed = await _list_application_invitations(clerk, operation.intent["email"])
        return next(
            (
                serialize_application_invitation(it)
                for it in listed
                if it.public_metadata.get(OPERATION_METADATA_KEY) == operation.id
            ),
            None,
        )

    return Workflow(steps=[WorkflowStep("create", create, find)], finalize=finalize_nothing)


def _make_application_revoke_workflow(clerk: ApplicationInvitationsApi) -> Workflow:
    """Its intent: `invitation`, Clerk's id of it."""

    async def revoke(operation: Operation) -> JsonObject:
        return serialize_application_invitation(
            await clerk.revoke_application_invitation(ClerkId(operation.intent["invitation"]))
        )

    async def find(operation: Operation) -> JsonObject | None:
        """Clerk has no call for one invitation, only its list."""
        id = operation.intent["invitation"]
        listed = await _list_application_invitations(clerk, id)
        return next(
            (serialize_application_invitation(it) for it in listed if it.clerk_id == id and it.status == "revoked"),
            None,
        )

    return Workflow(steps=[WorkflowStep("revoke", revoke, find)], finalize=finalize_nothing)


def _make_application_resend_workflow(clerk: ApplicationInvitationsApi) -> Workflow:
    """First the old one ends, unless it has expired, then the new one is made. Its intent: that of both."""

    async def revoke(operation: Operation) -> JsonObject:
        if found := await find(operation):
            return found
        return serialize_application_invitation(
            await clerk.revoke_application_invitation(ClerkId(operation.intent["invitation"]))
        )

    async def find(operation: Operation) -> JsonObject | None:
        id = operation.intent["invitation"]
        over = (
            it
            for it in await _list_application_invitations(clerk, id)
            if it.clerk_id == id and it.status in ("revoked", "expired")
        )
        return next((serialize_application_invitation(it) for it in over), None)

    return Workflow(
        steps=[WorkflowStep("revoke", revoke, find), *_make_application_invite_workflow(clerk).steps],
        finalize=finalize_nothing,
        partial_failure_message=APPLICATION_LOST_MESSAGE,
    )


async def _list_application_invitations(
    clerk: ApplicationInvitationsApi, query: str
) -> list[ClerkApplicationInvitation]:
    """Every invitation that a query finds; Clerk's list has the revoked ones only when it is asked for them."""
    living = await clerk.list_application_invitations(query=query)
    return living + await clerk.list_application_invitations(status="revoked", query=query)


def serialize_application_invitation(it: ClerkApplicationInvitation) -> dict[str, Any]:
    """What an operation remembers; never the link."""
    return {
        "id": it.clerk_id,
        "email": it.email,
        "status": it.status,
        "created_at": it.created_at,
        "expires_at": it.expires_at,
        "public_metadata": it.public_metadata,
    }


def deserialize_application_invitation(step: JsonObject) -> ClerkApplicationInvitation:
    """The invitation that `kept` remembered."""
    fields = {name: value for name, value in step.items() if name != "id"}
    return ClerkApplicationInvitation(clerk_id=ClerkId(step["id"]), **fields)


BATCH_RETRY_MESSAGE = "Not all of these invitations are made yet; it is tried again."
BATCH_FATAL_CODES = ("not_configured", "clerk_key_invalid")
_EMPTY_RESULT: JsonObject = {}


def make_batch_workflows(
    actor: OrganizationsApi, directory: ClerkReader, record_audit: Callable[[Conn, Operation], None]
) -> Workflows:
    """How a batch is kept and its parts are sent. `noted` writes the audit of a part that is opened."""
    return {
        BATCH_KIND: Workflow(steps=[], finalize=_make_batch_finalizer(record_audit)),
        BATCH_PART_KIND: _make_batch_part_workflow(actor, directory),
    }


def _make_batch_finalizer(record_audit: Callable[[Conn, Operation], None]) -> Callable[[Conn, Operation], None]:
    def open_parts(conn: Conn, operation: Operation) -> None:
        """Open an operation for each ten rows, due when Clerk takes another bulk call."""
        now, parts = operation.asked_at, split_into_parts(operation.intent["rows"])
        starts = schedule_bulk_calls(repository.list_bulk_call_times(conn, since=now - HOUR), count=len(parts), now=now)
        for number, (rows, start) in enumerate(zip(parts, starts, strict=True)):
            asked = OperationRequest(
                kind=BATCH_PART_KIND,
                target=get_batch_part_target(operation.id, number),
                actor=operation.actor,
                organization_id=operation.organization_id,
                request_id=operation.request_id,
                origin=operation.origin,
                impersonator=operation.impersonator,
                intent={**operation.intent, "rows": rows, "batch": operation.id, "start_at": start},
            )
            opened = insert_operation(conn, asked, now=now, until=start)
            if opened is not None:
                record_audit(conn, opened)

    return open_parts


def _make_batch_part_workflow(actor: OrganizationsApi, directory: ClerkReader) -> Workflow:
    """How up to ten are sent.

    1 one bulk call; whether it is all or nothing Clerk does not say, so that after a refusal the rows that exist are
    read back by their marks; 2 each row that is still missing by itself, and what Clerk says of it is kept.
    """

    async def bulk(operation: Operation) -> JsonObject:
        organization, wanted = _parse_batch_part_intent(operation)
        if len(wanted) == 1:
            return _EMPTY_RESULT
        try:
            return {"rows": _match_rows(wanted, await actor.create_invitations(organization, wanted))}
        except ClerkRejectedError as refusal:
            if refusal.code in BATCH_FATAL_CODES:
                raise
        except ClerkUnavailableError as silence:
            if silence.is_without_effect:
                raise
            found = await find_bulk(operation)
            if found is None:
                raise make_retryable(silence, BATCH_RETRY_MESSAGE) from silence
            return found
        return await find_bulk(operation) or _EMPTY_RESULT

    async def find_bulk(operation: Operation) -> JsonObject | None:
        organization, wanted = _parse_batch_part_intent(operation)
        rows = _match_rows(wanted, await directory.list_invitations(organization, statuses=ALL_STATUSES))
        return {"rows": rows} if any(rows) else None

    async def rest(operation: Operation) -> JsonObject:
        organization, wanted = _parse_batch_part_intent(operation)
        made = operation.done["bulk"].get("rows") or [None] * len(wanted)
        if not all(made):
            found = _match_rows(wanted, await directory.list_invitations(organization, statuses=ALL_STATUSES))
            made = [one or other for one, other in zip(made, found, strict=True)]
        return {
            "rows": [
                row or await _create_batch_row(actor, directory, organization, it)
                for row, it in zip(made, wanted, strict=True)
            ]
        }

    async def find_rest(_operation: Operation) -> JsonObject | None:
        """`rest` looks for itself what was made before."""
        return None

    steps = [WorkflowStep("bulk", bulk, find_bulk), WorkflowStep("rest", rest, find_rest)]
    return Workflow(
        steps=steps, finalize=finalize_nothing, partial_failure_message="Not all of these invitations were made."
    )


async def _create_batch_row(
    actor: OrganizationsApi, directory: ClerkReader, organization: ClerkId, wanted: NewClerkInvitation
) -> dict[str, Any]:
    try:
        return await create_invitation_or_retry_later(actor, directory, organization, wanted, BATCH_RETRY_MESSAGE)
    except ClerkRejectedError as refusal:
        if refusal.code in BATCH_FATAL_CODES:
            raise
        said = convert_clerk_error(refusal, email=wanted.email, role=wanted.role)
        return {"code": said.code, "reason": str(said)}


def _parse_batch_part_intent(operation: Operation) -> tuple[ClerkId, list[NewClerkInvitation]]:
    marked = [
        parse_send_intent(operation, _get_row_fields(row), mark=f"{operation.id}:{row['n']}")
        for row in operation.intent["rows"]
    ]
    return ClerkId(operation.intent["organization"]), [wanted for _, wanted in marked]


def _get_row_fields(row: JsonObject) -> JsonObject:
    private = {"private_metadata": {"name": row["name"]}} if row.get("name") else {}
    return {"email": row["email"], "role": row["role"], **private}


def _match_rows(wanted: list[NewClerkInvitation], listed: list[ClerkInvitation]) -> list[Any]:
    by_mark = {it.private_metadata.get(OPERATION_METADATA_KEY): serialize_invitation(it) for it in listed}
    return [by_mark.get(it.private_metadata[OPERATION_METADATA_KEY]) for it in wanted]


SCHEDULED_KINDS = (BATCH_PART_KIND,)


def make_invitation_workflows(clerk: ClerkInvitationsApi, record_audit: Callable[[Conn, Operation], None]) -> Workflows:
    """How each kind of operation of this slice is carried out."""
    return {
        models.SEND_KIND: make_send_workflow(clerk, clerk),
        models.RESEND_KIND: make_resend_workflow(clerk, clerk),
        models.REVOKE_KIND: make_revoke_workflow(clerk),
        **make_batch_workflows(clerk, clerk, record_audit),
        **make_application_workflows(clerk),
    }


RESEND_RETRY_MESSAGE = "The old invitation is revoked, and the new one is not made yet; it is tried again."
_ENDED_CODES = (NOT_PENDING_ERRORS["expired"][0], NOT_PENDING_ERRORS["pending"][0])


def make_resend_workflow(actor: OrganizationsApi, directory: ClerkReader) -> Workflow:
    """How an invitation is sent again.

    Its intent: as of sending, with `invitation` (Clerk's id of the old one), its `status`, and `by` (who revokes).
    Step 1 has nothing to do where the old one expired. Between the steps the invitation is lost: from then on
    a failure of Clerk's is tried again, and a refusal needs a person.
    """

    async def revoke(operation: Operation) -> JsonObject:
        if operation.intent["status"] == "expired":
            return _EMPTY_RESULT
        try:
            return serialize_invitation(await revoke_invitation(actor, operation))
        except ClerkRejectedError as refusal:
            if refusal.code in _ENDED_CODES:
                return _EMPTY_RESULT
            raise

    async def find_revoked(operation: Operation) -> JsonObject | None:
        """It was pending when this was asked for: revoked by now, it was revoked by this."""
        if operation.intent["status"] == "expired":
            return _EMPTY_RESULT
        found = await fetch_invitation(actor, operation)
        if found is None or found.status == "accepted":
            raise build_not_pending_error(found)
        if found.status == "expired":
            return _EMPTY_RESULT
        return serialize_invitation(found) if found.status == "revoked" else None

    async def create(operation: Operation) -> JsonObject:
        organization, wanted = parse_send_intent(operation)
        if not is_lost(operation):
            return await create_invitation(actor, directory, organization, wanted)
        return await create_invitation_or_retry_later(actor, directory, organization, wanted, RESEND_RETRY_MESSAGE)

    async def find_created(operation: Operation) -> JsonObject | None:
        organization, wanted = parse_send_intent(operation)
        return await find_created_invitation(directory, organization, wanted.email, operation.id)

    steps = [WorkflowStep("revoke", revoke, find_revoked), WorkflowStep("create", create, find_created)]
    return Workflow(steps=steps, finalize=finalize_nothing, partial_failure_message=LOST_INVITATION_MESSAGE)


STATUS_UNKNOWN_MESSAGE = "This invitation is not pending, and what became of it can't be read yet."


def make_revoke_workflow(actor: OrganizationsApi) -> Workflow:
    """How an invitation is revoked. Its intent: `organization` and `invitation` (Clerk's ids), `email`, `by`."""

    async def revoke(operation: Operation) -> JsonObject:
        return serialize_invitation(await revoke_invitation(actor, operation))

    async def find(operation: Operation) -> JsonObject | None:
        found = await fetch_invitation(actor, operation)
        if found is None or found.status not in ("pending", "revoked"):
            raise build_not_pending_error(found)
        return serialize_invitation(found) if found.status == "revoked" else None

    return Workflow(steps=[WorkflowStep("revoke", revoke, find)], finalize=finalize_nothing)


async def revoke_invitation(actor: OrganizationsApi, operation: Operation) -> ClerkInvitation:
    """Revoke it. Raises ClerkRejectedError with what became of it where it was not pending."""
    intent = operation.intent
    organization, id = ClerkId(intent["organization"]), ClerkId(intent["invitation"])
    try:
        return await actor.revoke_invitation(organization, id, revoked_by=intent.get("by"))
    except ClerkRejectedError as refusal:
        if refusal.status != 404:
            raise
        try:
            found = await actor.find_invitation(organization, id)
        except ClerkUnavailableError as silence:
            raise make_retryable(silence, STATUS_UNKNOWN_MESSAGE) from silence
        raise build_not_pending_error(found, refusal=refusal) from refusal


async def fetch_invitation(actor: OrganizationsApi, operation: Operation) -> ClerkInvitation | None:
    """The invitation that an operation is about, as Clerk has it now."""
    intent = operation.intent
    return await actor.find_invitation(ClerkId(intent["organization"]), ClerkId(intent["invitation"]))


DUPLICATE_CODES = ("organization_invitation_not_unique", "duplicate_record")


def make_send_workflow(actor: OrganizationsApi, directory: ClerkReader) -> Workflow:
    """How an invitation is sent. Its intent: `organization` (Clerk's id) and the fields of NewInvitation."""

    async def create(operation: Operation) -> JsonObject:
        organization, wanted = parse_send_intent(operation)
        return await create_invitation(actor, directory, organization, wanted)

    async def find(operation: Operation) -> JsonObject | None:
        organization, wanted = parse_send_intent(operation)
        return await find_created_invitation(directory, organization, wanted.email, operation.id)

    return Workflow(steps=[WorkflowStep("create", create, find)], finalize=finalize_nothing)


def parse_send_intent(
    operation: Operation, row: JsonObject | None = None, *, mark: str = ""
) -> tuple[ClerkId, NewClerkInvitation]:
    """The organization and the invitation that an operation is about, marked with the operation's id.

    `row` holds what differs from the intent, where the operation is about many.
    """
    intent = {**operation.intent, **(row or {})}
    wanted = NewClerkInvitation(
        email=intent["email"],
        role=intent["role"],
        expires_in_days=intent["expires_in_days"],
        inviter=intent.get("inviter"),
        redirect_url=intent.get("redirect_url"),
        notify=intent.get("notify", True),
        public_metadata=intent.get("public_metadata", {}),
        private_metadata={**intent.get("private_metadata", {}), OPERATION_METADATA_KEY: mark or operation.id},
    )
    return ClerkId(intent["organization"]), wanted


async def create_invitation(
    actor: OrganizationsApi, directory: ClerkReader, organization: ClerkId, wanted: NewClerkInvitation
) -> dict[str, Any]:
    """Create an invitation; one that Clerk has already and that carries our mark is the one that was wanted."""
    try:
        return serialize_invitation(await actor.create_invitation(organization, wanted))
    except ClerkRejectedError as refusal:
        if refusal.code not in DUPLICATE_CODES:
            raise
        found = await find_created_invitation(
            directory, organization, wanted.email, wanted.private_metadata[OPERATION_METADATA_KEY]
        )
        if found is None:
            raise
        return found


async def create_invitation_or_retry_later(
    actor: OrganizationsApi, directory: ClerkReader, organization: ClerkId, wanted: NewClerkInvitation, words: str
) -> dict[str, Any]:
    """`create_marked` after which giving up is no choice: a failure of Clerk's means looking, then trying later."""
    try:
        return await create_invitation(actor, directory, organization, wanted)
    except ClerkUnavailableError as silence:
        found = None
        if not silence.is_without_effect:
            found = await find_created_invitation(
                directory, organization, wanted.email, wanted.private_metadata[OPERATION_METADATA_KEY]
            )
        if found is None:
            raise make_retryable(silence, words) from silence
        return found


def make_retryable(silence: ClerkUnavailableError, words: str) -> ClerkUnavailableError:
    """A failure that was looked into: what was wanted is not there, and trying again later does no harm."""
    return ClerkUnavailableError(f"{words} {silence}", retry_after=silence.retry_after, is_without_effect=True)


async def find_created_invitation(
    directory: ClerkReader, organization: ClerkId, email: str, mark: str
) -> dict[str, Any] | None:
    """The invitation that carries this mark, whatever became of it since."""
    listed = await directory.list_invitations(organization, statuses=ALL_STATUSES, email=email)
    found = next((it for it in listed if it.private_metadata.get(OPERATION_METADATA_KEY) == mark), None)
    return serialize_invitation(found) if found else None


def serialize_invitation(invitation: ClerkInvitation) -> dict[str, Any]:
    """What an operation remembers of an invitation; never its link."""
    return {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


def deserialize_invitation(step: dict[str, Any]) -> ClerkInvitation:
    """The invitation that `kept` remembered."""
    return ClerkInvitation(
        clerk_id=ClerkId(step["id"]),
        email=step["email"],
        role=step["role"],
        status=step["status"],
        created_at=step["created_at"],
        expires_at=step["expires_at"],
    )


def finalize_nothing(_conn: Conn, _operation: Operation) -> None:
    """Nothing is mirrored: pending invitations live only in Clerk."""
