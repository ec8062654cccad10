"""Why a sign-in did not work, in words a person can use."""

from typing import Any

from instep.kit.words import Words


def say(words: Words, why: str) -> str:
    """The sentence for a reason: one of access's own, or the `code` of a SessionRefused."""
    _ = words.gettext
    said = {
        "not_configured": _("Clerk authentication not configured. Set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY."),
        "cookies": _("Your browser did not keep our cookie. Allow cookies for this site, then sign in again."),
        "down": _("Clerk does not answer at the moment. Nothing was changed. Try again in a minute."),
        "foreign": _("That request did not come from this site. Nothing was changed."),
        "wrong": _("That is not the key."),
        "limited": _("Too many tries. Wait a minute, then try again."),
        "off": _("Signing in with a key is switched off here."),
        "loop": _("Signing in led round in a circle. Allow cookies for this site, then try again."),
        "expired": _("Clerk's answer was too old. Check that this server's clock is right, then try again."),
        "early": _("Clerk's answer was not valid yet. Check that this server's clock is right, then try again."),
        "party": _("Clerk's answer was made for another address. Check INSTEP_PUBLIC_URL, then try again."),
        "pending": _("Your sign-in is not finished at Clerk. Finish it there, then try again."),
    }
    unknown = _("Clerk's answer could not be verified (%(code)s). Check that Clerk's keys belong together.", code=why)
    return said.get(why, unknown)


def out_of_scope(words: Words) -> dict[str, Any]:
    """The page for a program whose key is not good for what it asks."""
    _ = words.gettext
    text = _("This key lacks the scope for it. Nothing was changed.")
    return {"status": 403, "title": _("Key not good for this"), "text": text}
