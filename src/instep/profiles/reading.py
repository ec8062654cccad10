"""What the slice's procedures read of Clerk, to find out what became of a call."""

from instep.identity.events import Seen
from instep.identity.model import ClerkId, User
from instep.identity.ports import Accounts, ProviderRefused


async def read_user(accounts: Accounts, id: ClerkId) -> Seen:
    """A user's present state. Raises ProviderRefused (404) where Clerk has no such user any more."""
    found = await accounts.find_user(id)
    if found is None:
        raise ProviderRefused(f"No user was found with id {id}.", code="resource_not_found", status=404)
    return found


def user_of(news: Seen) -> User:
    """The user that was read."""
    if not isinstance(news.entity, User):
        raise TypeError(f"{news.key} is no user")
    return news.entity
