"""What somebody may change who acts as another person (`act` in the session token). One place decides."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request

from instep.access.principal import Principal, gives_rights
from instep.access.store import find_access
from instep.identity.refusals import FORBIDDEN, Refused
from instep.kit.clock import MINUTE, Clock
from instep.kit.db import Conn, Db

ImpersonationPolicy = Literal["refuse", "safe", "allow"]
CODE = "impersonation"
READ = "impersonation.read"
OTHER = "impersonation.change"
READING = ("GET", "HEAD", "OPTIONS")
LONGEST_PATH = 200  # characters of a path in the audit
MOST_REMEMBERED = 1_000  # pairs of people
_ORGANIZATION = r"(?:/v1)?/organizations/[^/]+"
_ORGANIZATION_OF = re.compile(r"(?:/v1)?/organizations/([^/]+)")
_USER = r"(?:(?:/v1)?/users/[^/]+|/organizations/[^/]+/members/[^/]+)"
SAFE_REQUESTS: tuple[tuple[str, str], ...] = (
    (rf"POST {_ORGANIZATION}/invitations", "invitation.send"),
    (rf"POST {_ORGANIZATION}/invitations/preview", "invitation.preview"),
    (r"POST /organizations/[^/]+/invitations/lost/[^/]+/again", "invitation.resend"),
    (rf"POST {_ORGANIZATION}/invitations/[^/]+/resend", "invitation.resend"),
    (rf"POST {_ORGANIZATION}/invitations/[^/]+/revoke", "invitation.revoke"),
    (r"POST /organizations/[^/]+/invitations/[^/]+/link", "invitation.link_copied"),
    (r"POST (?:/v1)?/invitations", "application.invite"),
    (r"POST (?:/v1)?/invitations/[^/]+/resend", "application.resend"),
    (r"POST (?:/v1)?/invitations/[^/]+/revoke", "application.revoke"),
    (r"POST (?:/v1)?/users", "user.create"),
    (r"PATCH /v1/users/[^/]+", "profile.edit"),
    (rf"POST {_USER}/edit", "profile.edit"),
    (r"POST (?:/v1)?/sync/(?:check|changed|plan|plans)", "sync.check"),
    (r"POST (?:/v1)?/deliveries/[^/]+/replay", "delivery.replay"),
)


"""Changes that pass under `safe`: they take nothing from anybody and give nobody rights. All others are blocked."""


BLOCKED_REQUESTS: tuple[tuple[str, str], ...] = (
    (rf"POST {_ORGANIZATION}/members/bulk", "member.bulk"),
    (r"POST /organizations/[^/]+/invitations/(?:bulk|many)", "invitation.batch"),
    (r"PATCH /v1/organizations/[^/]+/members/[^/]+", "member.role"),
    (r"DELETE /v1/organizations/[^/]+/members/[^/]+", "member.remove"),
    (rf"POST {_ORGANIZATION}/members/[^/]+/role", "member.role"),
    (rf"POST {_USER}/sessions/end", "user.sessions"),
    (rf"POST {_ORGANIZATION}/members/[^/]+/deactivate", "member.deactivate"),
    (rf"POST {_ORGANIZATION}/members/[^/]+/reactivate", "member.reactivate"),
    (rf"POST {_ORGANIZATION}/members/[^/]+/remove", "member.remove"),
    (rf"POST {_ORGANIZATION}/members/[^/]+/restore", "member.restore"),
    (rf"POST {_ORGANIZATION}/leave", "member.leave"),
    (rf"POST {_ORGANIZATION}/transfer", "member.transfer"),
    (r"POST (?:/v1)?/users/[^/]+/email(?:/.*)?", "profile.email"),
    (r"POST (?:/v1)?/users/[^/]+/ban", "user.ban"),
    (r"POST (?:/v1)?/users/[^/]+/unban", "user.unban"),
    (r"POST /users/[^/]+/delete", "user.delete"),
    (r"DELETE /v1/users/[^/]+", "user.delete"),
    (r"POST (?:/v1)?/users/[^/]+/restore", "user.restore"),
    (r"POST (?:/v1)?/users/[^/]+/password", "user.password"),
    (r"POST (?:/v1)?/keys", "key.created"),
    (r"POST /keys/[^/]+/revoke", "key.revoked"),
    (r"DELETE /v1/keys/[^/]+", "key.revoked"),
    (r"POST /sync/first", "sync.first"),
    (r"POST (?:/v1/sync/plans|/sync/runs)/[^/]+/apply", "sync.apply"),
    (r"POST /sync/runs/[^/]+/withdraw", "sync.withdraw"),
    (r"POST /deliveries/replay", "delivery.replay"),
    (r"POST (?:/v1)?(?:/organizations/[^/]+)?/operations/[^/]+/retry", "operation.retry"),
    (r"POST (?:/v1)?(?:/organizations/[^/]+)?/operations/[^/]+/give-up", "operation.give_up"),
)


"""The other changes, so that the audit names what was tried. One that is in neither list is blocked as well."""


SAFE_FIELDS = frozenset({"first_name", "last_name", "username"})
SAFE_OPERATIONS = frozenset(
    {
        "invitation.send",
        "invitation.resend",
        "invitation.revoke",
        "application.invite",
        "application.resend",
        "application.revoke",
        "profile.edit",
        "user.create",
    }
)
WORDS = "You act as somebody else. This change is blocked while you do. Nothing was changed."
SWITCHED_OFF = "Acting as somebody else is switched off here. Nothing was changed."


def _compiled(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), action) for pattern, action in rows)


_BLOCKED, _SAFE = _compiled(BLOCKED_REQUESTS), _compiled(SAFE_REQUESTS)


def blocked_request(policy: ImpersonationPolicy, method: str, path: str) -> str | None:
    """Return the action that a request is blocked for; None where it passes. Pure."""
    if policy == "allow":
        return None
    is_reading = method in READING
    if is_reading:
        return READ if policy == "refuse" else None
    asked = f"{method} {path.rstrip('/') or '/'}"
    blocked = next((action for pattern, action in _BLOCKED if pattern.fullmatch(asked)), None)
    safe = next((action for pattern, action in _SAFE if pattern.fullmatch(asked)), None)
    if blocked is None and safe is not None:
        return safe if policy == "refuse" else None
    return blocked or OTHER


def blocked_operation(policy: ImpersonationPolicy, kind: str, intent: Mapping[str, Any]) -> str | None:
    """Return the action that an operation is blocked for, by what its request carried; None where it passes. Pure.

    An address, metadata, and a role in the application stand in a body, where the request alone does not show them.
    """
    if policy == "allow":
        return None
    if policy == "refuse" or kind not in SAFE_OPERATIONS:
        return kind
    profile = intent.get("profile") or {}
    if kind == "profile.edit" and not SAFE_FIELDS.issuperset(profile):
        return "profile.email" if "email" in profile else kind
    is_above = gives_rights(profile.get("public_metadata") or intent.get("public_metadata"))
    return kind if is_above else None


class Attempt(Struct, frozen=True, kw_only=True):
    """A refused attempt, for the audit. `target` is the path that was asked for, or what was to be changed."""

    actor: str
    action: str
    target: str
    policy: ImpersonationPolicy
    organization_id: str | None = None
    impersonator: str | None = None


@dataclass(frozen=True)
class Impersonation:
    """Applies the policy, and has each refused attempt audited by `noted`.

    Refused reads of the same two people are audited once a minute: `recent` remembers when.
    """

    db: Db
    clock: Clock
    policy: ImpersonationPolicy = "safe"
    noted: Callable[[Conn, Attempt], None] = lambda conn, attempt: None
    recent: dict[str, int] = field(default_factory=dict)

    async def judge(self, request: Request, principal: Principal) -> Refused | None:
        """Return why a request is refused because its sender acts as somebody else; None where it is not.

        Raises DatabaseDown where the attempt can't be audited.
        """
        if principal.actor is None:
            return None
        path = _path_of(request)
        action = blocked_request(self.policy, request.method, path)
        if action is None:
            return None
        if not hasattr(request.state, "instep_impersonation"):
            if action != READ or self._is_new(principal):
                await self.db.write(self._note, principal, action=action, path=path)
            request.state.instep_impersonation = self._refusal(action)
        found: Refused = request.state.instep_impersonation
        return found

    async def permit(
        self, actor: str, kind: str, intent: Mapping[str, Any], *, target: str, organization_id: str | None
    ) -> None:
        """Check an operation that somebody asks for as `actor`. Raises Refused (403) where it is blocked."""
        action = blocked_operation(self.policy, kind, intent)
        if action is None:
            return
        attempt = Attempt(
            actor=actor, action=action, target=target, policy=self.policy, organization_id=organization_id
        )
        await self.db.write(self.noted, attempt)
        raise self._refusal(action)

    def _note(self, conn: Conn, principal: Principal, *, action: str, path: str) -> None:
        found = _ORGANIZATION_OF.match(path)
        access = find_access(conn, principal, found[1]) if found else None
        attempt = Attempt(
            actor=principal.id,
            impersonator=principal.actor,
            action=action,
            target=(path if path.isprintable() else ascii(path))[:LONGEST_PATH],
            policy=self.policy,
            organization_id=access.organization_id if access else None,
        )
        self.noted(conn, attempt)

    def _refusal(self, action: str) -> Refused:
        words = WORDS if self.policy == "safe" else SWITCHED_OFF
        return Refused(words, code=CODE, status=FORBIDDEN)

    def _is_new(self, principal: Principal) -> bool:
        """Return whether a refused read is the first one of these two people in a minute."""
        at, pair = self.clock(), f"{principal.actor} {principal.id}"
        before = self.recent.get(pair)
        if before is not None and 0 <= at - before < MINUTE:
            return False
        if len(self.recent) >= MOST_REMEMBERED:
            self.recent.clear()
        self.recent[pair] = at
        return True


def _path_of(request: Request) -> str:
    """Return the path below the address that the application is mounted at."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path") or "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path
