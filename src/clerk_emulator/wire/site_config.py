"""Public address, keys and allowed redirect hosts of the emulator."""

import hashlib
import ipaddress
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from clerk_emulator.wire.keyring import Keyring, publishable_key

LOOPBACK_NAMES = ("localhost",)
SCRIPT_PACKAGES = {"clerk-js": "6", "ui": "1"}  # npm packages and their versions as in URLs
PROXY_PATH = "/__clerk"  # the Frontend API is also served here, as behind an application's proxy


@dataclass(slots=True, kw_only=True)
class SiteConfig:
    """Public address, keys, and the hosts to which a browser may be redirected."""

    url: str
    secret_key: str
    keyring: Keyring
    pinned_publishable_key: str | None = None
    redirect_hosts: list[str] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=lambda: dict(SCRIPT_PACKAGES))

    @property
    def publishable_key(self) -> str:
        """Return the publishable key: the given one, or one derived from the address."""
        return self.pinned_publishable_key or publishable_key(urlsplit(self.url).netloc)

    @property
    def proxy_url(self) -> str:
        """Return the `proxyUrl` for Clerk's clients."""
        return f"{self.url}{PROXY_PATH}"

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables for Clerk's clients, both of servers and of frameworks.

        Frameworks need the addresses of the scripts: from `proxyUrl` alone they derive one with https.
        """
        scripts = {
            name: f"{self.proxy_url}/npm/@clerk/{package}@{self.scripts[package]}/dist/{file}"
            for name, package, file in (("JS", "clerk-js", "clerk.browser.js"), ("UI", "ui", "ui.browser.js"))
            if package in self.scripts
        }
        public = {
            "PUBLISHABLE_KEY": self.publishable_key,
            "PROXY_URL": self.proxy_url,
            **{f"{name}_URL": address for name, address in scripts.items()},
        }
        return {
            "CLERK_API_URL": self.url,
            "CLERK_SECRET_KEY": self.secret_key,
            **{f"CLERK_{name}": value for name, value in public.items()},
            **{f"NEXT_PUBLIC_CLERK_{name}": value for name, value in public.items()},
        }

    @property
    def cookie_suffix(self) -> str:
        """Return the suffix that distinguishes this instance's cookies from those of others."""
        digest = hashlib.sha1(self.publishable_key.encode(), usedforsecurity=False).digest()
        return urlsafe_b64encode(digest).decode()[:8]

    def is_redirect_allowed(self, address: str) -> bool:
        """Return whether a browser may be redirected to this address: loopback, or an allowed host."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        if "\\" in address or any(ord(character) < 33 for character in address):
            return False
        return is_loopback(parts.hostname) or "*" in self.redirect_hosts or parts.hostname in self.redirect_hosts


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
