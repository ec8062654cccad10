"""Attempts to sign in and up are kept in bounds."""

import pytest

from clerk_emulator.state import attempts, sessions, sign_ins
from clerk_emulator.state.instance import Instance


def test_the_oldest_is_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST", 2)
    instance = Instance()
    made = [sign_ins.begin(instance, sessions.new_client(instance)) for _ in range(3)]
    assert [one.id in instance.sign_ins for one in made] == [False, True, True]


def test_a_browser_has_one_at_a_time() -> None:
    instance = Instance()
    client = sessions.new_client(instance)
    first, second = sign_ins.begin(instance, client), sign_ins.begin(instance, client)
    assert (first.id in instance.sign_ins, client.sign_in_id) == (False, second.id)
