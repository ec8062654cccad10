"""Backend API: JWKS, instance settings, restrictions and organization settings."""

from typing import Any
from urllib.parse import urlsplit

from clerk_emulator.backend_api.call import BackendCall, BackendHandler, StatusResponse
from clerk_emulator.state import domains, role_sets, roles
from clerk_emulator.state.errors import invalid_value_error
from clerk_emulator.state.settings import Settings
from clerk_emulator.wire import validation

FLAG = validation.nullable(validation.flag)
TEXT = validation.nullable(validation.text)
ORGANIZATION_SETTINGS = validation.BodySchema(
    {
        "enabled": FLAG,
        "max_allowed_memberships": validation.nullable(validation.integer(0)),
        "admin_delete_enabled": FLAG,
        "domains_enabled": FLAG,
        "slug_disabled": FLAG,
        "domains_enrollment_modes": validation.nullable(validation.texts),
        "creator_role_id": TEXT,
        "domains_default_role_id": TEXT,
    }
)
INSTANCE = validation.BodySchema(
    {
        "test_mode": FLAG,
        "hibp": FLAG,
        "support_email": TEXT,
        "clerk_js_version": TEXT,
        "development_origin": TEXT,
        "allowed_origins": validation.nullable(validation.texts),
        "cookieless_dev": FLAG,
        "url_based_session_syncing": FLAG,
        "preferred_sign_in_strategy_when_password_required": validation.nullable(
            validation.choice("password", "otp", "")
        ),
    },
    strict=False,
)
AUTHENTICATION = validation.BodySchema(
    {"restricted_to_allowlist": FLAG, "from_email_address": TEXT, "progressive_sign_up": FLAG, "test_mode": FLAG},
    strict=False,
)
RESTRICTIONS = {
    "allowlist": "allowlist",
    "blocklist": "blocklist",
    "allowlist_blocklist_disabled_on_sign_in": "lists_spare_sign_in",
    "block_email_subaddresses": "block_email_subaddresses",
    "block_disposable_email_domains": "block_disposable_email_domains",
}
PROTECT = {"rules_enabled": "protect_rules_enabled", "specter_enabled": "protect_specter_enabled"}
COMMUNICATION = validation.BodySchema({"blocked_country_codes": validation.nullable(validation.texts)}, strict=False)
ORGANIZATION_FLAGS = {
    "enabled": "organizations_enabled",
    "max_allowed_memberships": "max_allowed_memberships",
    "admin_delete_enabled": "admin_delete_enabled",
    "domains_enabled": "organization_domains_enabled",
    "slug_disabled": "organization_slugs_disabled",
}


def get_jwks(call: BackendCall) -> Any:
    """Return the JSON Web Key Set."""
    return call.site.keyring.jwks


def get_instance(call: BackendCall) -> Any:
    """Return the instance."""
    return {
        "object": "instance",
        "id": call.instance.id,
        "environment_type": "development",
        "allowed_origins": call.instance.settings.allowed_origins or None,
        "workspace_id": None,
    }


def list_domains(call: BackendCall) -> Any:
    """List the only domain: the address of the emulator."""
    host = urlsplit(call.site.url).netloc
    domain = {
        "object": "domain",
        "id": call.instance.id.replace("ins_", "dmn_"),
        "name": host,
        "is_satellite": False,
        "frontend_api_url": call.site.url,
        "accounts_portal_url": call.site.url,
        "proxy_url": None,
        "development_origin": "",
    }
    return {"data": [domain], "total_count": 1}


def get_organization_settings(call: BackendCall) -> Any:
    """Return the organization settings."""
    settings = call.instance.settings
    initial = role_sets.get_initial(call.instance)
    return {
        "object": "organization_settings",
        "enabled": settings.organizations_enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "max_allowed_roles": roles.MAX_ROLES,
        "max_allowed_domains": settings.max_allowed_domains,
        "max_allowed_permissions": 50,
        "creator_role": settings.creator_role,
        "admin_delete_enabled": settings.admin_delete_enabled,
        "domains_enabled": settings.organization_domains_enabled,
        "slug_disabled": settings.organization_slugs_disabled,
        "domains_enrollment_modes": settings.enrollment_modes if settings.organization_domains_enabled else [],
        "domains_default_role": settings.domains_default_role,
        "initial_role_set_key": initial.key if initial else None,
    }


def update_organization_settings(call: BackendCall) -> Any:
    """Update the organization settings."""
    fields = ORGANIZATION_SETTINGS.read(call.body)
    settings = call.instance.settings
    modes = fields.get("domains_enrollment_modes")
    if modes is not None:
        if set(modes) - set(domains.ENROLLMENT_MODES[:3]):
            raise invalid_value_error(
                "domains_enrollment_modes", f"may contain {', '.join(domains.ENROLLMENT_MODES[:3])}"
            )
        settings.enrollment_modes = list(dict.fromkeys(["manual_invitation", *modes]))
    if fields.get("creator_role_id"):
        roles.set_default_roles(
            call.instance, {"creator_role": roles.get_by_id(call.instance, fields["creator_role_id"]).key}
        )
    if fields.get("domains_default_role_id"):
        settings.domains_default_role = roles.get_by_id(call.instance, fields["domains_default_role_id"]).key
    _apply_settings(settings, fields, ORGANIZATION_FLAGS)
    return get_organization_settings(call)


def update_instance(call: BackendCall) -> Any:
    """Update the instance; most settings have no effect here."""
    fields = INSTANCE.read(call.body)
    _store_ineffective_settings(call, fields)
    return StatusResponse(204)


def update_restrictions(call: BackendCall) -> Any:
    """Update the sign-up restrictions."""
    _apply_settings(call.instance.settings, _read_flags(RESTRICTIONS, call.body), RESTRICTIONS)
    return {"object": "instance_restrictions", **_settings_json(call.instance.settings, RESTRICTIONS)}


def get_protect(call: BackendCall) -> Any:
    """Return the abuse protection settings, which have no effect here."""
    return {"object": "instance_protect", **_settings_json(call.instance.settings, PROTECT), "checks_bypassed": True}


def update_protect(call: BackendCall) -> Any:
    """Update the abuse protection settings."""
    _apply_settings(call.instance.settings, _read_flags(PROTECT, call.body), PROTECT)
    return get_protect(call)


def get_communication(call: BackendCall) -> Any:
    """Return the countries to which no text messages are sent."""
    codes = call.instance.settings.blocked_country_codes
    return {"object": "instance_communication", "blocked_country_codes": codes}


def update_communication(call: BackendCall) -> Any:
    """Update the countries to which no text messages are sent."""
    codes = COMMUNICATION.read(call.body).get("blocked_country_codes")
    if codes is not None:
        if any(len(code) != 2 or not code.isascii() or not code.isupper() for code in codes):
            raise invalid_value_error("blocked_country_codes", "must be codes of two capital letters")
        call.instance.settings.blocked_country_codes = codes
    return get_communication(call)


def update_authentication(call: BackendCall) -> Any:
    """Update the authentication settings, as an earlier API version does."""
    fields = AUTHENTICATION.read(call.body)
    _store_ineffective_settings(call, fields)
    settings = call.instance.settings
    if fields.get("restricted_to_allowlist") is not None:
        settings.allowlist = fields["restricted_to_allowlist"]
    stored = settings.instance_wishes
    return {
        "object": "instance_settings",
        "id": call.instance.id,
        "restricted_to_allowlist": settings.allowlist,
        "from_email_address": stored.get("from_email_address") or "notifications",
        "progressive_sign_up": stored.get("progressive_sign_up", True),
        "enhanced_email_deliverability": False,
    }


def _read_flags(names: dict[str, str], body: Any) -> dict[str, Any]:
    return validation.BodySchema(dict.fromkeys(names, FLAG), strict=False).read(body)


def _apply_settings(settings: Settings, fields: dict[str, Any], names: dict[str, str]) -> None:
    for name, field in names.items():
        if fields.get(name) is not None:
            setattr(settings, field, fields[name])


def _settings_json(settings: Settings, names: dict[str, str]) -> dict[str, Any]:
    return {name: getattr(settings, field) for name, field in names.items()}


def _store_ineffective_settings(call: BackendCall, fields: dict[str, Any]) -> None:
    settings = call.instance.settings
    if fields.get("test_mode") is not None:
        settings.test_mode = fields["test_mode"]
    if fields.get("allowed_origins") is not None:
        settings.allowed_origins = fields["allowed_origins"]
    settings.instance_wishes.update({name: value for name, value in fields.items() if value is not None})


HANDLERS: dict[str, BackendHandler] = {
    "GetJWKS": get_jwks,
    "GetInstance": get_instance,
    "UpdateInstance": update_instance,
    "UpdateInstanceRestrictions": update_restrictions,
    "GetInstanceProtect": get_protect,
    "UpdateInstanceProtect": update_protect,
    "GetInstanceCommunication": get_communication,
    "UpdateInstanceCommunication": update_communication,
    "UpdateInstanceAuthConfig": update_authentication,
    "ListDomains": list_domains,
    "GetInstanceOrganizationSettings": get_organization_settings,
    "UpdateInstanceOrganizationSettings": update_organization_settings,
}
