"""The questions before a member is changed: what it will do, in the words of both sides. Pure."""

from collections.abc import Mapping

from instep.kit.confirm import Confirm
from instep.kit.words import Words
from instep.people.consequences import Consequences
from instep.people.rules import Policy


def question(deed: str, found: Consequences, *, at: str, cancel: str, words: Words, policy: Policy) -> Confirm:
    """The question before deactivating, reactivating or removing one member. `at` is above their actions."""
    _, name = words.gettext, found.member.name
    titles = {
        "deactivate": (_("Deactivate %(name)s?", name=name), _("Deactivate")),
        "reactivate": (_("Reactivate %(name)s?", name=name), _("Reactivate")),
        "remove": (_("Remove %(name)s?", name=name), _("Remove")),
    }
    title, verb = titles[deed]
    why_not = {"deactivate": found.no_deactivation, "remove": found.no_removal}.get(deed)
    return Confirm(
        title=title,
        verb=verb,
        action=f"{at}/{deed}",
        cancel=cancel,
        consequences=() if why_not else _consequences(deed, found, words, policy),
        why_not=words.gettext(why_not) if why_not else "",
        row=f"row-{found.member.id}",
        is_destructive=deed != "reactivate",
    )


def role_question(found: Consequences, roles: Mapping[str, str], *, at: str, cancel: str, words: Words) -> Confirm:
    """The question which role a member shall have."""
    _ = words.gettext
    member = found.member
    own = () if member.role in roles else ((member.role, member.role),)
    return Confirm(
        title=_("Change role of %(name)s", name=member.name),
        verb=_("Change role"),
        action=f"{at}/role",
        cancel=cancel,
        row=f"row-{member.id}",
        is_destructive=False,
        field="role",
        label=_("Role"),
        choices=(*own, *roles.items()),
        chosen=member.role,
        consequences=(_("It counts at once, here and in Clerk."),),
    )


def leave_question(organization: str, *, home: str, words: Words) -> Confirm:
    """The question before leaving an organization oneself."""
    _ = words.gettext
    return Confirm(
        title=_("Leave %(name)s?", name=organization),
        verb=_("Leave"),
        action=f"{home}/leave",
        cancel=f"{home}/members",
        consequences=(
            _("You lose access to %(name)s at once, here and in Clerk.", name=organization),
            _("An admin can invite you again."),
        ),
    )


def _consequences(deed: str, found: Consequences, words: Words, policy: Policy) -> tuple[str, ...]:
    _ = words.gettext
    if deed == "reactivate":
        role = _("Admin") if found.is_admin else _("the role they had")
        return (_("They can come in again at once, as %(role)s.", role=role), _sign_in(found, words))
    said = {
        "database": _("They are out at their next click. Their membership in Clerk stays."),
        "membership": _("They are out at their next click. Their membership in Clerk ends, and is made again later."),
        "ban": _("They are out at their next click, and banned in Clerk where they are in no other organization."),
    }
    first = (
        said[policy] if deed == "deactivate" else _("They lose access here and in Clerk. You can invite them again.")
    )
    return tuple(it for it in (first, _sessions(found, words), _invitations(found, words)) if it)


def _sign_in(found: Consequences, words: Words) -> str:
    return words.gettext("They sign in anew; nothing else changes.")


def _sessions(found: Consequences, words: Words) -> str:
    if found.sessions is None:
        return words.gettext("Their sessions in Clerk are ended (Clerk does not say now how many there are).")
    if not found.sessions:
        return ""
    others = ", ".join(found.organizations)
    ends = words.ngettext("%(num)s session ends", "%(num)s sessions end", found.sessions)
    if others:
        return words.gettext("%(ends)s; in %(others)s they sign in again.", ends=ends, others=others)
    return f"{ends}."


def _invitations(found: Consequences, words: Words) -> str:
    if not found.invitations:
        return ""
    sent = found.invitations
    return words.ngettext(
        "%(num)s invitation that they sent stays open: %(who)s.",
        "%(num)s invitations that they sent stay open: %(who)s.",
        len(sent),
        who=", ".join(sent[:3]) + ("…" if len(sent) > 3 else ""),
    )
