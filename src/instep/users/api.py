"""REST routes of users: `/v1/users...`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from instep.auth.principal import Principal
from instep.core.request_limits import InputLimitRouter
from instep.users.models import EmailChange
from instep.users.schemas import (
    ChangeEmailRequest,
    CreateUserRequest,
    DeleteUserQuery,
    EmailChangeResult,
    EndSessionsRequest,
    EndSessionsResult,
    SetPasswordRequest,
    UpdateUserRequest,
    User,
    UserList,
    UserListQuery,
    UserSessionList,
    VerifyEmailRequest,
    encode_user_list,
    make_email_change_result,
    make_user,
    make_user_session,
)
from instep.users.service import UserService

PrincipalResolver = Callable[[Request], Awaitable[Principal | Response]]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "Accepted; the outcome in Clerk is not known yet. `operation` shows the result later."},
    401: {"description": "Not signed in."},
    403: {"description": "Not permitted. Nothing was changed."},
    404: {"description": "The user does not exist, or you may not see them (`user_not_found`)."},
    409: {"description": "Not possible in the present state. Nothing was changed."},
    422: {"description": "The input is not valid. Nothing was changed."},
    503: {"description": "Clerk did not answer or is not configured (`clerk_sync_failed`), or the database is down."},
}


def make_router(*, principal: PrincipalResolver, users: UserService) -> APIRouter:
    """Create the routes of users.

    `principal` returns the response itself for 401 and 403; `{user_id}` is instep's id or Clerk's.
    """
    router = InputLimitRouter(prefix="/v1/users", tags=["users"], responses=ERROR_RESPONSES)
    _add_read_routes(router, principal, users)
    _add_edit_routes(router, principal, users)
    _add_email_routes(router, principal, users)
    _add_account_routes(router, principal, users)
    _add_session_routes(router, principal, users)
    return router


def _add_read_routes(router: APIRouter, principal: PrincipalResolver, users: UserService) -> None:
    @router.get("", response_model=UserList, summary="List users", operation_id="listUsers")
    async def list_users(request: Request, query: Annotated[UserListQuery, Query()]) -> Any:
        """Newest first. For instance admins."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        result = await users.list(caller, query.to_filter())
        return Response(encode_user_list(result), media_type="application/json")

    @router.get("/{user_id}", response_model=User, summary="Get a user", operation_id="getUser")
    async def get_user(request: Request, user_id: str) -> Any:
        """Instance admins see all fields; others only the organizations that they share with the user."""
        caller = await principal(request)
        return caller if isinstance(caller, Response) else make_user(await users.get(caller, user_id))


def _add_edit_routes(router: APIRouter, principal: PrincipalResolver, users: UserService) -> None:
    @router.patch(
        "/{user_id}", response_model=User | EmailChangeResult, summary="Update a user", operation_id="updateUser"
    )
    async def update_user(request: Request, user_id: str, body: UpdateUserRequest, key: IdempotencyKey = None) -> Any:
        """Clerk first, then the database; users without a Clerk account in the database only.

        Change the address of a user in Clerk separately from other fields. It follows the policy INSTEP_EMAIL_CHANGE:
        the response names the step that is required first, if any.
        """
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        result = await users.edit_profile(caller, user_id, body.to_changes(), idempotency_key=key)
        return make_email_change_result(result) if isinstance(result, EmailChange) else make_user(result)

    @router.post(
        "/{user_id}/password", response_model=User, summary="Set a user's password", operation_id="setUserPassword"
    )
    async def set_password(request: Request, user_id: str, body: SetPasswordRequest, key: IdempotencyKey = None) -> Any:
        """In Clerk only, by Clerk's password rules; never stored here. An unknown outcome is a 409: set it again."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        password = body.password.get_secret_value()
        return make_user(await users.set_password(caller, user_id, password, idempotency_key=key))


def _add_email_routes(router: APIRouter, principal: PrincipalResolver, users: UserService) -> None:
    @router.post(
        "/{user_id}/email",
        response_model=EmailChangeResult,
        summary="Change a user's email address",
        operation_id="changeUserEmail",
    )
    async def change_email(request: Request, user_id: str, body: ChangeEmailRequest, key: IdempotencyKey = None) -> Any:
        """Depends on the policy: the new address is invited and the old account deactivated, a code is sent to it, or
        it replaces the old one."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return make_email_change_result(await users.change_email(caller, user_id, body.email, idempotency_key=key))

    @router.post(
        "/{user_id}/email/verify",
        response_model=EmailChangeResult,
        summary="Verify a user's new email address",
        operation_id="verifyUserEmail",
    )
    async def verify_email(request: Request, user_id: str, body: VerifyEmailRequest, key: IdempotencyKey = None) -> Any:
        """Takes the code that was sent to the address; it becomes the primary one and the old address is removed."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        code = body.code.get_secret_value()
        return make_email_change_result(
            await users.verify_email(caller, user_id, body.verification, code, idempotency_key=key)
        )


def _add_account_routes(router: APIRouter, principal: PrincipalResolver, users: UserService) -> None:
    @router.post("", response_model=User, status_code=201, summary="Create a user", operation_id="createUser")
    async def create_user(request: Request, body: CreateUserRequest, key: IdempotencyKey = None) -> Any:
        """With a Clerk account, whose external id is our id, or in the database only."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return make_user(await users.create(caller, body.to_changes(), in_clerk=body.clerk, idempotency_key=key))

    @router.delete("/{user_id}", response_model=User, summary="Delete a user", operation_id="deleteUser")
    async def delete_user(
        request: Request, user_id: str, query: Annotated[DeleteUserQuery, Query()], key: IdempotencyKey = None
    ) -> Any:
        """A soft delete: the row stays and can be restored."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return make_user(await users.delete(caller, user_id, clerk=query.clerk, idempotency_key=key))

    @router.post("/{user_id}/restore", response_model=User, summary="Restore a user", operation_id="restoreUser")
    async def restore_user(request: Request, user_id: str, key: IdempotencyKey = None) -> Any:
        """Without a Clerk account where Clerk has deleted it: the user signs up again with the same address."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return make_user(await users.restore(caller, user_id, idempotency_key=key))

    @router.post("/{user_id}/ban", response_model=User, summary="Ban a user", operation_id="banUser")
    async def ban_user(request: Request, user_id: str, key: IdempotencyKey = None) -> Any:
        """Without bans in Clerk's plan the user is deactivated here and signed out everywhere; see `note`."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        profile, note = await users.ban(caller, user_id, idempotency_key=key)
        return make_user(profile, note=note)

    @router.post("/{user_id}/unban", response_model=User, summary="Unban a user", operation_id="unbanUser")
    async def unban_user(request: Request, user_id: str, key: IdempotencyKey = None) -> Any:
        """Lifts a ban, and a deactivation of the whole account."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return make_user(await users.unban(caller, user_id, idempotency_key=key))


def _add_session_routes(router: APIRouter, principal: PrincipalResolver, users: UserService) -> None:
    @router.get(
        "/{user_id}/sessions",
        response_model=UserSessionList,
        summary="List a user's sessions",
        operation_id="listUserSessions",
    )
    async def list_sessions(request: Request, user_id: str) -> Any:
        """Active sessions, read live from Clerk, latest activity first. For instance admins and for oneself."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        sessions = await users.list_sessions(caller, user_id)
        return UserSessionList(data=[make_user_session(session) for session in sessions])

    @router.post(
        "/{user_id}/sessions/end",
        response_model=EndSessionsResult,
        summary="Revoke a user's sessions",
        operation_id="revokeUserSessions",
    )
    async def revoke_sessions(
        request: Request, user_id: str, body: EndSessionsRequest, key: IdempotencyKey = None
    ) -> Any:
        """One session or all of them, in Clerk and here."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        ended = await users.revoke_sessions(caller, user_id, body.session, idempotency_key=key)
        return EndSessionsResult(ended=ended.count)
