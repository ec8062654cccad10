"""What the records say, in words: actions by their names, people by theirs. Pure."""

from collections.abc import Iterable, Mapping

from instep.kit.words import Words

GROUPS = ("invitation", "member", "user", "profile", "membership", "organization", "key", "session", "sync", "delivery")


def actions(words: Words) -> dict[str, str]:
    """What the actions and operations are called that the house knows."""
    _ = words.gettext
    return {
        "invitation.send": _("Invite"),
        "invitation.resend": _("Send invitation again"),
        "invitation.revoke": _("Revoke invitation"),
        "invitation.batch": _("Invite many"),
        "invitation.bulk": _("Invite up to ten"),
        "invitation.link_copied": _("Copy invitation link"),
        "application.invite": _("Invite to the application"),
        "application.resend": _("Send invitation to the application again"),
        "application.revoke": _("Revoke invitation to the application"),
        "member.role": _("Change role"),
        "member.deactivate": _("Deactivate"),
        "member.reactivate": _("Reactivate"),
        "member.remove": _("Remove"),
        "member.leave": _("Leave"),
        "member.restore": _("Restore membership"),
        "member.transfer": _("Hand over the organization"),
        "user.create": _("Create user"),
        "user.delete": _("Delete user"),
        "user.restore": _("Restore user"),
        "user.ban": _("Ban"),
        "user.unban": _("Lift ban"),
        "user.password": _("Set password"),
        "user.sessions": _("End sessions"),
        "profile.edit": _("Edit profile"),
        "profile.email": _("Replace e-mail address"),
        "profile.email.code": _("Send code to a new address"),
        "profile.email.verify": _("Change e-mail address"),
        "profile.reinvite": _("Invite under a new address"),
        "profile.reinvite.application": _("Invite to the application under a new address"),
        "key.created": _("Make key"),
        "key.revoked": _("Revoke key"),
        "member.bulk": _("Change many members"),
        "operation.retry": _("Retry operation"),
        "operation.give_up": _("Give up operation"),
        "impersonation.read": _("Read while acting as somebody else"),
        "impersonation.change": _("Change while acting as somebody else"),
        "session.break_glass": _("Sign in by the break-glass key"),
        "sync.check": _("Check sync"),
        "sync.plan": _("Plan a sync"),
        "sync.apply": _("Apply a plan"),
        "sync.first": _("Take everyone in"),
        "sync.changed": _("Take in the latest changes"),
        "sync.took": _("Took in a part of everyone"),
        "delivery.replay": _("Replay delivery"),
        "instance.rebind": _("Bind to another Clerk instance"),
        "user.seen": _("Person changed in Clerk"),
        "user.gone": _("Person deleted in Clerk"),
        "user.back": _("Person found in Clerk again"),
        "membership.seen": _("Membership changed in Clerk"),
        "membership.gone": _("Membership ended in Clerk"),
        "membership.back": _("Membership found in Clerk again"),
        "organization.seen": _("Organization changed in Clerk"),
        "organization.gone": _("Organization deleted in Clerk"),
        "organization.back": _("Organization found in Clerk again"),
    }


def action(key: str, words: Words) -> str:
    """An action in words; one that nobody named is called by its key."""
    return actions(words).get(key) or key.replace(".", " ").replace("_", " ").capitalize()


def group(key: str, words: Words) -> str:
    """A whole family of actions."""
    _ = words.gettext
    named = {
        "invitation": _("Invitations"),
        "member": _("Members"),
        "user": _("Users"),
        "profile": _("Profiles"),
        "membership": _("Memberships in Clerk"),
        "organization": _("Organizations in Clerk"),
        "key": _("Keys"),
        "session": _("Sign-ins by key"),
        "sync": _("Sync"),
        "delivery": _("Deliveries"),
    }
    return named.get(key) or action(key, words)


def actor(id: str, names: Mapping[str, str], words: Words) -> str:
    """Who did it."""
    _ = words.gettext
    ours = {"break_glass": _("Break-glass key"), "clerk": "Clerk", "system": "instep", "api_key": _("A key")}
    return names.get(id) or ours.get(id) or id


def actors(id: str, impersonator: str | None, names: Mapping[str, str], words: Words) -> str:
    """Return who did it; where somebody acted as them, both."""
    whom = actor(id, names, words)
    if impersonator is None:
        return whom
    return words.gettext("%(who)s as %(whom)s", who=actor(impersonator, names, words), whom=whom)


def target(text: str, names: Mapping[str, str], words: Words) -> str:
    """To whom or what: a name, the address of an invitation, or the id as it is."""
    kind, _, rest = text.partition(":")
    if kind == "invitation" and "@" in rest:
        return rest.partition(":")[2] or rest
    if kind == "batch":
        return words.gettext("A list of people")
    return next((names[id] for id in ids_in([text]) if id in names), rest or text)


def ids_in(texts: Iterable[str]) -> list[str]:
    """Every id that may have a name, in texts such as `membership:mbr_1`."""
    return [part for text in texts for part in dict.fromkeys((text, *text.split(":"))) if part]
