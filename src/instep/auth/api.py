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
    401: {"description": "Not signed in."},
    403: {"description": "Only instance admins can manage API keys."},
    404: {"description": "API key or organization not found."},
    503: {"description": "The database is unavailable."},
}


class ApiKeyCreate(BaseModel):
    """An API key to create. Without an organization it is valid for all of them."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
    scopes: Annotated[list[ApiKeyScope], Field(min_length=1)] = ["read"]
    organization: str | None = None


class ApiKey(BaseModel):
    """An API key. Its secret is shown only once, when it is created."""

    id: str
    name: str
    scopes: list[ApiKeyScope]
    organization_id: str | None
    created_by: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class ApiKeyWithSecret(ApiKey):
    """A new API key with its secret."""

    secret: str


class ApiKeyList(BaseModel):
    """All API keys, newest first."""

    data: list[ApiKey]


def make_router(*, principal: PrincipalResolver, access: AccessResolver, keys: ApiKeyService) -> APIRouter:
    """Create the routes of API keys. `principal` and `access` return the responses for 401 and 404."""
    router = InputLimitRouter(prefix="/v1/keys", tags=["keys"], responses=ERROR_RESPONSES)

    @router.get("", response_model=ApiKeyList, summary="List API keys", operation_id="listApiKeys")
    async def list_keys(request: Request) -> Any:
        """List all API keys, newest first, including revoked ones."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        return ApiKeyList(data=[_to_api_key(key) for key in await keys.list(caller)])

    @router.post(
        "", response_model=ApiKeyWithSecret, status_code=201, summary="Create an API key", operation_id="createApiKey"
    )
    async def create_key(request: Request, body: ApiKeyCreate) -> Any:
        """Create an API key. Its secret is only in this response."""
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        organization = await access(request, body.organization) if body.organization else None
        if isinstance(organization, Response):
            return organization
        organization_id = organization.organization_id if organization else None
        key, secret = await keys.create(
            caller, name=body.name, scopes=frozenset(body.scopes), organization_id=organization_id
        )
        return ApiKeyWithSecret(**_to_api_key(key).model_dump(), secret=secret)

    @router.delete("/{key_id}", response_model=ApiKey, summary="Revoke an API key", operation_id="revokeApiKey")
    async def revoke_key(request: Request, key_id: str) -> Any:
        """Revoke an API key. Takes effect immediately."""
        caller = await principal(request)
        return caller if isinstance(caller, Response) else _to_api_key(await keys.revoke(caller, key_id))

    return router


def _to_api_key(key: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=key.id,
        name=key.name,
        scopes=key.scopes.split(),  # type: ignore[arg-type]  # only scopes are stored
        organization_id=key.organization_id,
        created_by=key.created_by,
        created_at=to_iso(key.created_at) or "",
        last_used_at=to_iso(key.last_used_at),
        revoked_at=to_iso(key.revoked_at),
    )
