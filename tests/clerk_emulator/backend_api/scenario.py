"""A scenario that calls every operation at least once."""

from typing import Any

from clerk_emulator.state.sessions import get_refresh_token
from tests.clerk_emulator.clients import Backend, Json

# Answered with a yes only where something exists that can't come into being here.
NEVER = ("VerifyTOTP", "UserPasskeyDelete", "UserWeb3WalletDelete", "DeleteExternalAccount", "RevokeUserTrustedDevice")


async def everything(api: Backend) -> None:
    """Call every operation."""
    admin = await people(api)
    await phones(api, admin)
    await factors(api, admin)
    firm = await organizations(api, admin)
    await invitations(api, firm, admin)
    await roles(api, firm)
    await role_sets(api, firm)
    await domains(api, firm)
    await sessions(api, admin, firm)
    await lists(api)
    await waitlist(api)
    await machines(api)
    await api_keys(api, admin)
    await settings(api)
    await api("DELETE", f"/organizations/{firm['id']}")
    await api("DELETE", f"/users/{admin['id']}")


async def people(api: Backend) -> Json:
    user = await api.user("ada@example.com", first_name="Ada", password="correct horse", external_id="e1", locale="en")
    path = f"/users/{user['id']}"
    await api("GET", path)
    await api("GET", "/users", query="ada")
    await api("GET", "/users/count")
    await api("PATCH", path, {"last_name": "North", "username": "ada_north"})
    await api("PATCH", f"{path}/metadata", {"public_metadata": {"a": {"b": [1]}}})
    await api("PUT", f"{path}/metadata", {"private_metadata": {"c": None}})
    for verb in ("ban", "unban", "lock", "unlock"):
        await api("POST", f"{path}/{verb}")
        if verb in ("ban", "unban"):
            await api("POST", f"/users/{verb}", {"user_ids": [user["id"]]})
    await api("POST", f"{path}/verify_password", {"password": "correct horse"})
    await api.no("POST", f"{path}/verify_password", {"password": "wrong horse"})
    await api("POST", f"{path}/password/set_compromised", {"revoke_all_sessions": True})
    await api("POST", f"{path}/password/unset_compromised", {})
    await api("POST", f"{path}/remove_password", {})
    await api.no("GET", "/users/user_none")
    await api.no("POST", "/users", {"email_address": ["ada@example.com"]})
    await api.no("POST", "/users", {"colour": "red"})
    email = await api(
        "POST", "/email_addresses", {"user_id": user["id"], "email_address": "two+clerk_test@example.com"}
    )
    mail = f"/email_addresses/{email['id']}"
    proof = await api("POST", f"{mail}/prepare_verification")
    await api("POST", f"{mail}/attempt_verification", {"verification_id": proof["id"], "code": "424242"})
    await api("GET", mail)
    await api("PATCH", mail, {"primary": True, "notify_primary_email_address_changed": True})
    await api("DELETE", f"/email_addresses/{user['primary_email_address_id']}")
    await api("PUT", f"{path}/email_address", {"email_address": "ada@example.com"})
    await image(api, "POST", f"{path}/profile_image")
    await api("DELETE", f"{path}/profile_image")
    await api.no("DELETE", f"{path}/profile_image")
    return user


async def image(api: Backend, method: str, path: str) -> Any:
    """Upload an image."""
    files = {"file": ("a.png", b"\x89PNG", "image/png")}
    form = api.http.build_request(method, "http://x/", files=files)
    api.http.headers["content-type"] = form.headers["content-type"]
    content, plain = form.read(), api.http.request

    async def send(verb: str, url: str, json: Any = None, params: Any = None) -> Any:
        return await plain(verb, url, content=content, params=params)

    api.http.request = send  # type: ignore[method-assign, assignment]
    try:
        return await api(method, path)
    finally:
        api.http.request = plain  # type: ignore[method-assign]
        del api.http.headers["content-type"]


async def phones(api: Backend, user: Json) -> None:
    created = await api("POST", "/phone_numbers", {"user_id": user["id"], "phone_number": "+1 555 555 0100"})
    path = f"/phone_numbers/{created['id']}"
    await api("GET", path)
    proof = await api("POST", f"{path}/prepare_verification")
    await api.no("POST", f"{path}/attempt_verification", {"verification_id": "ver_none", "code": "1"})
    await api("POST", f"{path}/attempt_verification", {"verification_id": proof["id"], "code": "424242"})
    await api("PATCH", path, {"reserved_for_second_factor": True, "primary": True})
    await api("GET", f"/users/{user['id']}")
    await api("PUT", f"/users/{user['id']}/phone_number", {"phone_number": "+15555550101"})
    await api.no("POST", "/phone_numbers", {"user_id": user["id"], "phone_number": "tomorrow"})
    found = (await api("GET", "/users", phone_number="+15555550101"))[0]
    await api("DELETE", f"/phone_numbers/{found['phone_numbers'][0]['id']}")
    await api.no("GET", path)


async def factors(api: Backend, user: Json) -> None:
    path = f"/users/{user['id']}"
    for thing in ("mfa", "totp", "backup_code"):
        await api("DELETE", f"{path}/{thing}")
    await api.no("POST", f"{path}/verify_totp", {"code": "123456"})
    for thing in ("passkeys", "web3_wallets", "external_accounts", "trusted_devices"):
        await api.no("DELETE", f"{path}/{thing}/none")
    await api("GET", f"{path}/trusted_devices")
    await api("GET", f"{path}/oauth_access_tokens/oauth_google")


async def organizations(api: Backend, admin: Json) -> Json:
    firm: Json = await api("POST", "/organizations", {"name": "Northwind", "created_by": admin["id"]})
    path = f"/organizations/{firm['id']}"
    await api("GET", path, include_members_count="true", include_missing_member_with_elevated_permissions="true")
    await api("GET", "/organizations")
    await api("PATCH", path, {"max_allowed_memberships": 50})
    await api("PATCH", f"{path}/metadata", {"public_metadata": {"a": 1}})
    await api("PUT", f"{path}/metadata", {"public_metadata": {}})
    await image(api, "PUT", f"{path}/logo")
    await api("DELETE", f"{path}/logo")
    await api.no("GET", "/organizations/org_none")
    await api.no("POST", "/organizations", {"name": ""})
    bo = await api.user("bo@example.com")
    await api("POST", f"{path}/memberships", {"user_id": bo["id"], "role": "org:member"})
    await api.no("POST", f"{path}/memberships", {"user_id": bo["id"], "role": "org:member"})
    await api.no("PATCH", f"{path}/memberships/{admin['id']}", {"role": "org:member"})
    await api.no("PATCH", f"{path}/memberships/{admin['id']}", {"role": "org:none"})
    await api("GET", f"{path}/memberships")
    await api("GET", "/organization_memberships")
    await api("GET", f"/users/{bo['id']}/organization_memberships")
    await api("PATCH", f"{path}/memberships/{bo['id']}", {"role": "org:admin"})
    await api("PATCH", f"{path}/memberships/{bo['id']}/metadata", {"public_metadata": {"a": 1}})
    await api("DELETE", f"{path}/memberships/{bo['id']}")
    return firm


async def invitations(api: Backend, firm: Json, admin: Json) -> None:
    path = f"/organizations/{firm['id']}/invitations"
    created = await api.invite(firm, "cy@example.com", inviter_user_id=admin["id"])
    await api("POST", f"{path}/bulk", [{"email_address": "bo@example.com", "role": "org:member"}])
    await api("GET", path)
    await api("GET", f"{path}/pending")
    await api("GET", f"{path}/{created['id']}")
    await api("GET", "/organization_invitations")
    bo = (await api("GET", "/users", email_address="bo@example.com"))[0]
    await api("GET", f"/users/{bo['id']}/organization_invitations")
    await api("POST", f"{path}/{created['id']}/revoke")
    await api.no("POST", f"{path}/{created['id']}/revoke")
    await api.no("POST", path, {"email_address": "bo@example.com", "role": "org:member"})
    await api.no("POST", path, {"email_address": "ada@example.com", "role": "org:member"})
    invitation = await api("POST", "/invitations", {"email_address": "di@example.com"})
    await api.no("POST", "/invitations", {"email_address": "di@example.com"})
    await api("POST", "/invitations/bulk", [{"email_address": "ed@example.com"}])
    await api("GET", "/invitations")
    await api("POST", f"/invitations/{invitation['id']}/revoke")
    await api.no("POST", f"/invitations/{invitation['id']}/revoke")


async def roles(api: Backend, firm: Json) -> None:
    permission = await api("POST", "/organization_permissions", {"name": "Read files", "key": "org:files:read"})
    more = f"/organization_permissions/{permission['id']}"
    await api("GET", "/organization_permissions", query="files")
    await api("GET", more)
    await api("PATCH", more, {"description": "Reading"})
    body = {"name": "Clerk", "key": "org:clerk", "permissions": [permission["id"]], "include_in_initial_role_set": True}
    role = await api("POST", "/organization_roles", body)
    path = f"/organization_roles/{role['id']}"
    await api("GET", "/organization_roles")
    await api("GET", path)
    await api("PATCH", path, {"name": "Law clerk", "key": "org:law_clerk"})
    await api.no("POST", f"{path}/permissions/{permission['id']}")
    await api("DELETE", f"{path}/permissions/{permission['id']}")
    await api.no("DELETE", f"{path}/permissions/{permission['id']}")
    await api("POST", f"{path}/permissions/{permission['id']}")
    await api.no("POST", "/organization_roles", {"name": "x", "key": "clerk"})
    await api("DELETE", more)
    cy = await api.user("cy@example.com")
    member = {"user_id": cy["id"], "role": "org:law_clerk"}
    await api("POST", f"/organizations/{firm['id']}/memberships", member)
    await api.no("DELETE", path)
    await api("DELETE", f"/organizations/{firm['id']}/memberships/{cy['id']}")
    await api("DELETE", path)


async def role_sets(api: Backend, firm: Json) -> None:
    await api("POST", "/organization_roles", {"name": "Guest", "key": "org:guest"})
    guests = {"default_role_key": "org:guest", "creator_role_key": "org:admin", "roles": ["org:guest", "org:admin"]}
    created = await api("POST", "/role_sets", {"name": "Guests", **guests})
    path = f"/role_sets/{created['id']}"
    await api("GET", "/role_sets")
    await api("GET", f"/role_sets/{created['key']}")
    await api("PATCH", path, {"description": "For guests"})
    await api("POST", f"{path}/roles", {"role_keys": ["org:member"]})
    await api("POST", f"{path}/roles/replace", {"role_key": "org:guest", "to_role_key": "org:member"})
    await api("PATCH", f"/organizations/{firm['id']}", {"role_set_key": created["key"]})
    await api.no("POST", "/role_sets", {"name": "x", **guests, "roles": ["org:none"]})
    await api("POST", f"{path}/replace", {"dest_role_set_key": "role_set:default"})
    await api.no("GET", path)


async def domains(api: Backend, firm: Json) -> None:
    path = f"/organizations/{firm['id']}/domains"
    await api.no("POST", path, {"name": "northwind.example"})
    await api("PATCH", "/instance/organization_settings", {"domains_enabled": True})
    body = {"name": "northwind.example", "enrollment_mode": "manual_invitation", "verified": False}
    created = await api("POST", path, body)
    await api.no("POST", path, body)
    await api.no("POST", path, {"name": "gmail.com", "enrollment_mode": "manual_invitation"})
    await api("GET", path)
    await api("GET", "/organization_domains", query="north")
    await api("POST", f"{path}/{created['id']}/verify_ownership")
    await api("PATCH", f"{path}/{created['id']}", {"verified": True})
    await api("DELETE", f"{path}/{created['id']}")
    await api.no("DELETE", f"{path}/{created['id']}")


async def sessions(api: Backend, admin: Json, firm: Json) -> None:
    session = await api("POST", "/sessions", {"user_id": admin["id"], "active_organization_id": firm["id"]})
    path = f"/sessions/{session['id']}"
    await api("GET", path)
    await api("GET", "/sessions", user_id=admin["id"])
    jwt = (await api("POST", f"{path}/tokens", {}))["jwt"]
    await templates(api, path)
    await api("GET", f"/clients/{session['client_id']}")
    await api("GET", "/clients")
    await api("POST", "/clients/verify", {"token": jwt})
    await api.no("POST", "/clients/verify", {"token": "none"})
    await refresh(api, session, jwt)
    await api("POST", f"{path}/revoke")
    await api.no("GET", "/sessions/sess_none")
    token = await api("POST", "/sign_in_tokens", {"user_id": admin["id"]})
    await api("POST", f"/sign_in_tokens/{token['id']}/revoke")
    await api.no("POST", f"/sign_in_tokens/{token['id']}/revoke")
    actor = await api("POST", "/actor_tokens", {"user_id": admin["id"], "actor": {"sub": "support"}})
    await api("POST", f"/actor_tokens/{actor['id']}/revoke")
    await api.no("POST", f"/actor_tokens/{actor['id']}/revoke")
    await api.no("POST", "/actor_tokens", {"user_id": admin["id"], "actor": {}})
    await api("POST", "/testing_tokens")
    await api("GET", "/jwks")


async def refresh(api: Backend, session: Json, jwt: str) -> None:
    emulator = api.emulator  # type: ignore[attr-defined]
    known = get_refresh_token(emulator.state, emulator.state.sessions.find(session["id"]))
    body = {"expired_token": jwt, "refresh_token": known, "request_origin": "http://127.0.0.1:3000"}
    await api("POST", f"/sessions/{session['id']}/refresh", body)
    await api("POST", f"/sessions/{session['id']}/refresh", {**body, "format": "cookie"})
    for name in body:
        await api.no("POST", f"/sessions/{session['id']}/refresh", {**body, name: "none"})
    await api.no("POST", "/sessions/sess_none/refresh", body)


async def templates(api: Backend, session: str) -> None:
    claims = {"mail": "{{user.primary_email_address}}", "role": "{{org.role}}"}
    created = await api("POST", "/jwt_templates", {"name": "backend", "claims": claims})
    await api.no("POST", "/jwt_templates", {"name": "other", "claims": {"sub": "x"}})
    await api("GET", "/jwt_templates")
    await api("GET", f"/jwt_templates/{created['id']}")
    await api("PATCH", f"/jwt_templates/{created['id']}", {"name": "backend", "claims": claims, "lifetime": 90})
    await api("POST", f"{session}/tokens/backend", {})
    await api.no("POST", f"{session}/tokens/none", {})
    await api("DELETE", f"/jwt_templates/{created['id']}")


async def lists(api: Backend) -> None:
    for kind in ("allowlist", "blocklist"):
        path = f"/{kind}_identifiers"
        created = await api("POST", path, {"identifier": f"someone@{kind}.example", "notify": kind == "allowlist"})
        await api.no("POST", path, {"identifier": "a person"})
        await api.no("POST", path, {"identifier": f"someone@{kind}.example"})
        await api("GET", path)
        await api("DELETE", f"{path}/{created['id']}")
        await api.no("DELETE", f"{path}/{created['id']}")
    created = await api("POST", "/redirect_urls", {"url": "myapp://callback"})
    await api.no("POST", "/redirect_urls", {"url": "nowhere"})
    await api("GET", "/redirect_urls")
    await api("GET", f"/redirect_urls/{created['id']}")
    await api("DELETE", f"/redirect_urls/{created['id']}")
    await api.no("GET", f"/redirect_urls/{created['id']}")


async def waitlist(api: Backend) -> None:
    first = await api("POST", "/waitlist_entries", {"email_address": "first@example.com"})
    second, third = await api(
        "POST", "/waitlist_entries/bulk", [{"email_address": f"{name}@example.com"} for name in ("second", "third")]
    )
    path = "/waitlist_entries"
    await api("POST", f"{path}/{first['id']}/invite")
    await api.no("POST", f"{path}/{first['id']}/invite")
    await api("POST", f"{path}/{second['id']}/reject")
    await api.no("POST", f"{path}/{second['id']}/reject")
    await api("GET", path)
    await api("DELETE", f"{path}/{third['id']}")
    await api.no("DELETE", f"{path}/{third['id']}")


async def machines(api: Backend) -> None:
    created = await api("POST", "/machines", {"name": "Mailer"})
    other = await api("POST", "/machines", {"name": "Archive", "scoped_machines": [created["id"]]})
    path = f"/machines/{created['id']}"
    await api("GET", "/machines")
    await api("GET", path)
    await api("PATCH", path, {"default_token_ttl": 60})
    await api("GET", f"{path}/secret_key")
    await api("DELETE", f"{path}/scopes/{other['id']}")
    await api("POST", f"{path}/scopes", {"to_machine_id": other["id"]})
    await api.no("POST", f"{path}/scopes", {"to_machine_id": other["id"]})
    secret = (await api("POST", f"{path}/secret_key/rotate", {"previous_token_ttl": 60}))["secret"]
    await api.no("POST", "/m2m_tokens", {})
    own, api.http.headers["Authorization"] = api.http.headers["Authorization"], f"Bearer {secret}"
    token = (await api.raw("POST", "/m2m_tokens", {"claims": {"a": 1}})).json()
    await api.raw("POST", "/m2m_tokens", {"token_format": "jwt"})
    api.http.headers["Authorization"] = own
    await api("GET", "/m2m_tokens", subject=created["id"])
    await api("POST", "/m2m_tokens/verify", {"token": token["token"]})
    await api("POST", f"/m2m_tokens/{token['id']}/revoke", {"revocation_reason": "over"})
    await api.no("POST", "/m2m_tokens/verify", {"token": token["token"]})
    await api("DELETE", path)
    await api.no("GET", path)


async def api_keys(api: Backend, user: Json) -> None:
    answer = await api.raw("POST", "/api_keys", {"name": "Reports", "subject": user["id"], "scopes": ["read"]})
    created = answer.json()
    path = f"/api_keys/{created['id']}"
    await api("GET", "/api_keys", subject=user["id"])
    await api.no("GET", "/api_keys")
    await api("GET", path)
    await api("GET", f"{path}/secret")
    await api("PATCH", path, {"description": "For reports", "seconds_until_expiration": 60})
    await api("POST", "/api_keys/verify", {"secret": created["secret"]})
    await api("POST", f"{path}/revoke", {})
    await api.no("POST", "/api_keys/verify", {"secret": created["secret"]})
    await api("DELETE", path)
    await api.no("GET", path)


async def settings(api: Backend) -> None:
    for path in ("/instance", "/domains", "/instance/organization_settings"):
        await api("GET", path)
    changes = {"max_allowed_memberships": 9, "domains_enrollment_modes": ["automatic_invitation"]}
    await api("PATCH", "/instance/organization_settings", changes)
    answer = await api.raw("PATCH", "/instance", {"test_mode": True, "support_email": "help@example.com"})
    assert answer.status_code == 204
    await api("PATCH", "/instance/restrictions", {"blocklist": True})
    await api("GET", "/instance/protect")
    await api("PATCH", "/instance/protect", {"rules_enabled": True})
    await api("GET", "/instance/communication")
    await api("PATCH", "/instance/communication", {"blocked_country_codes": ["AQ"]})
    await api.no("PATCH", "/instance/communication", {"blocked_country_codes": ["nowhere"]})
    await api("PATCH", "/beta_features/instance_settings", {"restricted_to_allowlist": False})
