"""The instance itself: its keys, its settings for organizations, and what it is."""

from typing import Any
from urllib.parse import urlsplit

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.wire import forms

ORGANIZATION_SETTINGS = forms.Form(
    {
        "enabled": forms.nullable(forms.flag),
        "max_allowed_memberships": forms.nullable(forms.integer(0)),
        "admin_delete_enabled": forms.nullable(forms.flag),
        "domains_enabled": forms.absent,
        "slug_disabled": forms.absent,
        "domains_enrollment_modes": forms.absent,
        "creator_role_id": forms.absent,
        "domains_default_role_id": forms.absent,
    }
)


def get_jwks(call: Call) -> Any:
    """Answer the public keys."""
    return call.site.keyring.jwks


def get_instance(call: Call) -> Any:
    """Answer what this instance is."""
    return {
        "object": "instance",
        "id": call.instance.id,
        "environment_type": "development",
        "allowed_origins": None,
        "workspace_id": None,
    }


def list_domains(call: Call) -> Any:
    """Answer the one domain there is: the address of the emulator."""
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


def get_organization_settings(call: Call) -> Any:
    """Answer the settings for organizations."""
    settings = call.instance.settings
    return {
        "object": "organization_settings",
        "enabled": settings.organizations_enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "max_allowed_roles": 10,
        "max_allowed_domains": 0,
        "max_allowed_permissions": 50,
        "creator_role": settings.creator_role,
        "admin_delete_enabled": settings.admin_delete_enabled,
        "domains_enabled": False,
        "domains_enrollment_modes": [],
        "domains_default_role": settings.default_role,
    }


def update_organization_settings(call: Call) -> Any:
    """Change the settings for organizations."""
    fields = ORGANIZATION_SETTINGS.read(call.body)
    settings = call.instance.settings
    if fields.get("enabled") is not None:
        settings.organizations_enabled = fields["enabled"]
    if fields.get("max_allowed_memberships") is not None:
        settings.max_allowed_memberships = fields["max_allowed_memberships"]
    if fields.get("admin_delete_enabled") is not None:
        settings.admin_delete_enabled = fields["admin_delete_enabled"]
    return get_organization_settings(call)


HANDLERS: dict[str, Handler] = {
    "GetJWKS": get_jwks,
    "GetInstance": get_instance,
    "ListDomains": list_domains,
    "GetInstanceOrganizationSettings": get_organization_settings,
    "UpdateInstanceOrganizationSettings": update_organization_settings,
}
