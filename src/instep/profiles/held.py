"""Secrets that an operation needs and must not keep: held in this process only, for as long as it waits."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Held:
    """Passwords and codes by a name that may be kept; another process, or this one later, does not find them."""

    _by_name: dict[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def hold(self, secret: str) -> Iterator[str]:
        """Hold a secret; gives its name."""
        name = secrets.token_hex(8)
        self._by_name[name] = secret
        try:
            yield name
        finally:
            del self._by_name[name]

    def find(self, name: str) -> str | None:
        """The secret of this name, None where it is held no longer."""
        return self._by_name.get(name)
