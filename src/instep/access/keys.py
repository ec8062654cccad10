"""API keys: made once, shown once, kept as a hash, each with scopes, and revocable."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from instep.access import store
from instep.access.principal import Principal
from instep.access.store import KeyRow
from instep.identity.refusals import FORBIDDEN, NOT_FOUND, Refused
from instep.kit.clock import MINUTE, Clock, is_within
from instep.kit.db import Conn, Db
from instep.kit.ids import new_id
from instep.kit.said import said

PREFIX = "isk_"
SCOPES = ("read", "write")


@dataclass(frozen=True)
class ApiKeys:
    """The keys of this installation. `noted` writes the audit: who, what ("created", "revoked"), and the key."""

    db: Db
    noted: Callable[[Conn, Principal, str, KeyRow], None]
    clock: Clock

    async def create(
        self, by: Principal, *, name: str, scopes: frozenset[str], organization_id: str | None
    ) -> tuple[KeyRow, str]:
        """A new key and its secret, which is nowhere else. Raises Refused unless `by` is an instance admin."""
        _require_admin(by)
        if not scopes or not scopes <= set(SCOPES):
            raise Refused(
                said("Scopes are of: %(value)s.", value=", ".join(SCOPES)), code="unknown_scope", field="scopes"
            )
        secret = PREFIX + secrets.token_urlsafe(32)
        key = KeyRow(
            id=new_id("key"),
            name=name,
            scopes=" ".join(sorted(scopes)),
            organization_id=organization_id,
            created_by=by.id,
            created_at=self.clock(),
            last_used_at=None,
            revoked_at=None,
        )
        await self.db.write(self._create, by, key, _hash(secret))
        return key, secret

    async def list(self, by: Principal) -> list[KeyRow]:
        """Every key, newest first. Raises Refused unless `by` is an instance admin."""
        _require_admin(by)
        return await self.db.read(store.list_keys)

    async def revoke(self, by: Principal, id: str) -> KeyRow:
        """End a key, at once. Raises Refused unless `by` is an instance admin and the key is there."""
        _require_admin(by)
        ended = await self.db.write(self._revoke, by, id)
        if ended is None:
            raise Refused("There is no such key, or it has ended.", code="key_not_found", status=NOT_FOUND)
        return ended

    async def find(self, secret: str) -> Principal | None:
        """Who holds this key; None where it is none, or revoked. Its use is noted once a minute, if it can be."""
        key = await self.db.read(store.find_key, key_hash=_hash(secret))
        if key is None:
            return None
        at = self.clock()
        if key.last_used_at is None or not is_within(key.last_used_at, at, MINUTE):
            await self.db.write_optional(store.note_use, id=key.id, at=at)
        return Principal(
            kind="api_key",
            name=key.name,
            key_id=key.id,
            is_instance_admin=key.organization_id is None,
            scopes=frozenset(key.scopes.split()),
            only=key.organization_id,
        )

    def _create(self, conn: Conn, by: Principal, key: KeyRow, key_hash: str) -> None:
        store.put_key(conn, key, key_hash=key_hash)
        self.noted(conn, by, "created", key)

    def _revoke(self, conn: Conn, by: Principal, id: str) -> KeyRow | None:
        ended = store.revoke_key(conn, id=id, at=self.clock())
        if ended is not None:
            self.noted(conn, by, "revoked", ended)
        return ended


def _require_admin(by: Principal) -> None:
    if not by.is_instance_admin or by.kind == "api_key":
        raise Refused("Only instance admins can manage keys.", code="forbidden", status=FORBIDDEN)


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
