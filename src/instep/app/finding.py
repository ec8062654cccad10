"""The people that the command palette finds: whom the asker may see, and where."""

from collections.abc import Awaitable, Callable

from instep.access.commands import MOST, Command
from instep.access.frame import home_of
from instep.access.principal import Access, Principal
from instep.app.wiring import Services
from instep.mirror.people import PersonRow
from instep.people.merge import MEMBER_STATUSES, Ask, MemberRow
from instep.people.rows import name_of
from instep.profiles.profile import Ask as UsersAsk


def finder(services: Services) -> Callable[[Access | Principal, str], Awaitable[list[Command]]]:
    """The people that some words mean: of the organization first; for instance admins everyone."""

    async def within(access: Access, text: str) -> dict[str, Command]:
        ask = Ask(limit=MOST, query=text, statuses=frozenset(MEMBER_STATUSES))
        listed = (await services.members.list_people(access, ask)).rows
        home = home_of(access)
        rows = [it for it in listed if isinstance(it, MemberRow)]
        return {it.user_id: _person(name_of(it), it, f"{home}/members/{it.user_id}") for it in rows}

    async def find(asker: Access | Principal, text: str) -> list[Command]:
        principal = asker.principal if isinstance(asker, Access) else asker
        found = await within(asker, text) if isinstance(asker, Access) else {}
        if principal.is_instance_admin and len(found) < MOST:
            users = await services.profiles.users.list(principal, UsersAsk(limit=MOST, query=text))
            others = [it.person for it in users.rows if it.person.id not in found]
            found |= {it.id: _person(it.name, it, f"/users/{it.id}") for it in others}
        return list(found.values())

    return find


def _person(name: str, it: MemberRow | PersonRow, href: str) -> Command:
    name, email = name or it.email or "", it.email or ""
    return Command(
        name=name,
        icon="users",
        detail=email if email != name else "",
        href=href,
        is_dialog=True,
        avatar="person",
        image_url=it.image_url,
    )
