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
    """The keys of this installation. `noted` writes the audit: who, what ("created", "revoked"), and the key."""

    db: Database
    record_audit: Callable[[Conn, Principal, str, ApiKeyRow], None]
    clock: Clock

    async def create(
        self, by: Principal, *, name: str, scopes: frozenset[str], organization_id: str | None
    ) -> tuple[ApiKeyRow, str]:
        """A new key and its secret, which is nowhere else. Raises Refused unless `by` is an instance admin."""
        _require_instance_admin(by)
        if not scopes or not scopes <= set(API_KEY_SCOPES):
            raise ChangeRejectedError(
                lazy_gettext("Scopes are of: %(value)s.", value=", ".join(API_KEY_SCOPES)),
                code="unknown_scope",
                field="scopes",
            )
        secret = API_KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKeyRow(
            id=new_id("key"),
            name=name,
            scopes=" ".join(sorted(scopes)),
            organization_id=organization_id,
            created_by=by.id,
            created_at=self.clock(),
            last_used_at=None,
            revoked_at=None,
        )
        await self.db.write(self._create, by, key, _hash_secret(secret))
        return key, secret

    async def list(self, by: Principal) -> list[ApiKeyRow]:
        """Every key, newest first. Raises Refused unless `by` is an instance admin."""
        _require_instance_admin(by)
        return await self.db.read(repository.list_api_keys)

    async def revoke(self, by: Principal, id: str) -> ApiKeyRow:
        """End a key, at once. Raises Refused unless `by` is an instance admin and the key is there."""
        _require_instance_admin(by)
        ended = await self.db.write(self._revoke, by, id)
        if ended is None:
            raise ChangeRejectedError("There is no such key, or it has ended.", code="key_not_found", status=NOT_FOUND)
        return ended

    async def find(self, secret: str) -> Principal | None:
        """Who holds this key; None where it is none, or revoked. Its use is noted once a minute, if it can be."""
        key = await self.db.read(repository.find_api_key, key_hash=_hash_secret(secret))
        if key is None:
            return None
        at = self.clock()
        if key.last_used_at is None or not is_recent(key.last_used_at, at, MINUTE):
            await self.db.write_best_effort(repository.record_api_key_use, id=key.id, at=at)
        return Principal(
            kind="api_key",
            name=key.name,
            key_id=key.id,
            is_instance_admin=key.organization_id is None,
            scopes=frozenset(key.scopes.split()),
            only=key.organization_id,
        )

    def _create(self, conn: Conn, by: Principal, key: ApiKeyRow, key_hash: str) -> None:
        repository.insert_api_key(conn, key, key_hash=key_hash)
        self.record_audit(conn, by, "created", key)

    def _revoke(self, conn: Conn, by: Principal, id: str) -> ApiKeyRow | None:
        ended = repository.revoke_api_key(conn, id=id, at=self.clock())
        if ended is not None:
            self.record_audit(conn, by, "revoked", ended)
        return ended


def _require_instance_admin(by: Principal) -> None:
    if not by.is_instance_admin or by.kind == "api_key":
        raise ChangeRejectedError("Only instance admins can manage keys.", code="forbidden", status=FORBIDDEN)


def _hash_secret(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
