"""Proving once more, within a session, that one is who one says, as JSON."""

from typing import Any

from clerk_emulator.state.attempts import Reverification
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Session
from clerk_emulator.wire import attempts
from clerk_emulator.wire.clients import session as session_shape
from clerk_emulator.wire.site import Site

Json = dict[str, Any]


def reverification(instance: Instance, session: Session, found: Reverification, site: Site) -> Json:
    """Return an attempt to prove it once more, with its session."""
    user = instance.users.find(session.user_id)
    firsts = attempts.first_factors(user) if user and found.level != "second_factor" else []
    return {
        "object": "session_reverification",
        "level": found.level,
        "status": found.status,
        "supported_first_factors": [one for one in firsts if not one["strategy"].startswith("reset")] or None,
        "supported_second_factors": attempts.second_factors(user) if user and found.level != "first_factor" else None,
        "first_factor_verification": attempts.proof_of(instance, found.first_verification_id, found.first_proof),
        "second_factor_verification": attempts.proof_of(instance, found.second_verification_id, found.second_proof),
        "session": session_shape(instance, session, site),
    }
