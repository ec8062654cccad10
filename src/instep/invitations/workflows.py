"""Workflows of invitation operations: send, resend, revoke, batches and application invitations."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict

from instep.core.clock import HOUR
from instep.core.db import Conn
from instep.core.i18n import LazyString, lazy_gettext
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
    LOST_INVITATION_MESSAGE,
    OPERATION_METADATA_KEY,
    ApplicationInviteIntent,
    ApplicationResendIntent,
    ApplicationRevokeIntent,
    BatchIntent,
    BatchPartIntent,
    ResendIntent,
    RevokeIntent,
    SendIntent,
    is_lost,
)
from instep.invitations.policies import (
    NOT_PENDING_ERRORS,
    build_not_pending_error,
    convert_clerk_error,
    schedule_bulk_calls,
)
from instep.operations.repository import encode_intent, insert_operation
from instep.operations.workflow import (
    JsonObject,
    Operation,
    OperationRequest,
    TypedOperation,
    Workflow,
    Workflows,
    WorkflowStep,
)

SCHEDULED_KINDS = (models.BATCH_PART_KIND,)  # may wait for hours as planned, until Clerk takes another bulk call
DUPLICATE_CODES = ("organization_invitation_not_unique", "duplicate_record")
APPLICATION_DUPLICATE_CODE = "duplicate_record"
BATCH_FATAL_CODES = ("not_configured", "clerk_key_invalid")
STATUS_UNKNOWN_MESSAGE = lazy_gettext(
    "This invitation is not pending, and its present status cannot be read yet. %(reason)s"
)
RESEND_RETRY_MESSAGE = lazy_gettext(
    "The old invitation was revoked, but the new one has not been created yet. It will be retried. %(reason)s"
)
BATCH_RETRY_MESSAGE = lazy_gettext("Not all of these invitations have been created yet. It will be retried. %(reason)s")
BATCH_INCOMPLETE_MESSAGE = lazy_gettext("Not all of these invitations were created.")
_ENDED_CODES = (NOT_PENDING_ERRORS["expired"][0], NOT_PENDING_ERRORS["pending"][0])
_EMPTY_RESULT: JsonObject = {}


def make_invitation_workflows(
    reader: ClerkReader,
    organizations: OrganizationsApi,
    applications: ApplicationInvitationsApi,
    record_audit: Callable[[Conn, Operation], None],
) -> Workflows:
    """Return the workflow of each kind of operation of this slice."""
    return {
        models.SEND_KIND: make_send_workflow(organizations, reader),
        models.RESEND_KIND: make_resend_workflow(organizations, reader),
        models.REVOKE_KIND: make_revoke_workflow(organizations),
        **make_batch_workflows(organizations, reader, record_audit),
        **make_application_workflows(applications),
    }


def finalize_nothing(_conn: Conn, _operation: TypedOperation[Any]) -> None:
    """Write nothing: pending invitations live only in Clerk and are not mirrored."""


# Send


def make_send_workflow(organizations: OrganizationsApi, reader: ClerkReader) -> Workflow[SendIntent]:
    """Return the workflow that sends an invitation."""

    async def create(operation: TypedOperation[SendIntent]) -> JsonObject:
        organization_id, invitation = operation.intent.organization, _build_invitation(operation)
        return await create_invitation(organizations, reader, organization_id, invitation)

    async def find(operation: TypedOperation[SendIntent]) -> JsonObject | None:
        intent = operation.intent
        return await find_created_invitation(reader, intent.organization, intent.email, operation.id)

    return Workflow(SendIntent, steps=[WorkflowStep("create", create, find)], finalize=finalize_nothing)


def _build_invitation(operation: TypedOperation[SendIntent]) -> NewClerkInvitation:
    """Build the invitation to create, marked with the operation's id."""
    intent = operation.intent
    return NewClerkInvitation(
        email=intent.email,
        role=intent.role,
        expires_in_days=intent.expires_in_days,
        inviter=intent.inviter,
        redirect_url=intent.redirect_url,
        notify=intent.notify,
        public_metadata=intent.public_metadata or {},
        private_metadata={**(intent.private_metadata or {}), OPERATION_METADATA_KEY: operation.id},
    )


async def create_invitation(
    organizations: OrganizationsApi, reader: ClerkReader, organization_id: ClerkId, invitation: NewClerkInvitation
) -> dict[str, Any]:
    """Create an invitation, or return the existing one that carries the same mark."""
    try:
        return serialize_invitation(await organizations.create_invitation(organization_id, invitation))
    except ClerkRejectedError as refusal:
        if refusal.code not in DUPLICATE_CODES:
            raise
        mark = invitation.private_metadata[OPERATION_METADATA_KEY]
        found = await find_created_invitation(reader, organization_id, invitation.email, mark)
        if found is None:
            raise
        return found


async def create_invitation_or_retry_later(
    organizations: OrganizationsApi,
    reader: ClerkReader,
    organization_id: ClerkId,
    invitation: NewClerkInvitation,
    retry_message: LazyString,
) -> dict[str, Any]:
    """Create an invitation that must not be given up: after a failure of Clerk, look for it, else ask for a retry."""
    try:
        return await create_invitation(organizations, reader, organization_id, invitation)
    except ClerkUnavailableError as error:
        found = None
        if not error.is_without_effect:
            mark = invitation.private_metadata[OPERATION_METADATA_KEY]
            found = await find_created_invitation(reader, organization_id, invitation.email, mark)
        if found is None:
            raise make_retryable(error, retry_message) from error
        return found


def make_retryable(error: ClerkUnavailableError, message: LazyString) -> ClerkUnavailableError:
    """Return the failure as one without effect, after a check has shown that Clerk did nothing.

    `message` has the placeholder `reason`.
    """
    text = lazy_gettext(message.message, reason=error)
    return ClerkUnavailableError(text, retry_after=error.retry_after, is_without_effect=True)


async def find_created_invitation(
    reader: ClerkReader, organization_id: ClerkId, email: str, mark: str
) -> dict[str, Any] | None:
    """Return the invitation that carries this mark, in any status."""
    listed = await reader.list_invitations(organization_id, statuses=ALL_STATUSES, email=email)
    found = next((it for it in listed if it.private_metadata.get(OPERATION_METADATA_KEY) == mark), None)
    return serialize_invitation(found) if found else None


# Resend


def make_resend_workflow(organizations: OrganizationsApi, reader: ClerkReader) -> Workflow[ResendIntent]:
    """Return the workflow that resends an invitation: revoke the old one, create the new one.

    The first step does nothing for an expired invitation. Between the steps the invitation is lost: from then on a
    failure of Clerk is retried, and a refusal needs a person.
    """

    async def revoke(operation: TypedOperation[ResendIntent]) -> JsonObject:
        if operation.intent.status == "expired":
            return _EMPTY_RESULT
        try:
            return serialize_invitation(await revoke_invitation(organizations, operation))
        except ClerkRejectedError as refusal:
            if refusal.code in _ENDED_CODES:
                return _EMPTY_RESULT
            raise

    async def find_revoked(operation: TypedOperation[ResendIntent]) -> JsonObject | None:
        """Return the revoked invitation. It was pending at first, so this operation revoked it."""
        if operation.intent.status == "expired":
            return _EMPTY_RESULT
        found = await fetch_invitation(organizations, operation)
        if found is None or found.status == "accepted":
            raise build_not_pending_error(found)
        if found.status == "expired":
            return _EMPTY_RESULT
        return serialize_invitation(found) if found.status == "revoked" else None

    async def create(operation: TypedOperation[ResendIntent]) -> JsonObject:
        organization_id, invitation = operation.intent.organization, _build_invitation(operation)
        if not is_lost(operation):
            return await create_invitation(organizations, reader, organization_id, invitation)
        return await create_invitation_or_retry_later(
            organizations, reader, organization_id, invitation, RESEND_RETRY_MESSAGE
        )

    async def find_created(operation: TypedOperation[ResendIntent]) -> JsonObject | None:
        intent = operation.intent
        return await find_created_invitation(reader, intent.organization, intent.email, operation.id)

    steps = [WorkflowStep("revoke", revoke, find_revoked), WorkflowStep("create", create, find_created)]
    return Workflow(
        ResendIntent, steps=steps, finalize=finalize_nothing, partial_failure_message=LOST_INVITATION_MESSAGE
    )


# Revoke


def make_revoke_workflow(organizations: OrganizationsApi) -> Workflow[RevokeIntent]:
    """Return the workflow that revokes an invitation."""

    async def revoke(operation: TypedOperation[RevokeIntent]) -> JsonObject:
        return serialize_invitation(await revoke_invitation(organizations, operation))

    async def find(operation: TypedOperation[RevokeIntent]) -> JsonObject | None:
        found = await fetch_invitation(organizations, operation)
        if found is None or found.status not in ("pending", "revoked"):
            raise build_not_pending_error(found)
        return serialize_invitation(found) if found.status == "revoked" else None

    return Workflow(RevokeIntent, steps=[WorkflowStep("revoke", revoke, find)], finalize=finalize_nothing)


async def revoke_invitation(
    organizations: OrganizationsApi, operation: TypedOperation[ResendIntent | RevokeIntent]
) -> ClerkInvitation:
    """Revoke the invitation of an operation.

    Raises:
        ClerkRejectedError: Clerk refused; with the code of the present status if the invitation was not pending.
    """
    intent = operation.intent
    organization_id, invitation_id = intent.organization, intent.invitation
    try:
        return await organizations.revoke_invitation(organization_id, invitation_id, revoked_by=intent.by)
    except ClerkRejectedError as refusal:
        if refusal.status != 404:
            raise
        try:
            found = await organizations.find_invitation(organization_id, invitation_id)
        except ClerkUnavailableError as error:
            raise make_retryable(error, STATUS_UNKNOWN_MESSAGE) from error
        raise build_not_pending_error(found, refusal=refusal) from refusal


async def fetch_invitation(
    organizations: OrganizationsApi, operation: TypedOperation[ResendIntent | RevokeIntent]
) -> ClerkInvitation | None:
    """Return the present state in Clerk of the invitation of an operation."""
    intent = operation.intent
    return await organizations.find_invitation(intent.organization, intent.invitation)


# Batches


def make_batch_workflows(
    organizations: OrganizationsApi, reader: ClerkReader, record_audit: Callable[[Conn, Operation], None]
) -> Workflows:
    """Return the workflows of a batch and of its parts. `record_audit` records a part that was inserted."""
    return {
        models.BATCH_KIND: Workflow(BatchIntent, steps=[], finalize=_make_batch_finalizer(record_audit)),
        models.BATCH_PART_KIND: _make_batch_part_workflow(organizations, reader),
    }


def _make_batch_finalizer(
    record_audit: Callable[[Conn, Operation], None],
) -> Callable[[Conn, TypedOperation[BatchIntent]], None]:
    def insert_parts(conn: Conn, operation: TypedOperation[BatchIntent]) -> None:
        """Insert an operation per ten rows, due when Clerk takes another bulk call."""
        now, intent = operation.asked_at, operation.intent
        parts = models.split_into_parts(intent.rows)
        planned_at = repository.list_bulk_call_times(conn, since=now - HOUR)
        starts = schedule_bulk_calls(planned_at, count=len(parts), now=now)
        for number, (rows, start) in enumerate(zip(parts, starts, strict=True)):
            request = OperationRequest(
                kind=models.BATCH_PART_KIND,
                target=models.get_batch_part_target(operation.id, number),
                actor=operation.actor,
                organization_id=operation.organization_id,
                request_id=operation.request_id,
                origin=operation.origin,
                impersonator=operation.impersonator,
                intent=encode_intent(
                    BatchPartIntent(**asdict(intent) | {"rows": rows, "batch": operation.id, "start_at": start})
                ),
            )
            inserted = insert_operation(conn, request, now=now, until=start)
            if inserted is not None:
                record_audit(conn, inserted)

    return insert_parts


def _make_batch_part_workflow(organizations: OrganizationsApi, reader: ClerkReader) -> Workflow[BatchPartIntent]:
    """Return the workflow that sends up to ten invitations.

    1. One bulk call. Clerk does not say whether it is all or nothing, so after a refusal the invitations that exist
       are read back by their marks.
    2. A call for each row that is still missing; Clerk's refusal of a row is recorded.
    """

    async def create_bulk(operation: TypedOperation[BatchPartIntent]) -> JsonObject:
        organization_id, invitations = operation.intent.organization, _build_part_invitations(operation)
        if len(invitations) == 1:
            return _EMPTY_RESULT
        try:
            return {
                "rows": _match_rows(invitations, await organizations.create_invitations(organization_id, invitations))
            }
        except ClerkRejectedError as refusal:
            if refusal.code in BATCH_FATAL_CODES:
                raise
        except ClerkUnavailableError as error:
            if error.is_without_effect:
                raise
            found = await find_bulk(operation)
            if found is None:
                raise make_retryable(error, BATCH_RETRY_MESSAGE) from error
            return found
        return await find_bulk(operation) or _EMPTY_RESULT

    async def find_bulk(operation: TypedOperation[BatchPartIntent]) -> JsonObject | None:
        organization_id, invitations = operation.intent.organization, _build_part_invitations(operation)
        listed = await reader.list_invitations(organization_id, statuses=ALL_STATUSES)
        rows = _match_rows(invitations, listed)
        return {"rows": rows} if any(rows) else None

    async def create_missing(operation: TypedOperation[BatchPartIntent]) -> JsonObject:
        organization_id, invitations = operation.intent.organization, _build_part_invitations(operation)
        created = operation.done["bulk"].get("rows") or [None] * len(invitations)
        if not all(created):
            listed = await reader.list_invitations(organization_id, statuses=ALL_STATUSES)
            found = _match_rows(invitations, listed)
            created = [one or other for one, other in zip(created, found, strict=True)]
        return {
            "rows": [
                row or await _create_batch_row(organizations, reader, organization_id, invitation)
                for row, invitation in zip(created, invitations, strict=True)
            ]
        }

    async def find_missing(_operation: TypedOperation[BatchPartIntent]) -> JsonObject | None:
        """Return None: `create_missing` itself looks for the invitations that exist."""
        return None

    steps = [WorkflowStep("bulk", create_bulk, find_bulk), WorkflowStep("rest", create_missing, find_missing)]
    return Workflow(
        BatchPartIntent, steps=steps, finalize=finalize_nothing, partial_failure_message=BATCH_INCOMPLETE_MESSAGE
    )


async def _create_batch_row(
    organizations: OrganizationsApi, reader: ClerkReader, organization_id: ClerkId, invitation: NewClerkInvitation
) -> dict[str, Any]:
    try:
        return await create_invitation_or_retry_later(
            organizations, reader, organization_id, invitation, BATCH_RETRY_MESSAGE
        )
    except ClerkRejectedError as refusal:
        if refusal.code in BATCH_FATAL_CODES:
            raise
        error = convert_clerk_error(refusal, email=invitation.email, role=invitation.role)
        return {"code": error.code, "reason": str(error)}


def _build_part_invitations(operation: TypedOperation[BatchPartIntent]) -> list[NewClerkInvitation]:
    """Build the invitations of a part, each marked with the operation's id and the number of its row."""
    intent = operation.intent
    return [
        NewClerkInvitation(
            email=row.email,
            role=row.role,
            expires_in_days=intent.expires_in_days,
            inviter=intent.inviter,
            redirect_url=intent.redirect_url,
            notify=intent.notify,
            private_metadata={
                **({models.NAME_METADATA_KEY: row.name} if row.name else {}),
                OPERATION_METADATA_KEY: f"{operation.id}:{row.n}",
            },
        )
        for row in intent.rows
    ]


def _match_rows(invitations: list[NewClerkInvitation], listed: list[ClerkInvitation]) -> list[Any]:
    by_mark = {it.private_metadata.get(OPERATION_METADATA_KEY): serialize_invitation(it) for it in listed}
    return [by_mark.get(it.private_metadata[OPERATION_METADATA_KEY]) for it in invitations]


# Application invitations


def make_application_workflows(applications: ApplicationInvitationsApi) -> Workflows:
    """Return the workflows that send, resend and revoke invitations to the application."""
    return {
        models.APPLICATION_INVITE_KIND: _make_application_invite_workflow(applications),
        models.APPLICATION_RESEND_KIND: _make_application_resend_workflow(applications),
        models.APPLICATION_REVOKE_KIND: _make_application_revoke_workflow(applications),
    }


def _make_application_invite_workflow(applications: ApplicationInvitationsApi) -> Workflow[ApplicationInviteIntent]:
    """Return the workflow that invites."""

    async def create(operation: TypedOperation[ApplicationInviteIntent]) -> JsonObject:
        intent = operation.intent
        invitation = NewClerkApplicationInvitation(
            email=intent.email,
            expires_in_days=intent.expires_in_days,
            redirect_url=intent.redirect_url,
            notify=intent.notify,
            public_metadata={**intent.public_metadata, OPERATION_METADATA_KEY: operation.id},
        )
        try:
            return serialize_application_invitation(await applications.create_application_invitation(invitation))
        except ClerkRejectedError as refusal:
            found = await find(operation) if refusal.code == APPLICATION_DUPLICATE_CODE else None
            if found is None:
                raise
            return found

    async def find(operation: TypedOperation[ApplicationInviteIntent]) -> JsonObject | None:
        listed = await _list_application_invitations(applications, operation.intent.email)
        found = (it for it in listed if it.public_metadata.get(OPERATION_METADATA_KEY) == operation.id)
        return next((serialize_application_invitation(it) for it in found), None)

    return Workflow(ApplicationInviteIntent, steps=[WorkflowStep("create", create, find)], finalize=finalize_nothing)


def _make_application_resend_workflow(applications: ApplicationInvitationsApi) -> Workflow[ApplicationResendIntent]:
    """Return the workflow that resends: revoke the old invitation unless it has expired, then create the new one."""

    async def revoke(operation: TypedOperation[ApplicationResendIntent]) -> JsonObject:
        if found := await find(operation):
            return found
        revoked = await applications.revoke_application_invitation(operation.intent.invitation)
        return serialize_application_invitation(revoked)

    async def find(operation: TypedOperation[ApplicationResendIntent]) -> JsonObject | None:
        return await _find_application_invitation(
            applications, operation.intent.invitation, statuses=("revoked", "expired")
        )

    return Workflow(
        ApplicationResendIntent,
        steps=[WorkflowStep("revoke", revoke, find), *_make_application_invite_workflow(applications).steps],
        finalize=finalize_nothing,
        partial_failure_message=LOST_INVITATION_MESSAGE,
    )


def _make_application_revoke_workflow(applications: ApplicationInvitationsApi) -> Workflow[ApplicationRevokeIntent]:
    """Return the workflow that revokes."""

    async def revoke(operation: TypedOperation[ApplicationRevokeIntent]) -> JsonObject:
        revoked = await applications.revoke_application_invitation(operation.intent.invitation)
        return serialize_application_invitation(revoked)

    async def find(operation: TypedOperation[ApplicationRevokeIntent]) -> JsonObject | None:
        return await _find_application_invitation(applications, operation.intent.invitation, statuses=("revoked",))

    return Workflow(ApplicationRevokeIntent, steps=[WorkflowStep("revoke", revoke, find)], finalize=finalize_nothing)


async def _find_application_invitation(
    applications: ApplicationInvitationsApi, invitation_id: ClerkId, *, statuses: tuple[str, ...]
) -> JsonObject | None:
    """Return an invitation if it is in one of these statuses; Clerk can only list, not read one."""
    listed = await _list_application_invitations(applications, invitation_id)
    found = (it for it in listed if it.clerk_id == invitation_id and it.status in statuses)
    return next((serialize_application_invitation(it) for it in found), None)


async def _list_application_invitations(
    applications: ApplicationInvitationsApi, query: str
) -> list[ClerkApplicationInvitation]:
    """Return the matching invitations in any status; Clerk lists revoked ones only on request."""
    listed = await applications.list_application_invitations(query=query)
    return listed + await applications.list_application_invitations(status="revoked", query=query)


# Results of steps, as stored with the operation; never with the secret link


def serialize_invitation(invitation: ClerkInvitation) -> dict[str, Any]:
    """Return the fields of an invitation that an operation stores."""
    return {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


def deserialize_invitation(result: JsonObject) -> ClerkInvitation:
    """Return the invitation from the fields of `serialize_invitation`."""
    return ClerkInvitation(
        clerk_id=ClerkId(result["id"]),
        email=result["email"],
        role=result["role"],
        status=result["status"],
        created_at=result["created_at"],
        expires_at=result["expires_at"],
    )


def serialize_application_invitation(invitation: ClerkApplicationInvitation) -> dict[str, Any]:
    """Return the fields of an application invitation that an operation stores."""
    return {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "status": invitation.status,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
        "public_metadata": invitation.public_metadata,
    }


def deserialize_application_invitation(result: JsonObject) -> ClerkApplicationInvitation:
    """Return the invitation from the fields of `serialize_application_invitation`."""
    fields = {name: value for name, value in result.items() if name != "id"}
    return ClerkApplicationInvitation(clerk_id=ClerkId(result["id"]), **fields)
