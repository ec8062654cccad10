"""How every kind of operation on people is carried out."""

from typing import Protocol

from instep.identity.ports import Accounts, Actor, Admissions, Directory
from instep.journal.model import Procedures
from instep.kit.clock import Clock
from instep.profiles import accounts, editing, emails, password, reinviting, sessions
from instep.profiles.held import Held


class Provider(Accounts, Actor, Admissions, Directory, Protocol):
    """Everything that these operations need of the provider."""


def procedures(provider: Provider, held: Held, clock: Clock) -> Procedures:
    """By kind. `held` is the one that the flows have."""
    return {
        editing.KIND: editing.procedure(provider, clock),
        password.KIND: password.procedure(provider, held, clock),
        sessions.KIND: sessions.procedure(provider, clock),
        reinviting.KIND: reinviting.procedure(provider, provider, provider, clock),
        reinviting.TO_APPLICATION: reinviting.to_application(provider, provider, clock),
        **accounts.procedures(provider, clock),
        **emails.procedures(provider, held, clock),
    }
