"""Verification codes: creation, attempts and expiry."""

from clerk_emulator.state.errors import ApiError, ErrorDetail, field_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Verification

CODE_LIFETIME = 10 * 60 * 1000
MAX_ATTEMPTS = 3


def create(instance: Instance, identification_id: str, code: str, strategy: str) -> Verification:
    """Create a verification."""
    verification = Verification(
        id=instance.ids.new("ver"),
        identification_id=identification_id,
        strategy=strategy,
        code=code,
        expire_at=instance.now + CODE_LIFETIME,
    )
    instance.verifications[verification.id] = verification
    return verification


def get(instance: Instance, identification_id: str, verification_id: str) -> Verification:
    """Return an open verification, or raise an ApiError."""
    found = instance.verifications.get(verification_id)
    if found is None or found.identification_id != identification_id:
        raise not_found_error("verification", verification_id)
    if found.status == "verified":
        raise ApiError(400, ErrorDetail("verification_already_verified", "already verified", "It is already verified."))
    return found


def check_code(instance: Instance, verification: Verification, code: str) -> bool:
    """Count an attempt and return whether the code is right and not expired."""
    verification.attempts += 1
    if verification.expire_at <= instance.now:
        verification.status = "expired"
    elif verification.attempts > MAX_ATTEMPTS:
        verification.status = "failed"
    else:
        return code == verification.code
    return False


def get_latest(instance: Instance, identification_id: str) -> Verification:
    """Return the latest verification of an address or a number, or raise an ApiError."""
    found = [row for row in instance.verifications.values() if row.identification_id == identification_id]
    if not found:
        raise _missing_error()
    return found[-1]


def require_code(instance: Instance, verification_id: str | None, strategy: str, code: str) -> None:
    """Check a code; a wrong one raises an ApiError, as at sign-in and sign-up."""
    found = instance.verifications.get(verification_id or "")
    if found is None:
        raise _missing_error()
    if found.strategy != strategy:
        message = f"The code was sent for {found.strategy}."
        raise ApiError(400, ErrorDetail("verification_strategy_invalid", "wrong strategy", message))
    if found.status == "verified":
        raise ApiError(400, ErrorDetail("verification_already_verified", "already verified", "It is already verified."))
    if check_code(instance, found, code):
        found.status = "verified"
    elif found.status == "expired":
        raise ApiError(400, ErrorDetail("verification_expired", "expired", "The code has expired. Send a new one."))
    elif found.status == "failed":
        raise ApiError(
            400, ErrorDetail("verification_failed", "too many attempts", "Too many attempts. Send a new code.")
        )
    else:
        raise field_error("form_code_incorrect", "code", "The code is incorrect.")


def _missing_error() -> ApiError:
    message = "A code must be sent first."
    return ApiError(400, ErrorDetail("verification_missing", "nothing was sent", message))
