"""Sign-in and sign-up attempts are bounded."""

import pytest

from clerk_emulator.state import auth_attempts, sessions, sign_ins
from clerk_emulator.state.instance import Instance


def test_the_oldest_attempt_is_deleted_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_attempts, "MAX_ATTEMPTS_KEPT", 2)
    instance = Instance()
    created = [sign_ins.start(instance, sessions.create_client(instance)) for _ in range(3)]
    assert [one.id in instance.sign_ins for one in created] == [False, True, True]


def test_a_client_has_one_attempt_at_a_time() -> None:
    instance = Instance()
    client = sessions.create_client(instance)
    first, second = sign_ins.start(instance, client), sign_ins.start(instance, client)
    assert (first.id in instance.sign_ins, client.sign_in_id) == (False, second.id)
