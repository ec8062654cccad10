"""The log of refused requests: one line each, bounded, because anybody can cause them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from instep.identity.session import SessionRefused
from instep.kit.clock import MINUTE, Clock
from instep.kit.clock import now as system_now

LINES_PER_MINUTE = 20  # of one reason: enough to find a wrong setting, too few to fill a disk
MISSING = "missing"
API = "/v1/"


@dataclass
class _Window:
    begun_at: int
    lines: int = 0
    suppressed: int = 0


@dataclass
class RefusalLog:
    """Writes at most `LINES_PER_MINUTE` lines a minute for each reason; the next line counts what was left out.

    `write` takes an event and its fields. A page without credentials is the way to sign in, and no refusal.
    """

    write: Callable[..., None]
    clock: Clock = system_now
    windows: dict[str, _Window] = field(default_factory=dict)

    def note(self, request: Request, refused: SessionRefused) -> None:
        """Log that a request was refused, and by which rule; nothing of the credentials themselves."""
        path = request.scope["path"]
        if refused.code == MISSING and not path.startswith(API):
            return
        window = self._window(refused.code)
        if window.lines >= LINES_PER_MINUTE:
            window.suppressed += 1
            return
        window.lines += 1
        more = {"suppressed": window.suppressed} if window.suppressed else {}
        window.suppressed = 0
        client = request.client.host if request.client else "unknown"
        self.write("authentication_refused", reason=refused.code, detail=str(refused), path=path, client=client, **more)

    def _window(self, reason: str) -> _Window:
        """Return the present minute of a reason. A clock that went back begins a new one."""
        at, window = self.clock(), self.windows.get(reason)
        if window is None or not 0 <= at - window.begun_at < MINUTE:
            window = _Window(at, suppressed=window.suppressed if window else 0)
            self.windows[reason] = window
        return window
