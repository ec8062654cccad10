"""What proves a user: second factors, passkeys, wallets, foreign accounts, of which nobody here has any."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import users
from clerk_emulator.state.refusals import Problem, Refused, missing_resource
from clerk_emulator.wire import forms, people

CODE = forms.Form({"code": forms.text}, required=("code",), strict=False)
COMPROMISED = forms.Form({"revoke_all_sessions": forms.nullable(forms.flag)}, strict=False)


def disable(call: Call) -> Any:
    """Take second factors away; phone numbers are none any more then."""
    user = users.get(call.instance, call.params["user_id"])
    for phone in user.phone_numbers:
        phone.is_second_factor = False
    return {"user_id": user.id}


def leave(call: Call) -> Any:
    """Take away what nobody has."""
    return {"user_id": users.get(call.instance, call.params["user_id"]).id}


def verify_totp(call: Call) -> Any:
    """Refuse: nobody has a generator of codes."""
    CODE.read(call.body)
    users.get(call.instance, call.params["user_id"])
    raise Refused(400, Problem("totp_disabled", "no generator", "This user has no generator of codes."))


def none_to_delete(call: Call) -> Any:
    """Refuse: there is no such thing."""
    users.get(call.instance, call.params["user_id"])
    wanted = [value for name, value in call.params.items() if name != "user_id"]
    raise missing_resource("identification", wanted[0])


def list_devices(call: Call) -> Any:
    """Answer no devices."""
    users.get(call.instance, call.params["user_id"])
    return {"data": [], "total_count": 0}


def list_oauth_tokens(call: Call) -> Any:
    """Answer no tokens of other providers."""
    users.get(call.instance, call.params["user_id"])
    return call.listing([], 0)


def set_compromised(call: Call) -> Any:
    """Say that somebody else may know the password."""
    user = users.get(call.instance, call.params["user_id"])
    sign_out = bool(COMPROMISED.read(call.body).get("revoke_all_sessions"))
    return people.user(call.instance, users.set_compromised(call.instance, user, True, sign_out=sign_out))


def unset_compromised(call: Call) -> Any:
    """Take that back."""
    user = users.get(call.instance, call.params["user_id"])
    return people.user(call.instance, users.set_compromised(call.instance, user, False))


HANDLERS: dict[str, Handler] = {
    "DisableMFA": disable,
    "DeleteBackupCode": leave,
    "DeleteTOTP": leave,
    "VerifyTOTP": verify_totp,
    "UserPasskeyDelete": none_to_delete,
    "UserWeb3WalletDelete": none_to_delete,
    "DeleteExternalAccount": none_to_delete,
    "ListUserTrustedDevices": list_devices,
    "RevokeUserTrustedDevice": none_to_delete,
    "GetOAuthAccessToken": list_oauth_tokens,
    "SetUserPasswordCompromised": set_compromised,
    "UnsetUserPasswordCompromised": unset_compromised,
}
