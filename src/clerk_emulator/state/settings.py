"""Instance settings and behavior profiles."""

import copy
from dataclasses import dataclass, field, fields
from typing import Any

from clerk_emulator.state import omittable

ROLE_SETTINGS = ("creator_role", "default_role", "domains_default_role")
LIST_SETTING_CHOICES = {"sign_up_requires": ("password", "first_name", "last_name")}
SETTING_CHOICES = {
    "event_timestamps": ("seconds", "milliseconds"),
    "rate_limits": ("off", "development", "production"),
    "ticket_links": ("page", "application"),
    "sign_up_mode": ("public", "restricted", "waitlist"),
    "profile": ("default", "minimal"),
    "webhook_headers": ("svix", "standard"),
}
PROFILES: dict[str, dict[str, Any]] = {
    "default": {
        "azp_without_origin": False,
        "omitted": [],
        "webhook_headers": "svix",
        "webhook_delay_seconds": 0,
        "webhook_loss_percent": 0,
    },
    "minimal": {
        "azp_without_origin": False,
        "omitted": ["*"],
        "webhook_headers": "standard",
        "webhook_delay_seconds": 60,
        "webhook_loss_percent": 10,
    },
}


@dataclass(slots=True, kw_only=True)
class Settings:
    """The settings of Clerk's dashboard, and those for behavior of Clerk that is not known for certain.

    `profile`: `default`, or `minimal`: as little as Clerk may return. It sets the five settings below (`PROFILES`);
    settings that are given with it, or later, take precedence.
    `omitted`: claims, headers and fields to omit of those that Clerk may omit: see `state.omittable`.
    `webhook_headers`: the names of a webhook's headers: `svix-id` and so on, or `webhook-id` and so on: `standard`.
    `webhook_delay_seconds`: each webhook is delayed independently by 0 to that many seconds of the virtual clock.
    `webhook_loss_percent`: the percentage of webhooks that never arrive. Which ones, and the delay of the others,
    follows from `webhook_seed` and the number of the delivery. Replays and examples are neither delayed nor lost.
    `azp_without_origin`: if true, a session token created by a request without an Origin (a top-level
    navigation, the Backend API) names the application in `azp`. Public reports say that Clerk's don't, so: off.
    `cascade_events`: if true, deleting a user or an organization also publishes an event for each deleted membership,
    invitation and session. Clerk promises nothing there, so the default is the harder case: off.
    `event_timestamps`: the unit of `timestamp` in a webhook, `seconds` (as in the specification's examples)
    or `milliseconds`.
    `mail_events`: if true, mail publishes `email.created` and `sms.created`.
    `rate_limits`: `off`, `development` (100 calls in 10 seconds), or `production` (1,000).
    `ticket_links`: the target of an invitation's link: the emulator's own `page`, where a button accepts it without
    a script, or, as in Clerk, the `application`, whose `<SignUp/>` takes the ticket.
    `lockout_attempts`: the number of wrong passwords and codes that locks a user for `lockout_seconds`; 0: never.
    `multi_session`: if true, several users may be signed in in one browser.
    `sign_up_mode`: `public`, or only with an invitation: `restricted` and `waitlist`.
    `sign_up_requires`: required sign-up fields besides an address: `password`, `first_name`, `last_name`.
    """

    organizations_enabled: bool = True
    max_allowed_memberships: int = 5  # of a new organization; 0: no limit
    admin_delete_enabled: bool = True
    creator_role: str = "org:admin"
    default_role: str = "org:member"
    invitation_days: int = 30
    session_days: int = 7
    lockout_attempts: int = 100
    lockout_seconds: int = 3600
    profile: str = "default"
    omitted: list[str] = field(default_factory=list)
    webhook_headers: str = "svix"
    webhook_delay_seconds: int = 0
    webhook_loss_percent: int = 0
    webhook_seed: int = 0
    azp_without_origin: bool = False
    cascade_events: bool = False
    event_timestamps: str = "seconds"
    mail_events: bool = False
    rate_limits: str = "off"
    ticket_links: str = "page"
    multi_session: bool = False
    sign_up_mode: str = "public"
    sign_up_requires: list[str] = field(default_factory=lambda: ["password"])
    organization_domains_enabled: bool = False
    organization_slugs_disabled: bool = False
    enrollment_modes: list[str] = field(default_factory=lambda: ["manual_invitation"])
    domains_default_role: str = "org:member"
    max_allowed_domains: int = 10
    allowlist: bool = False
    blocklist: bool = False
    lists_spare_sign_in: bool = False
    block_email_subaddresses: bool = False
    block_disposable_email_domains: bool = False
    test_mode: bool = True
    protect_rules_enabled: bool = False
    protect_specter_enabled: bool = False
    blocked_country_codes: list[str] = field(default_factory=list)
    allowed_origins: list[str] = field(default_factory=list)
    instance_wishes: dict[str, Any] = field(default_factory=dict)  # stored without effect

    def change(self, changes: dict[str, Any]) -> None:
        """Change all of the given settings or none; a ValueError says which value is invalid."""
        known = {one.name: type(getattr(self, one.name)) for one in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{name}: unknown; settings are: {', '.join(sorted(known))}")
            if type(value) is not known[name]:
                raise ValueError(f"{name} must be of type {known[name].__name__}")
            if name in SETTING_CHOICES and value not in SETTING_CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(SETTING_CHOICES[name])}")
            if name in LIST_SETTING_CHOICES and any(item not in LIST_SETTING_CHOICES[name] for item in value):
                raise ValueError(f"{name} may have {', '.join(LIST_SETTING_CHOICES[name])}")
        omittable.require_known(changes.get("omitted", ()))
        if not 0 <= changes.get("webhook_loss_percent", 0) <= 100 or changes.get("webhook_delay_seconds", 0) < 0:
            raise ValueError("webhook_loss_percent must be from 0 to 100, webhook_delay_seconds 0 or more")
        for name, value in {**copy.deepcopy(PROFILES.get(changes.get("profile", ""), {})), **changes}.items():
            setattr(self, name, value)
