"""Default avatars: initials drawn as SVG."""

from urllib.parse import quote
from zlib import crc32

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Organization, User

AVATAR_PATH = "/images/initials"
MAX_LETTERS = 2
SVG_TEMPLATE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256" viewBox="0 0 256 256" role="img">'
    '<rect width="256" height="256" fill="hsl({hue} 45% 40%)"/>'
    '<text x="128" y="128" dy=".35em" text-anchor="middle" fill="#fff" font-family="sans-serif" font-size="{size}">'
    "{letters}</text></svg>"
)


def user_image_url(instance: Instance, user: User) -> str:
    """Return the URL of a user's image, or of the initials if there is none."""
    names = [name for name in (user.first_name, user.last_name) if name]
    return user.image_url or _avatar_url(instance, user.id, names or [user.identifier])


def organization_image_url(instance: Instance, organization: Organization) -> str:
    """Return the URL of an organization's logo, or of the initials if there is none."""
    return organization.image_url or _avatar_url(instance, organization.id, organization.name.split())


def render_svg(letters: str, hue: int) -> str | None:
    """Return an image of one or two letters or digits; None for other text, so that nothing needs escaping."""
    if not 1 <= len(letters) <= MAX_LETTERS or not letters.isalnum():
        return None
    return SVG_TEMPLATE.format(letters=letters, hue=hue % 360, size=112 if len(letters) > 1 else 144)


def _avatar_url(instance: Instance, owner_id: str, names: list[str]) -> str:
    """Return a URL that depends only on what is drawn. next/image accepts it because of the suffix `.svg`."""
    initials = (next(filter(str.isalnum, name), "") for name in names)
    letters = "".join(first.upper()[:1] for first in initials if first)[:MAX_LETTERS]
    return f"{instance.public_url}{AVATAR_PATH}/{crc32(owner_id.encode()) % 360}/{quote(letters or '0')}.svg"
