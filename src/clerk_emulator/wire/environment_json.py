"""JSON of the environment: what the instance offers."""

from typing import Any

from clerk_emulator.state import passwords, usernames
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire.site_config import SiteConfig

JsonObject = dict[str, Any]
DISABLED: JsonObject = {"enabled": False}
DISABLED_ATTRIBUTE: JsonObject = {
    "enabled": False,
    "required": False,
    "used_for_first_factor": False,
    "first_factors": [],
    "used_for_second_factor": False,
    "second_factors": [],
    "verifications": [],
    "verify_at_sign_up": False,
    "immutable": False,
}


def environment(instance: Instance, site: SiteConfig) -> JsonObject:
    """Return the environment."""
    return {
        "auth_config": _auth_config(instance),
        "display_config": _display_config(instance, site),
        "user_settings": _user_settings(instance),
        "organization_settings": _organization_settings(instance),
        "fraud_settings": {"object": "fraud_settings", "native": {"device_attestation_mode": "disabled"}},
        "commerce_settings": {
            "billing": {
                "stripe_publishable_key": None,
                "free_trial_requires_payment_method": False,
                "user": {"enabled": False, "has_paid_plans": False},
                "organization": {"enabled": False, "has_paid_plans": False},
            }
        },
        "api_keys_settings": {"enabled": False, "user_api_keys_enabled": False, "orgs_api_keys_enabled": False},
        "client_debug_mode": False,
        "partitioned_cookies": False,
        "maintenance_mode": False,
    }


def _auth_config(instance: Instance) -> JsonObject:
    required = instance.settings.sign_up_requires
    return {
        "object": "auth_config",
        "id": f"aconf_{instance.id.partition('_')[2]}",
        **{name: "required" if name in required else "on" for name in ("first_name", "last_name", "password")},
        "email_address": "required",
        "phone_number": "off",
        "username": "off",
        "identification_requirements": [["email_address"]],
        "identification_strategies": ["email_address"],
        "first_factors": ["email_code", "password", "reset_password_email_code", "ticket"],
        "second_factors": ["phone_code"],
        "email_address_verification_strategies": ["email_code"],
        "single_session_mode": not instance.settings.multi_session,
        "enhanced_email_deliverability": False,
        "test_mode": instance.settings.test_mode,
        "cookieless_dev": False,
        "url_based_session_syncing": True,
        "claimed_at": None,
        "reverification": False,
        "native_settings": {
            "object": "native_settings",
            "api_enabled": False,
            "trusted_device_sign_in_enabled": False,
            "trusted_device_enrollment_prompt_after_sign_in_enabled": False,
            "trusted_device_enrollment_prompt_after_sign_up_enabled": False,
        },
    }


def _display_config(instance: Instance, site: SiteConfig) -> JsonObject:
    empty = ("home_url", "user_profile_url", "waitlist_url", "oauth_consent_url", "after_sign_in_url")
    more = ("after_sign_up_url", "after_switch_session_url", "after_join_waitlist_url", "organization_profile_url")
    last = ("create_organization_url", "after_leave_organization_url", "after_create_organization_url")
    nulls = ("logo_image_url", "favicon_image_url", "support_email", "clerk_js_version", "google_one_tap_client_id")
    links = ("help_url", "privacy_policy_url", "terms_url", "logo_url", "favicon_url", "logo_image", "favicon_image")
    captcha = ("captcha_public_key", "captcha_widget_type", "captcha_public_key_invisible", "captcha_provider")
    return {
        "object": "display_config",
        "id": f"display_config_{instance.id.partition('_')[2]}",
        "instance_environment_type": "development",
        "application_name": "Clerk emulator",
        "theme": {"buttons": {}, "general": {}, "accounts": {}},
        "preferred_sign_in_strategy": "password",
        **dict.fromkeys((*empty, *more, *last), ""),
        **dict.fromkeys((*nulls, *links, *captcha)),
        "sign_in_url": f"{site.url}/sign-in",
        "sign_up_url": f"{site.url}/sign-up",
        "after_sign_out_one_url": "",
        "after_sign_out_all_url": "",
        "logo_link_url": "",
        "branded": False,
        "experimental_force_oauth_first": False,
        "show_devmode_warning": False,
        "captcha_oauth_bypass": [],
        "captcha_heartbeat": False,
    }


def _user_settings(instance: Instance) -> JsonObject:
    settings = instance.settings
    restrictions = {
        "allowlist": settings.allowlist,
        "blocklist": settings.blocklist,
        "allowlist_blocklist_disabled_on_sign_in": settings.lists_spare_sign_in,
        "block_email_subaddresses": settings.block_email_subaddresses,
        "block_disposable_email_domains": settings.block_disposable_email_domains,
    }
    return {
        "attributes": _attributes(settings.sign_up_requires),
        "social": {},
        "saml": {"enabled": False},
        "enterprise_sso": {"enabled": False, "self_serve_sso": False},
        "sign_in": {"second_factor": {"required": False}},
        "sign_up": {
            "captcha_enabled": False,
            "captcha_widget_type": "invisible",
            "custom_action_required": False,
            "progressive": True,
            "mode": settings.sign_up_mode,
            "legal_consent_enabled": False,
        },
        "restrictions": {name: {"enabled": value} for name, value in restrictions.items()},
        "password_settings": _password_settings(),
        "username_settings": {
            "min_length": usernames.MIN_LENGTH,
            "max_length": usernames.MAX_LENGTH,
            "allow_extended_special_characters": False,
            "allow_numeric_usernames": False,
        },
        "actions": {"delete_self": True, "create_organization": True, "create_organizations_limit": None},
        "attack_protection": {
            "user_lockout": {
                "enabled": settings.lockout_attempts > 0,
                "max_attempts": settings.lockout_attempts,
                "duration_in_minutes": settings.lockout_seconds // 60,
            },
            "pii": {"enabled": True},
            "email_link": {"require_same_client": True},
            "enumeration_protection": {"enabled": False},
        },
        "passkey_settings": {"allow_autofill": False, "show_sign_in_button": False, "satisfies_second_factor": False},
    }


def _attributes(required: list[str]) -> JsonObject:
    off = ("username", "web3_wallet", "authenticator_app", "backup_code", "passkey")
    codes = {"verifications": ["email_code"], "verify_at_sign_up": True}
    first = {"used_for_first_factor": True}
    return {
        **{name: dict(DISABLED_ATTRIBUTE) for name in off},
        "email_address": DISABLED_ATTRIBUTE
        | {"enabled": True, "required": True, "first_factors": ["email_code"], **first, **codes},
        "phone_number": DISABLED_ATTRIBUTE
        | {"enabled": True, "used_for_second_factor": True, "second_factors": ["phone_code"]}
        | {"verifications": ["phone_code"]},
        **{
            name: DISABLED_ATTRIBUTE | {"enabled": True, "required": name in required}
            for name in ("first_name", "last_name", "password")
        },
        "ticket": DISABLED_ATTRIBUTE | {"enabled": True, "first_factors": ["ticket"], **first},
    }


def _password_settings() -> JsonObject:
    return {
        "disable_hibp": True,
        "disable_password_reverification": False,
        "min_length": passwords.MIN_LENGTH,
        "max_length": passwords.MAX_BYTES,
        "require_special_char": False,
        "require_numbers": False,
        "require_uppercase": False,
        "require_lowercase": False,
        "show_zxcvbn": False,
        "min_zxcvbn_strength": 0,
        "enforce_hibp_on_sign_in": False,
        "allowed_special_characters": "",
    }


def _organization_settings(instance: Instance) -> JsonObject:
    settings = instance.settings
    return {
        "enabled": settings.organizations_enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "actions": {"admin_delete": settings.admin_delete_enabled},
        "domains": {
            "enabled": settings.organization_domains_enabled,
            "enrollment_modes": settings.enrollment_modes,
            "default_role": settings.domains_default_role,
        },
        "slug": {"disabled": settings.organization_slugs_disabled},
        "creator_role": settings.creator_role,
    }
