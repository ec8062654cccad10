"""Everything that can be asked of the people of an organization, in one hand: for the API, the pages and the CLI."""

from dataclasses import dataclass

from instep.people.bulk import Bulk
from instep.people.changes import MemberChanges
from instep.people.consequences import FindConsequences
from instep.people.export import Export
from instep.people.flows import ListPeople


@dataclass(frozen=True)
class Members:
    """The flows of this slice."""

    list_people: ListPeople
    export: Export
    changes: MemberChanges
    bulk: Bulk
    consequences: FindConsequences
