"""The operations that the emulator has, each with its handler."""

from clerk_emulator.routes import (
    access,
    api_keys,
    domains,
    emails,
    factors,
    images,
    instance,
    invitations,
    machines,
    memberships,
    organization_invitations,
    organizations,
    phones,
    role_sets,
    roles,
    sessions,
    templates,
    users,
)
from clerk_emulator.routes.call import Handler

HANDLERS: dict[str, Handler] = {
    **users.HANDLERS,
    **emails.HANDLERS,
    **phones.HANDLERS,
    **factors.HANDLERS,
    **images.HANDLERS,
    **organizations.HANDLERS,
    **memberships.HANDLERS,
    **organization_invitations.HANDLERS,
    **domains.HANDLERS,
    **invitations.HANDLERS,
    **sessions.HANDLERS,
    **roles.HANDLERS,
    **role_sets.HANDLERS,
    **access.HANDLERS,
    **templates.HANDLERS,
    **machines.HANDLERS,
    **api_keys.HANDLERS,
    **instance.HANDLERS,
}
