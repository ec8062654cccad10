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
    202: {"description": "Kept and under way: it is not known yet whether Clerk did it; `operation` tells the end."},
    401: {"description": "Nobody is signed in."},
    403: {"description": "Not yours to change. Nothing was changed."},
    404: {"description": "No such person, or not one you may see (`user_not_found`)."},
    409: {"description": "It can't be done as things stand. Nothing was changed."},
    422: {"description": "The input can't be used. Nothing was changed."},
    503: {"description": "Clerk did not answer or is not configured (`clerk_sync_failed`), or the database is down."},
}


def make_router(*, principal: PrincipalResolver, profiles: UserService) -> APIRouter:
    """The routes of people. `principal` answers 401 and 403 by itself; `{id}` is instep's id or Clerk's."""
    router = InputLimitRouter(prefix="/v1/users", tags=["users"], responses=ERROR_RESPONSES)
    _add_read_routes(router, principal, profiles)
    _add_edit_routes(router, principal, profiles)
    _add_email_routes(router, principal, profiles)
    _add_account_routes(router, principal, profiles)
    _add_session_routes(router, principal, profiles)
    return router


def _add_read_routes(router: APIRouter, principal: PrincipalResolver, profiles: UserService) -> None:
    @router.get("", response_model=UserList, summary="Everyone", operation_id="list_users")
    async def list_users(request: Request, wish: Annotated[UserListQuery, Query()]) -> Any:
        """Newest first; for instance admins."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return Response(encode_user_list(await profiles.users.list(who, wish.ask())), media_type="application/json")

    @router.get("/{id}", response_model=User, summary="One person", operation_id="get_user")
    async def get_user(request: Request, id: str) -> Any:
        """Instance admins see everything; others what the organizations that they share show."""
        who = await principal(request)
        return who if isinstance(who, Response) else make_user(await profiles.users.get(who, id))


def _add_edit_routes(router: APIRouter, principal: PrincipalResolver, profiles: UserService) -> None:
    @router.patch("/{id}", response_model=User | EmailChangeResult, summary="Edit a profile", operation_id="edit_user")
    async def edit_user(request: Request, id: str, body: UpdateUserRequest, key: IdempotencyKey = None) -> Any:
        """Clerk first, then the database; someone without a Clerk account in the database only.

        A new address of someone in Clerk goes by itself, and is a matter of the policy INSTEP_EMAIL_CHANGE: the answer
        says what has to happen.
        """
        who = await principal(request)
        if isinstance(who, Response):
            return who
        done = await profiles.edit(who, id, body.edit(), idempotency_key=key)
        return make_email_change_result(done) if isinstance(done, EmailChange) else make_user(done)

    @router.post("/{id}/password", response_model=User, summary="Set a password", operation_id="set_password")
    async def set_password(request: Request, id: str, body: SetPasswordRequest, key: IdempotencyKey = None) -> Any:
        """In Clerk only, by Clerk's rules; kept nowhere here. An outcome that nobody knows is a 409: set it again."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return make_user(await profiles.set_password(who, id, body.password.get_secret_value(), idempotency_key=key))


def _add_email_routes(router: APIRouter, principal: PrincipalResolver, profiles: UserService) -> None:
    @router.post(
        "/{id}/email", response_model=EmailChangeResult, summary="Change an address", operation_id="change_email"
    )
    async def change_email(request: Request, id: str, body: ChangeEmailRequest, key: IdempotencyKey = None) -> Any:
        """By the policy: the new address is invited and the old account deactivated, a code is sent to it, or it
        replaces the old one."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return make_email_change_result(await profiles.change_email(who, id, body.email, idempotency_key=key))

    @router.post(
        "/{id}/email/verify",
        response_model=EmailChangeResult,
        summary="Prove a new address",
        operation_id="verify_email",
    )
    async def verify_email(request: Request, id: str, body: VerifyEmailRequest, key: IdempotencyKey = None) -> Any:
        """By the code that was sent to it: it becomes the primary one, and the old one goes."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        code = body.code.get_secret_value()
        return make_email_change_result(
            await profiles.change_email.verify(who, id, body.verification, code, idempotency_key=key)
        )


def _add_account_routes(router: APIRouter, principal: PrincipalResolver, profiles: UserService) -> None:
    manage = profiles.manage

    @router.post("", response_model=User, status_code=201, summary="Make a person", operation_id="create_user")
    async def create_user(request: Request, body: CreateUserRequest, key: IdempotencyKey = None) -> Any:
        """With a Clerk account, whose external id is ours, or in the database only."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return make_user(await manage.create(who, body.profile(), in_clerk=body.clerk, idempotency_key=key))

    @router.delete("/{id}", response_model=User, summary="Delete a person", operation_id="delete_user")
    async def delete_user(
        request: Request, id: str, wish: Annotated[DeleteUserQuery, Query()], key: IdempotencyKey = None
    ) -> Any:
        """Softly: the row stays and can be restored."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return make_user(await manage.delete(who, id, clerk=wish.clerk, idempotency_key=key))

    @router.post("/{id}/restore", response_model=User, summary="Restore a person", operation_id="restore_user")
    async def restore_user(request: Request, id: str, key: IdempotencyKey = None) -> Any:
        """Without a Clerk account where Clerk has deleted theirs: they sign up again with the same address."""
        who = await principal(request)
        return who if isinstance(who, Response) else make_user(await manage.restore(who, id, idempotency_key=key))

    @router.post("/{id}/ban", response_model=User, summary="Ban a person", operation_id="ban_user")
    async def ban_user(request: Request, id: str, key: IdempotencyKey = None) -> Any:
        """`note` says so where Clerk's plan has no bans: deactivated here then, and signed out everywhere."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        banned, note = await manage.ban(who, id, idempotency_key=key)
        return make_user(banned, note=note)

    @router.post("/{id}/unban", response_model=User, summary="Let a person in again", operation_id="unban_user")
    async def unban_user(request: Request, id: str, key: IdempotencyKey = None) -> Any:
        """Lifts a ban, and a deactivation of the whole account."""
        who = await principal(request)
        return who if isinstance(who, Response) else make_user(await manage.unban(who, id, idempotency_key=key))


def _add_session_routes(router: APIRouter, principal: PrincipalResolver, profiles: UserService) -> None:
    @router.get(
        "/{id}/sessions",
        response_model=UserSessionList,
        summary="Open sessions of a person",
        operation_id="list_sessions",
    )
    async def list_sessions(request: Request, id: str) -> Any:
        """Read live from Clerk, the latest activity first; for instance admins, and of oneself."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return UserSessionList(data=[make_user_session(it) for it in await profiles.details.sessions(who, id)])

    @router.post(
        "/{id}/sessions/end", response_model=EndSessionsResult, summary="End sessions", operation_id="end_sessions"
    )
    async def end_sessions(request: Request, id: str, body: EndSessionsRequest, key: IdempotencyKey = None) -> Any:
        """One session, or all of them; in Clerk, and whatever hangs on them here."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        return EndSessionsResult(ended=(await profiles.end_sessions(who, id, body.session, idempotency_key=key)).count)
