"""REST API of API keys: `/v1/keys`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.auth.admin_scope import AccessResolver, PrincipalResolver
from instep.auth.api_keys import ApiKeyService
from instep.auth.repository import ApiKeyRow
from instep.core.clock import to_iso
from instep.core.request_limits import InputLimitRouter

ApiKeyScope = Literal["read", "write"]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "Only instance admins can manage keys."},
    404: {"description": "No such key or organization."},
    503: {"description": "The database can't be read."},
}


class ApiKeyCreate(BaseModel):
    """A key to be made; without an organization it is for all of them."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
    scopes: Annotated[list[ApiKeyScope], Field(min_length=1)] = ["read"]
    organization: str | None = None


class ApiKey(BaseModel):
    """A key; its secret is shown only when it is made."""

    id: str
    name: str
    scopes: list[ApiKeyScope]
    organization_id: str | None
    created_by: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class ApiKeyWithSecret(ApiKey):
    """A key that was made just now, with its secret."""

    secret: str


class ApiKeyList(BaseModel):
    """Every key, newest first."""

    data: list[ApiKey]


def make_router(*, principal: PrincipalResolver, access: AccessResolver, keys: ApiKeyService) -> APIRouter:
    """The routes of keys. `principal` and `access` answer 401 and 404 by themselves."""
    router = InputLimitRouter(prefix="/v1/keys", tags=["keys"], responses=ERROR_RESPONSES)

    @router.get("", response_model=ApiKeyList, summary="All keys")
    async def list_keys(request: Request) -> Any:
        """Newest first, revoked ones too."""
        who = await principal(request)
        return who if isinstance(who, Response) else ApiKeyList(data=[_to_api_key(it) for it in await keys.list(who)])

    @router.post("", response_model=ApiKeyWithSecret, status_code=201, summary="Make a key")
    async def create_key(request: Request, body: ApiKeyCreate) -> Any:
        """The secret is in this answer and nowhere else."""
        who = await principal(request)
        if isinstance(who, Response):
            return who
        bound = await access(request, body.organization) if body.organization else None
        if isinstance(bound, Response):
            return bound
        organization_id = bound.organization_id if bound else None
        key, secret = await keys.create(
            who, name=body.name, scopes=frozenset(body.scopes), organization_id=organization_id
        )
        return ApiKeyWithSecret(**_to_api_key(key).model_dump(), secret=secret)

    @router.delete("/{id}", response_model=ApiKey, summary="Revoke a key")
    async def revoke_key(request: Request, id: str) -> Any:
        """It ends at once."""
        who = await principal(request)
        return who if isinstance(who, Response) else _to_api_key(await keys.revoke(who, id))

    return router


def _to_api_key(it: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=it.id,
        name=it.name,
        scopes=it.scopes.split(),  # type: ignore[arg-type]  # only scopes are kept
        organization_id=it.organization_id,
        created_by=it.created_by,
        created_at=to_iso(it.created_at) or "",
        last_used_at=to_iso(it.last_used_at),
        revoked_at=to_iso(it.revoked_at),
    )
