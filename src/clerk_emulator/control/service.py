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
    """What a tester can reach."""

    instance: Instance
    site: SiteConfig
    faults: FaultRegistry
    journal: RequestLog
    limits: RateLimiter
    office: WebhookAdmin
    profile: str = "default"  # of the settings that a reset goes back to
    kept: dict[str, str] = field(default_factory=dict)  # snapshots by name, as JSON

    def reset(self, *, keeps_endpoints: bool = False) -> None:
        """Start over: nobody, nothing, the time of this machine, the settings of the start.

        Keys, the instance's id and named snapshots stay.
        """
        self.instance.clear()
        self.instance.settings = Settings()
        self.instance.settings.change({"profile": self.profile})
        self.instance.clock.run()
        self.instance.clock.set(self.instance.clock.wall())
        roles.create_defaults(self.instance)
        self.faults.clear()
        self.journal.clear()
        self.limits.clear()
        self.office.clear(keeps_endpoints=keeps_endpoints)

    def change_settings(self, wish: dict[str, Any]) -> None:
        """Change settings, all or none; a ValueError says what can't be."""
        chosen = {name: wish[name] for name in ROLE_SETTINGS if name in wish}
        before = replace(self.instance.settings)
        self.instance.settings.change(wish)
        try:
            roles.set_default_roles(self.instance, chosen)
        except ValueError:
            self.instance.settings = before
            raise

    def seed(self, wish: Any) -> dict[str, int]:
        """Take a seed, with its endpoints."""
        wanted = wish.get("endpoints") or [] if isinstance(wish, dict) else []
        for endpoint in wanted:
            self.office.check_endpoint(endpoint)
        counts = seeding.load_seed(self.instance, wish)
        for endpoint in wanted:
            self.office.add_endpoint(endpoint)
        return counts

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state with the endpoints."""
        return {"state": snapshot.dump(self.instance), "endpoints": self.office.list_endpoints()}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take back a whole state; where it is none, everything stays as it was."""
        before = snapshot.dump(self.instance)
        try:
            snapshot.load(self.instance, kept["state"])
            for endpoint in kept.get("endpoints") or []:
                self.office.check_endpoint(endpoint)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError) as wrong:
            snapshot.load(self.instance, before)
            raise ValueError(f"that is no snapshot of an emulator: {wrong!r}") from wrong
        self.office.clear(keeps_endpoints="endpoints" not in kept)
        for endpoint in kept.get("endpoints") or []:
            self.office.add_endpoint(endpoint)

    def keep(self, name: str) -> None:
        """Keep the state under a name."""
        self.kept[name] = json.dumps(self.snapshot())

    def go_back(self, name: str) -> bool:
        """Go back to the state under a name; say whether there is one."""
        if name not in self.kept:
            return False
        self.restore(json.loads(self.kept[name]))
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
        """Return the letters and text messages that Clerk would have sent, newest first."""
        return [mail_json.inbox_message(row, self.site.url) for row in self.instance.mail.page(0, limit)]

    def clock(self) -> dict[str, Any]:
        """Return the virtual time."""
        clock = self.instance.clock
        now = clock.now()
        iso = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds")
        return {"now": now, "iso": iso, "wall": clock.wall(), "stopped": clock.is_stopped}

    def state(self, limit: int = MAX_ROWS) -> dict[str, Any]:
        """Return what there is: the totals, and the newest of each kind."""
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
        """Return how many there are of each kind."""
        one = self.instance
        return {
            "users": len(one.users),
            "organizations": len(one.organizations),
            "memberships": len(one.memberships),
            "organization_invitations": len(one.organization_invitations),
            "invitations": len(one.invitations),
            "sessions": len(one.sessions),
            "mail": len(one.mail),
            **self.office.counts(),
        }
