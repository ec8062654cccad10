"""Where the emulator stands and by which keys it is known."""

import hashlib
import ipaddress
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from clerk_emulator.wire.keyring import Keyring, publishable_key

LOOPBACK_NAMES = ("localhost",)
PROXY = "/__clerk"  # where the Frontend API is too, as an application's own server would pass it on


@dataclass(slots=True, kw_only=True)
class Site:
    """The public address, the keys, and the hosts to which a browser may be sent back."""

    url: str
    secret_key: str
    keyring: Keyring
    pinned_publishable_key: str | None = None
    redirect_hosts: list[str] = field(default_factory=list)

    @property
    def publishable_key(self) -> str:
        """Return the publishable key: a given one, or one made from the address."""
        return self.pinned_publishable_key or publishable_key(urlsplit(self.url).netloc)

    @property
    def proxy_url(self) -> str:
        """Return what Clerk's clients take for `proxyUrl`."""
        return f"{self.url}{PROXY}"

    @property
    def cookie_suffix(self) -> str:
        """Return the suffix by which the cookies of this instance differ from those of another."""
        digest = hashlib.sha1(self.publishable_key.encode(), usedforsecurity=False).digest()
        return urlsafe_b64encode(digest).decode()[:8]

    def may_redirect_to(self, address: str) -> bool:
        """Say whether a browser may be sent to this address: loopback, or a host that was allowed."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        if "\\" in address or any(ord(letter) < 33 for letter in address):
            return False
        return is_loopback(parts.hostname) or "*" in self.redirect_hosts or parts.hostname in self.redirect_hosts


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine."""
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
