"""The story of an invitation, in words. Pure."""

from msgspec import Struct

from instep.invitations.timeline import Event
from instep.invitations.tracing import Story
from instep.kit.words import When, Words


class Told(Struct, frozen=True, kw_only=True):
    """One thing that happened, as the page says it."""

    text: str
    icon: str
    at: When
    who: str = ""
    note: str = ""


def story_of(story: Story, *, now: int, words: Words) -> list[Told]:
    """Every event, oldest first."""
    return [_told(it, story, now, words) for it in story.events]


def _told(event: Event, story: Story, now: int, words: Words) -> Told:
    _ = words.gettext
    said = {
        "asked": (_("Asked for"), "user-plus"),
        "sent": (_("Sent by Clerk"), "mail"),
        "link_copied": (_("Link copied"), "link"),
        "resent": (_("Sent again"), "send"),
        "lost": (_("Lost: revoked, and not sent again yet"), "mail-x"),
        "revoked": (_("Revoked"), "mail-x"),
        "expired": (_("Expired"), "clock-alert"),
        "accepted": (_("Accepted"), "circle-check"),
        "member_made": (_("Member here"), "users"),
        "first_seen": (_("Signed in for the first time"), "log-in"),
    }
    text, icon = said[event.what]
    note = _("%(old)s became %(new)s", old=event.previous, new=event.invitation) if event.previous else ""
    ours = {"break_glass": _("Break-glass key")}
    who = "" if event.actor is None else story.names.get(event.actor) or ours.get(event.actor) or event.actor
    return Told(text=text, icon=icon, at=words.ago(event.at, now), who=who, note=note)
