"""JSON of a reverification attempt."""

from typing import Any

from clerk_emulator.state.auth_attempts import Reverification
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Session
from clerk_emulator.wire import auth_attempt_json
from clerk_emulator.wire.client_json import session as session_json
from clerk_emulator.wire.site_config import SiteConfig

JsonObject = dict[str, Any]


def reverification(instance: Instance, session: Session, found: Reverification, site: SiteConfig) -> JsonObject:
    """Return a reverification attempt with its session."""
    user = instance.users.find(session.user_id)
    factors = auth_attempt_json.first_factors(user) if user and found.level != "second_factor" else []
    return {
        "object": "session_reverification",
        "level": found.level,
        "status": found.status,
        "supported_first_factors": [one for one in factors if not one["strategy"].startswith("reset")] or None,
        "supported_second_factors": auth_attempt_json.second_factors(user)
        if user and found.level != "first_factor"
        else None,
        "first_factor_verification": auth_attempt_json.verification_state(
            instance, found.first_verification_id, found.first_proof
        ),
        "second_factor_verification": auth_attempt_json.verification_state(
            instance, found.second_verification_id, found.second_proof
        ),
        "session": session_json(instance, session, site),
    }
