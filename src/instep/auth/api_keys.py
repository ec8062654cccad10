"""Create, list, revoke and look up API keys."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from instep.auth import repository
from instep.auth.principal import Principal
from instep.auth.repository import ApiKeyRow
from instep.core.clock import MINUTE, Clock, is_recent
from instep.core.db import Conn, Database
from instep.core.i18n import lazy_gettext
from instep.core.ids import new_id
from instep.domain.errors import FORBIDDEN, NOT_FOUND, ChangeRejectedError

API_KEY_PREFIX = "isk_"
API_KEY_SCOPES = ("read", "write")


@dataclass(frozen=True)
class ApiKeyService:
    """Create, list, revoke and find API keys.

    `record_audit` writes the audit entry in the same transaction: principal, action ("created", "revoked"), key.
    """

    db: Database
    record_audit: Callable[[Conn, Principal, str, ApiKeyRow], None]
    clock: Clock

    async def create(
        self, principal: Principal, *, name: str, scopes: frozenset[str], organization_id: str | None
    ) -> tuple[ApiKeyRow, str]:
        """Create an API key; return it with its secret, which is stored only as a hash.

        Raises ChangeRejectedError unless the principal is an instance admin and the scopes exist.
        """
        _require_instance_admin(principal)
        if not scopes or not scopes <= set(API_KEY_SCOPES):
            raise ChangeRejectedError(
                lazy_gettext("Scopes must be among: %(scopes)s.", scopes=", ".join(API_KEY_SCOPES)),
                code="unknown_scope",
                field="scopes",
            )
        secret = API_KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKeyRow(
            id=new_id("key"),
            name=name,
            scopes=" ".join(sorted(scopes)),
            organization_id=organization_id,
            created_by=principal.id,
            created_at=self.clock(),
            last_used_at=None,
            revoked_at=None,
        )
        await self.db.write(self._create, principal, key, _hash_secret(secret))
        return key, secret

    async def list(self, principal: Principal) -> list[ApiKeyRow]:
        """Return all keys, newest first. Raises ChangeRejectedError unless the principal is an instance admin."""
        _require_instance_admin(principal)
        return await self.db.read(repository.list_api_keys)

    async def revoke(self, principal: Principal, key_id: str) -> ApiKeyRow:
        """Revoke a key. Raises ChangeRejectedError unless the principal is an instance admin and the key is active."""
        _require_instance_admin(principal)
        revoked = await self.db.write(self._revoke, principal, key_id)
        if revoked is None:
            raise ChangeRejectedError(
                lazy_gettext("This API key does not exist or is already revoked."),
                code="key_not_found",
                status=NOT_FOUND,
            )
        return revoked

    async def find(self, secret: str) -> Principal | None:
        """Return the principal of an active key, else None. Its use is recorded once a minute, if possible."""
        key = await self.db.read(repository.find_api_key, key_hash=_hash_secret(secret))
        if key is None:
            return None
        now = self.clock()
        if key.last_used_at is None or not is_recent(key.last_used_at, now, MINUTE):
            await self.db.write_best_effort(repository.record_api_key_use, key_id=key.id, at=now)
        return Principal(
            kind="api_key",
            name=key.name,
            key_id=key.id,
            is_instance_admin=key.organization_id is None,
            scopes=frozenset(key.scopes.split()),
            bound_organization_id=key.organization_id,
        )

    def _create(self, conn: Conn, principal: Principal, key: ApiKeyRow, key_hash: str) -> None:
        repository.insert_api_key(conn, key, key_hash=key_hash)
        self.record_audit(conn, principal, "created", key)

    def _revoke(self, conn: Conn, principal: Principal, key_id: str) -> ApiKeyRow | None:
        revoked = repository.revoke_api_key(conn, key_id=key_id, at=self.clock())
        if revoked is not None:
            self.record_audit(conn, principal, "revoked", revoked)
        return revoked


def _require_instance_admin(principal: Principal) -> None:
    if not principal.is_instance_admin or principal.kind == "api_key":
        raise ChangeRejectedError(
            lazy_gettext("Only instance admins can manage API keys."), code="forbidden", status=FORBIDDEN
        )


def _hash_secret(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
