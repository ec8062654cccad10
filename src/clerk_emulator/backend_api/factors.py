"""Backend API: second factors, passkeys, wallets and external accounts; users have none here."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import users
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.wire import user_json, validation

CODE = validation.BodySchema({"code": validation.text}, required=("code",), strict=False)
COMPROMISED = validation.BodySchema({"revoke_all_sessions": validation.nullable(validation.flag)}, strict=False)


def disable_mfa(call: BackendCall) -> Any:
    """Disable second factors: phone numbers stop being one."""
    user = users.get(call.instance, call.params["user_id"])
    for phone in user.phone_numbers:
        phone.is_second_factor = False
    return {"user_id": user.id}


def delete_absent_factors(call: BackendCall) -> Any:
    """Delete factors that no user of the emulator has."""
    return {"user_id": users.get(call.instance, call.params["user_id"]).id}


def verify_totp(call: BackendCall) -> Any:
    """Reject: no user has TOTP."""
    CODE.read(call.body)
    users.get(call.instance, call.params["user_id"])
    raise ApiError(400, ErrorDetail("totp_disabled", "no generator", "This user has no authenticator app."))


def refuse_delete(call: BackendCall) -> Any:
    """Reject: there is no such object."""
    users.get(call.instance, call.params["user_id"])
    wanted = [value for name, value in call.params.items() if name != "user_id"]
    raise not_found_error("identification", wanted[0])


def list_devices(call: BackendCall) -> Any:
    """Return an empty list of devices."""
    users.get(call.instance, call.params["user_id"])
    return {"data": [], "total_count": 0}


def list_oauth_tokens(call: BackendCall) -> Any:
    """Return an empty list of OAuth tokens."""
    users.get(call.instance, call.params["user_id"])
    return call.listing([], 0)


def set_password_compromised(call: BackendCall) -> Any:
    """Mark the password as compromised."""
    user = users.get(call.instance, call.params["user_id"])
    sign_out = bool(COMPROMISED.read(call.body).get("revoke_all_sessions"))
    return user_json.user(call.instance, users.set_password_compromised(call.instance, user, True, sign_out=sign_out))


def unset_password_compromised(call: BackendCall) -> Any:
    """Mark the password as not compromised."""
    user = users.get(call.instance, call.params["user_id"])
    return user_json.user(call.instance, users.set_password_compromised(call.instance, user, False))


HANDLERS: dict[str, BackendHandler] = {
    "DisableMFA": disable_mfa,
    "DeleteBackupCode": delete_absent_factors,
    "DeleteTOTP": delete_absent_factors,
    "VerifyTOTP": verify_totp,
    "UserPasskeyDelete": refuse_delete,
    "UserWeb3WalletDelete": refuse_delete,
    "DeleteExternalAccount": refuse_delete,
    "ListUserTrustedDevices": list_devices,
    "RevokeUserTrustedDevice": refuse_delete,
    "GetOAuthAccessToken": list_oauth_tokens,
    "SetUserPasswordCompromised": set_password_compromised,
    "UnsetUserPasswordCompromised": unset_password_compromised,
}
