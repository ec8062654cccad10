"""The picture of whoever uploaded none: their initials, drawn by the emulator, so that no page asks another host."""

from urllib.parse import quote
from zlib import crc32

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Organization, User

PATH = "/images/initials"
MOST_LETTERS = 2
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256" viewBox="0 0 256 256" role="img">'
    '<rect width="256" height="256" fill="hsl({hue} 45% 40%)"/>'
    '<text x="128" y="128" dy=".35em" text-anchor="middle" fill="#fff" font-family="sans-serif" font-size="{size}">'
    "{letters}</text></svg>"
)


def user_picture(instance: Instance, user: User) -> str:
    """Return the address of a user's picture, or of the initials where there is none."""
    names = [name for name in (user.first_name, user.last_name) if name]
    return user.image_url or _address(instance, user.id, names or [user.identifier])


def organization_picture(instance: Instance, organization: Organization) -> str:
    """Return the address of an organization's logo, or of the initials where there is none."""
    return organization.image_url or _address(instance, organization.id, organization.name.split())


def svg(letters: str, hue: int) -> str | None:
    """Return the picture of one or two letters or digits, or None for anything else: nothing needs to be escaped."""
    if not 1 <= len(letters) <= MOST_LETTERS or not letters.isalnum():
        return None
    return SVG.format(letters=letters, hue=hue % 360, size=112 if len(letters) > 1 else 144)


def _address(instance: Instance, owner_id: str, names: list[str]) -> str:
    """Return an address that depends on what is drawn alone. `.svg` at its end lets next/image pass it through."""
    firsts = (next(filter(str.isalnum, name), "") for name in names)
    letters = "".join(first.upper()[:1] for first in firsts if first)[:MOST_LETTERS]
    return f"{instance.public_url}{PATH}/{crc32(owner_id.encode()) % 360}/{quote(letters or '0')}.svg"
