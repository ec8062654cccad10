"""Proofs by code: which code is right, how often it may be tried, and until when."""

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Verification
from clerk_emulator.state.refusals import Problem, Refused, bad_field, missing_resource

CODE_LIFETIME = 10 * 60 * 1000
MOST_ATTEMPTS = 3


def open_(instance: Instance, identification_id: str, code: str, strategy: str) -> Verification:
    """Begin a proof."""
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
    """Return an open proof, or refuse."""
    found = instance.verifications.get(verification_id)
    if found is None or found.identification_id != identification_id:
        raise missing_resource("verification", verification_id)
    if found.status == "verified":
        raise Refused(400, Problem("verification_already_verified", "already verified", "It is verified."))
    return found


def is_right(instance: Instance, verification: Verification, code: str) -> bool:
    """Count an attempt and say whether the code is right and in time."""
    verification.attempts += 1
    if verification.expire_at <= instance.now:
        verification.status = "expired"
    elif verification.attempts > MOST_ATTEMPTS:
        verification.status = "failed"
    else:
        return code == verification.code
    return False


def newest(instance: Instance, identification_id: str) -> Verification:
    """Return the proof that was begun last for an address or a number, or refuse."""
    found = [row for row in instance.verifications.values() if row.identification_id == identification_id]
    if not found:
        raise _nothing_sent()
    return found[-1]


def require_right(instance: Instance, verification_id: str | None, strategy: str, code: str) -> None:
    """Try a code where a wrong one is a refusal: at signing in and signing up."""
    found = instance.verifications.get(verification_id or "")
    if found is None:
        raise _nothing_sent()
    if found.strategy != strategy:
        words = f"The code was sent for {found.strategy}."
        raise Refused(400, Problem("verification_strategy_invalid", "wrong strategy", words))
    if found.status == "verified":
        raise Refused(400, Problem("verification_already_verified", "already verified", "It is verified."))
    if is_right(instance, found, code):
        found.status = "verified"
    elif found.status == "expired":
        raise Refused(400, Problem("verification_expired", "expired", "The code has run out. Send a new one."))
    elif found.status == "failed":
        raise Refused(400, Problem("verification_failed", "too many attempts", "Too many attempts. Send a new code."))
    else:
        raise bad_field("form_code_incorrect", "code", "This is not the code that was sent.")


def _nothing_sent() -> Refused:
    words = "A code has to be sent before it can be tried."
    return Refused(400, Problem("verification_missing", "nothing was sent", words))
