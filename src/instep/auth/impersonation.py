"""Restrict what an impersonating user may read and change."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request

from instep.auth.principal import Principal, grants_instance_admin
from instep.auth.repository import find_access
from instep.core.clock import MINUTE, Clock
from instep.core.db import Conn, Database
from instep.core.i18n import lazy_gettext
from instep.domain.errors import FORBIDDEN, ChangeRejectedError

ImpersonationPolicy = Literal["refuse", "safe", "allow"]
IMPERSONATION_CODE = "impersonation"
READ_ACTION = "impersonation.read"
OTHER_ACTION = "impersonation.change"
READ_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_AUDITED_PATH_LENGTH = 200  # characters of a path in the audit
MAX_REMEMBERED_PAIRS = 1_000  # pairs of people
_ORGANIZATION_PATH = r"(?:/v1)?/organizations/[^/]+"
_ORGANIZATION_REFERENCE = re.compile(r"(?:/v1)?/organizations/([^/]+)")
_USER_PATH = r"(?:(?:/v1)?/users/[^/]+|/organizations/[^/]+/members/[^/]+)"
# Changes allowed by `safe`: they remove nothing and grant no rights. All others are blocked.
SAFE_REQUESTS: tuple[tuple[str, str], ...] = (
    (rf"POST {_ORGANIZATION_PATH}/invitations", "invitation.send"),
    (rf"POST {_ORGANIZATION_PATH}/invitations/preview", "invitation.preview"),
    (r"POST /organizations/[^/]+/invitations/lost/[^/]+/again", "invitation.resend"),
    (rf"POST {_ORGANIZATION_PATH}/invitations/[^/]+/resend", "invitation.resend"),
    (rf"POST {_ORGANIZATION_PATH}/invitations/[^/]+/revoke", "invitation.revoke"),
    (r"POST /organizations/[^/]+/invitations/[^/]+/link", "invitation.link_copied"),
    (r"POST (?:/v1)?/invitations", "application.invite"),
    (r"POST (?:/v1)?/invitations/[^/]+/resend", "application.resend"),
    (r"POST (?:/v1)?/invitations/[^/]+/revoke", "application.revoke"),
    (r"POST (?:/v1)?/users", "user.create"),
    (r"PATCH /v1/users/[^/]+", "profile.edit"),
    (rf"POST {_USER_PATH}/edit", "profile.edit"),
    (r"POST (?:/v1)?/sync/(?:check|changed|plan|plans)", "sync.check"),
    (r"POST (?:/v1)?/deliveries/[^/]+/replay", "delivery.replay"),
)
# The other changes, so that the audit has their action. A change in neither list is blocked as well.
BLOCKED_REQUESTS: tuple[tuple[str, str], ...] = (
    (rf"POST {_ORGANIZATION_PATH}/members/bulk", "member.bulk"),
    (r"POST /organizations/[^/]+/invitations/(?:bulk|many)", "invitation.batch"),
    (r"PATCH /v1/organizations/[^/]+/members/[^/]+", "member.role"),
    (r"DELETE /v1/organizations/[^/]+/members/[^/]+", "member.remove"),
    (rf"POST {_ORGANIZATION_PATH}/members/[^/]+/role", "member.role"),
    (rf"POST {_USER_PATH}/sessions/end", "user.sessions"),
    (rf"POST {_ORGANIZATION_PATH}/members/[^/]+/deactivate", "member.deactivate"),
    (rf"POST {_ORGANIZATION_PATH}/members/[^/]+/reactivate", "member.reactivate"),
    (rf"POST {_ORGANIZATION_PATH}/members/[^/]+/remove", "member.remove"),
    (rf"POST {_ORGANIZATION_PATH}/members/[^/]+/restore", "member.restore"),
    (rf"POST {_ORGANIZATION_PATH}/leave", "member.leave"),
    (rf"POST {_ORGANIZATION_PATH}/transfer", "member.transfer"),
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
BLOCKED_MESSAGE = lazy_gettext("This change is blocked while you impersonate someone. Nothing was changed.")
DISABLED_MESSAGE = lazy_gettext("Impersonation is disabled here. Nothing was changed.")


def _compile_patterns(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), action) for pattern, action in rows)


_BLOCKED_PATTERNS, _SAFE_PATTERNS = _compile_patterns(BLOCKED_REQUESTS), _compile_patterns(SAFE_REQUESTS)


def find_blocked_request(policy: ImpersonationPolicy, method: str, path: str) -> str | None:
    """Return the action for which a request is blocked; None if it is allowed. Pure."""
    if policy == "allow":
        return None
    is_reading = method in READ_METHODS
    if is_reading:
        return READ_ACTION if policy == "refuse" else None
    request_line = f"{method} {path.rstrip('/') or '/'}"
    blocked = next((action for pattern, action in _BLOCKED_PATTERNS if pattern.fullmatch(request_line)), None)
    safe = next((action for pattern, action in _SAFE_PATTERNS if pattern.fullmatch(request_line)), None)
    if blocked is None and safe is not None:
        return safe if policy == "refuse" else None
    return blocked or OTHER_ACTION


def find_blocked_operation(policy: ImpersonationPolicy, kind: str, intent: Mapping[str, Any]) -> str | None:
    """Return the action for which an operation is blocked by its content; None if it is allowed. Pure.

    An address, metadata, and a role in the application are in the body, so that the request line does not show them.
    """
    if policy == "allow":
        return None
    if policy == "refuse" or kind not in SAFE_OPERATIONS:
        return kind
    profile = intent.get("profile") or {}
    if kind == "profile.edit" and not SAFE_FIELDS.issuperset(profile):
        return "profile.email" if "email" in profile else kind
    grants_admin = grants_instance_admin(profile.get("public_metadata") or intent.get("public_metadata"))
    return kind if grants_admin else None


class ImpersonationAttempt(Struct, frozen=True, kw_only=True):
    """A blocked attempt, for the audit. `target` is the requested path or the object to change."""

    actor: str
    action: str
    target: str
    policy: ImpersonationPolicy
    organization_id: str | None = None
    impersonator: str | None = None


@dataclass(frozen=True)
class ImpersonationGuard:
    """Applies the policy and records blocked attempts with `record_audit`.

    Blocked reads of the same two people are recorded once a minute: `recent` has the times.
    """

    db: Database
    clock: Clock
    policy: ImpersonationPolicy = "safe"
    record_audit: Callable[[Conn, ImpersonationAttempt], None] = lambda conn, attempt: None
    recent: dict[str, int] = field(default_factory=dict)

    async def check_request(self, request: Request, principal: Principal) -> ChangeRejectedError | None:
        """Return the error if impersonation blocks this request; None if it is allowed.

        Raises DatabaseUnavailableError if the attempt can't be recorded.
        """
        if principal.actor is None:
            return None
        path = _get_path(request)
        action = find_blocked_request(self.policy, request.method, path)
        if action is None:
            return None
        if not hasattr(request.state, "instep_impersonation"):
            if action != READ_ACTION or self._should_record_read(principal):
                await self.db.write(self._record_attempt, principal, action=action, path=path)
            request.state.instep_impersonation = self._make_error(action)
        error: ChangeRejectedError = request.state.instep_impersonation
        return error

    async def check_operation(
        self, actor: str, kind: str, intent: Mapping[str, Any], *, target: str, organization_id: str | None
    ) -> None:
        """Check an operation that is requested by `actor`. Raises ChangeRejectedError (403) if it is blocked."""
        action = find_blocked_operation(self.policy, kind, intent)
        if action is None:
            return
        attempt = ImpersonationAttempt(
            actor=actor, action=action, target=target, policy=self.policy, organization_id=organization_id
        )
        await self.db.write(self.record_audit, attempt)
        raise self._make_error(action)

    def _record_attempt(self, conn: Conn, principal: Principal, *, action: str, path: str) -> None:
        match = _ORGANIZATION_REFERENCE.match(path)
        access = find_access(conn, principal, match[1]) if match else None
        attempt = ImpersonationAttempt(
            actor=principal.id,
            impersonator=principal.actor,
            action=action,
            target=(path if path.isprintable() else ascii(path))[:MAX_AUDITED_PATH_LENGTH],
            policy=self.policy,
            organization_id=access.organization_id if access else None,
        )
        self.record_audit(conn, attempt)

    def _make_error(self, action: str) -> ChangeRejectedError:
        message = BLOCKED_MESSAGE if self.policy == "safe" else DISABLED_MESSAGE
        return ChangeRejectedError(message, code=IMPERSONATION_CODE, status=FORBIDDEN)

    def _should_record_read(self, principal: Principal) -> bool:
        """Return whether this blocked read is the first one of these two people within a minute."""
        now, pair = self.clock(), f"{principal.actor} {principal.id}"
        recorded_at = self.recent.get(pair)
        if recorded_at is not None and 0 <= now - recorded_at < MINUTE:
            return False
        if len(self.recent) >= MAX_REMEMBERED_PAIRS:
            self.recent.clear()
        self.recent[pair] = now
        return True


def _get_path(request: Request) -> str:
    """Return the request's path below the application's root path."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path") or "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path
