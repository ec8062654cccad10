"""The questions before a whole account is changed. Pure."""

from instep.kit.confirm import Confirm
from instep.kit.words import Words
from instep.profiles.profile import EmailChange, Profile

DEEDS = ("ban", "unban", "delete", "restore")


def question(deed: str, it: Profile, *, at: str, back: str, words: Words) -> Confirm:
    """The question before a deed; deleting asks for the name to be typed, for it erases the account in Clerk."""
    _, name = words.gettext, it.person.name
    titles = {
        "ban": (_("Ban %(name)s?", name=name), _("Ban")),
        "unban": (_("Let %(name)s in again?", name=name), _("Let in again")),
        "delete": (_("Delete %(name)s?", name=name), _("Delete")),
        "restore": (_("Restore %(name)s?", name=name), _("Restore")),
    }
    said = {
        "ban": (_("Every session ends, and no sign-in works, in Clerk and here."), _("You can let them in again.")),
        "unban": (_("A ban in Clerk is lifted, and they can come in here again."),),
        "delete": (
            _("They may not come in, and are a member nowhere any more."),
            _("Here the row stays and can be restored; what is deleted in Clerk can't be brought back there."),
        ),
        "restore": (
            _("They can come in again; where Clerk has deleted their account they sign up with the same address."),
        ),
    }
    title, verb = titles[deed]
    removals = (("delete", _("Delete it")), ("ban", _("Only ban it")), ("keep", _("Keep it, and sign out everywhere")))
    return Confirm(
        title=title,
        verb=verb,
        action=f"{at}/{deed}",
        cancel=back,
        consequences=said[deed],
        row=f"row-{it.person.id}",
        is_destructive=deed in ("ban", "delete"),
        word=_("delete") if deed == "delete" else "",
        field="clerk" if deed == "delete" else "",
        label=_("The account in Clerk"),
        choices=removals if deed == "delete" else (),
    )


def reinvite_question(change: EmailChange, it: Profile, *, at: str, back: str, words: Words) -> Confirm:
    """The offer to invite someone anew under another address."""
    _ = words.gettext
    return Confirm(
        title=_("Invite %(email)s and deactivate the old account?", email=change.email),
        verb=_("Invite and deactivate"),
        action=f"{at}/email/reinvite",
        cancel=back,
        consequences=tuple(_(it) for it in change.consequences),
        row=f"row-{it.person.id}",
        fields=(("email", change.email),),
        is_in_place=True,
    )
