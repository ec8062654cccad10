"""Who is about to be an admin no longer: what open operations say of it, so that the last admin stays on every path.

Whoever asks for a change notes in its intent what it will take: under LEAVES a membership that may be an admin's,
under LEAVES_EVERYWHERE a person whose whole account goes, under RISES a membership that is made an admin's.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

LEAVES, LEAVES_EVERYWHERE, RISES = "leaves_admin", "leaves_everywhere", "rises_to_admin"


class Underway(Struct, frozen=True, kw_only=True):
    """What the open operations will take and give: our ids of memberships, and of people."""

    leaving: frozenset[str] = frozenset()
    leaving_people: frozenset[str] = frozenset()
    rising: frozenset[str] = frozenset()

    def is_leaving(self, membership: str, person: str) -> bool:
        """Whether this admin counts no longer."""
        return membership in self.leaving or person in self.leaving_people


NOBODY = Underway()


def underway(intents: Iterable[Mapping[str, Any]]) -> Underway:
    """What the intents of all open operations say."""
    listed = list(intents)

    def named(key: str) -> frozenset[str]:
        return frozenset(intent[key] for intent in listed if isinstance(intent.get(key), str))

    return Underway(leaving=named(LEAVES), leaving_people=named(LEAVES_EVERYWHERE), rising=named(RISES))
