"""Handlers of all emulated Backend API operations, by operationId."""

from clerk_emulator.backend_api import (
    access_control,
    api_keys,
    domains,
    emails,
    factors,
    images,
    instance,
    invitations,
    jwt_templates,
    machines,
    memberships,
    organization_invitations,
    organizations,
    phones,
    role_sets,
    roles,
    sessions,
    users,
)
from clerk_emulator.backend_api.call import BackendHandler

HANDLERS: dict[str, BackendHandler] = {
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
    **access_control.HANDLERS,
    **jwt_templates.HANDLERS,
    **machines.HANDLERS,
    **api_keys.HANDLERS,
    **instance.HANDLERS,
}
