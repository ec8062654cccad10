"""Ids and secrets in Clerk's formats."""

import random
import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LENGTH = 27


class IdGenerator:
    """Generates ids: the same sequence for a seed, otherwise unpredictable ones."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = secrets.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 - by wish

    def new(self, prefix: str) -> str:
        """Return a new id, for example `user_` and 27 letters and digits."""
        return f"{prefix}_" + "".join(self._random.choices(ALPHABET, k=LENGTH))

    def code(self) -> str:
        """Return six digits."""
        return "".join(self._random.choices(string.digits, k=6))

    def hexadecimal(self, prefix: str) -> str:
        """Return a new id in another format, for example `ak_` and 32 hexadecimal digits."""
        return f"{prefix}_" + "".join(self._random.choices("0123456789abcdef", k=32))

    def secret(self, prefix: str = "") -> str:
        """Return a secret; predictable only if the ids are seeded."""
        return prefix + "".join(self._random.choices(ALPHABET, k=43))
