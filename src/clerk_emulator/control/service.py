"""Service behind the control API: reset, seed, settings, snapshots and totals."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from clerk_emulator.control import seeding
from clerk_emulator.control.webhook_admin import WebhookAdmin
from clerk_emulator.state import roles, snapshot
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.settings import ROLE_SETTINGS, Settings
from clerk_emulator.wire import mail_json, organization_json, session_json, user_json
from clerk_emulator.wire.fault_injection import FaultRegistry
from clerk_emulator.wire.rate_limits import RateLimiter
from clerk_emulator.wire.request_log import RequestLog
from clerk_emulator.wire.site_config import SiteConfig

MAX_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlService:
    """Reset, seed, settings, snapshots and totals of an emulator."""

    instance: Instance
    site: SiteConfig
    faults: FaultRegistry
    request_log: RequestLog
    rate_limiter: RateLimiter
    webhook_admin: WebhookAdmin
    profile: str = "default"  # of the settings that a reset restores
    named_snapshots: dict[str, str] = field(default_factory=dict)  # snapshots by name, as JSON

    def reset(self, *, keeps_endpoints: bool = False) -> None:
        """Start over: no data, the time of this machine, the initial settings.

        Keys, the instance's id and named snapshots stay.
        """
        self.instance.clear()
        self.instance.settings = Settings()
        self.instance.settings.change({"profile": self.profile})
        self.instance.clock.run()
        self.instance.clock.set(self.instance.clock.wall())
        roles.create_defaults(self.instance)
        self.faults.clear()
        self.request_log.clear()
        self.rate_limiter.clear()
        self.webhook_admin.clear(keeps_endpoints=keeps_endpoints)

    def change_settings(self, data: dict[str, Any]) -> None:
        """Change all of the given settings or none; a ValueError says which value is invalid."""
        chosen = {name: data[name] for name in ROLE_SETTINGS if name in data}
        before = replace(self.instance.settings)
        self.instance.settings.change(data)
        try:
            roles.set_default_roles(self.instance, chosen)
        except ValueError:
            self.instance.settings = before
            raise

    def seed(self, data: Any) -> dict[str, int]:
        """Load a seed, with its endpoints."""
        wanted = data.get("endpoints") or [] if isinstance(data, dict) else []
        for endpoint in wanted:
            self.webhook_admin.check_endpoint(endpoint)
        counts = seeding.load_seed(self.instance, data)
        for endpoint in wanted:
            self.webhook_admin.add_endpoint(endpoint)
        return counts

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state with the endpoints."""
        return {"state": snapshot.dump(self.instance), "endpoints": self.webhook_admin.list_endpoints()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore a snapshot; an invalid one changes nothing."""
        before = snapshot.dump(self.instance)
        try:
            snapshot.load(self.instance, saved["state"])
            for endpoint in saved.get("endpoints") or []:
                self.webhook_admin.check_endpoint(endpoint)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError) as error:
            snapshot.load(self.instance, before)
            raise ValueError(f"this is not a snapshot of an emulator: {error!r}") from error
        self.webhook_admin.clear(keeps_endpoints="endpoints" not in saved)
        for endpoint in saved.get("endpoints") or []:
            self.webhook_admin.add_endpoint(endpoint)

    def save_named(self, name: str) -> None:
        """Save the state under a name."""
        self.named_snapshots[name] = json.dumps(self.snapshot())

    def restore_named(self, name: str) -> bool:
        """Restore the state with this name; return whether it exists."""
        if name not in self.named_snapshots:
            return False
        self.restore(json.loads(self.named_snapshots[name]))
        return True

    def keys(self) -> dict[str, Any]:
        """Return the keys and addresses that a client needs."""
        return {
            "secret_key": self.site.secret_key,
            "publishable_key": self.site.publishable_key,
            "api_url": self.site.url,
            "frontend_api_url": self.site.url,
            "proxy_url": self.site.proxy_url,
            "jwks": self.site.keyring.jwks,
            "pem": self.site.keyring.public_pem,
            "instance_id": self.instance.id,
            "variables": self.site.variables,
        }

    def mail(self, limit: int = MAX_ROWS) -> list[dict[str, Any]]:
        """Return the emails and text messages that Clerk would have sent, newest first."""
        return [mail_json.inbox_message(row, self.site.url) for row in self.instance.mail.page(0, limit)]

    def clock(self) -> dict[str, Any]:
        """Return the virtual time."""
        clock = self.instance.clock
        now = clock.now()
        iso = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds")
        return {"now": now, "iso": iso, "wall": clock.wall(), "stopped": clock.is_stopped}

    def state(self, limit: int = MAX_ROWS) -> dict[str, Any]:
        """Return the totals and the newest records of each kind."""
        one, site = self.instance, self.site.url
        return {
            "instance_id": one.id,
            "totals": self.totals(),
            "users": [user_json.user(one, row) for row in one.users.page(0, limit)],
            "organizations": [organization_json.organization(one, row) for row in one.organizations.page(0, limit)],
            "memberships": [organization_json.membership(one, row) for row in one.memberships.page(0, limit)],
            "organization_invitations": [
                organization_json.organization_invitation(one, row, site)
                for row in one.organization_invitations.page(0, limit)
            ],
            "invitations": [organization_json.invitation(one, row, site) for row in one.invitations.page(0, limit)],
            "sessions": [session_json.session(one, row) for row in one.sessions.page(0, limit)],
            "roles": [organization_json.role(one, row) for row in one.roles.values()],
        }

    def totals(self) -> dict[str, int]:
        """Return the number of records of each kind."""
        one = self.instance
        return {
            "users": len(one.users),
            "organizations": len(one.organizations),
            "memberships": len(one.memberships),
            "organization_invitations": len(one.organization_invitations),
            "invitations": len(one.invitations),
            "sessions": len(one.sessions),
            "mail": len(one.mail),
            **self.webhook_admin.counts(),
        }
