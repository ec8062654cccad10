"""Rate limits: so many calls within a sliding time, for the instance, for some operations, and for single things."""

from collections import deque
from collections.abc import Iterator, Mapping

from clerk_emulator.state.refusals import Problem, Refused

SECOND = 1_000
HOUR = 3_600 * SECOND
OF_INSTANCE = {"development": 100, "production": 1_000}
UNLIMITED = ("GetJWKS",)
OF_OPERATION = {
    "CreateInvitation": (100, HOUR),
    "CreateBulkInvitations": (25, HOUR),
    "CreateOrganizationInvitation": (250, HOUR),
    "CreateOrganizationInvitationBulk": (50, HOUR),
}
OF_THING = {  # ten in ten seconds for the thing that these parameters of the path name; together for a group
    "UpdateUser": ("user", "user_id"),
    "UpdateUserMetadata": ("user", "user_id"),
    "ReplaceUserMetadata": ("user", "user_id"),
    "UpdateOrganization": ("organization", "organization_id"),
    "MergeOrganizationMetadata": ("organization", "organization_id"),
    "ReplaceOrganizationMetadata": ("organization", "organization_id"),
    "UpdateOrganizationMembership": ("membership", "organization_id", "user_id"),
    "UpdateOrganizationMembershipMetadata": ("membership", "organization_id", "user_id"),
}


class TooMany(Refused):
    """429: later."""

    def __init__(self, seconds: int) -> None:
        super().__init__(429, Problem("too_many_requests", "too many requests", f"Again in {seconds} seconds."))
        self.seconds = seconds


class Limits:
    """Counts calls. What is refused does not count."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, ...], deque[int]] = {}

    def require_room(self, kind: str, now: int, operation: str, params: Mapping[str, str]) -> None:
        """Count a call, or refuse it."""
        if kind not in OF_INSTANCE or operation in UNLIMITED:
            return
        found = [(self._window(name, now, span), most, span) for name, most, span in _rules(kind, operation, params)]
        waits = [window[0] + span - now for window, most, span in found if len(window) >= most]
        if waits:
            raise TooMany(max(1, -(-max(waits) // SECOND)))
        for window, _, _ in found:
            window.append(now)

    def clear(self) -> None:
        """Forget the calls."""
        self._calls.clear()

    def _window(self, name: tuple[str, ...], now: int, span: int) -> deque[int]:
        window = self._calls.setdefault(name, deque())
        while window and not now - span < window[0] <= now:
            window.popleft()
        return window


def _rules(kind: str, operation: str, params: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    yield ("instance",), OF_INSTANCE[kind], 10 * SECOND
    if operation in OF_OPERATION:
        most, span = OF_OPERATION[operation]
        yield ("operation", operation), most, span
    if operation in OF_THING:
        thing, *names = OF_THING[operation]
        yield (thing, *(params[name] for name in names)), 10, 10 * SECOND
