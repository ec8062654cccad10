"""Signing keys: when they are fetched, and which keys are usable."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.jwks import MAX_KEY_AGE, MIN_FETCH_INTERVAL, JwksKeySource, StaticKeySource, parse_jwks
from instep.core.clock import Millis
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError, InvalidSessionError
from tests.clerk.tokens import KEY, NOW, OTHER_KEY, jwk

pytestmark = pytest.mark.anyio


class Clerk:
    """Returns `keys` or fails; counts fetches."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.fetch_count = 0
        self.failure: Exception | None = None
        self.at = NOW

    async def fetch(self) -> dict[str, Any]:
        self.fetch_count += 1
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        return {"keys": self.keys}

    def clock(self) -> Millis:
        return Millis(self.at)


async def test_a_key_is_fetched_once_however_many_ask_at_the_same_time() -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    found = await asyncio.gather(*(keys.find("ins_1") for _ in range(50)))
    assert clerk.fetch_count == 1
    assert all(key.public_numbers() == KEY.public_key().public_numbers() for key in found)


async def test_unknown_ids_cause_one_fetch_in_ten_seconds() -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    for number in range(20):
        with pytest.raises(InvalidSessionError) as refused:
            await keys.find(f"ins_{number + 2}")
        assert refused.value.code == "unknown_key"
    assert clerk.fetch_count == 1
    clerk.at += MIN_FETCH_INTERVAL
    with pytest.raises(InvalidSessionError):
        await keys.find("ins_2")
    assert clerk.fetch_count == 2


async def test_a_new_key_of_clerks_is_found_and_a_withdrawn_one_is_forgotten() -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    await keys.find("ins_1")
    clerk.keys = [jwk(OTHER_KEY, "ins_2")]
    clerk.at += MIN_FETCH_INTERVAL
    await keys.find("ins_2")
    with pytest.raises(InvalidSessionError):
        await keys.find("ins_1")


async def test_a_withdrawn_key_is_believed_for_an_hour_at_most() -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    await keys.find("ins_1")
    clerk.keys = [jwk(OTHER_KEY, "ins_2")]
    clerk.at += MAX_KEY_AGE - 1
    await keys.find("ins_1")
    clerk.at += 1
    with pytest.raises(InvalidSessionError):
        await keys.find("ins_1")


@pytest.mark.parametrize(
    "failure", [ClerkUnavailableError("no answer"), ClerkRejectedError("no", code="clerk_key_invalid", status=401)]
)
async def test_known_keys_stay_good_while_clerk_is_down(failure: Exception) -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    await keys.find("ins_1")
    clerk.failure = failure
    clerk.at += MAX_KEY_AGE
    await keys.find("ins_1")
    with pytest.raises(ClerkUnavailableError):
        await keys.find("ins_2")


@pytest.mark.parametrize(
    "answer", [{}, {"keys": []}, {"keys": None}, [], None, {"keys": [jwk() | {"use": "enc"}]}, {"keys": [{"kid": "x"}]}]
)
async def test_an_answer_without_a_usable_key_replaces_nothing(answer: Any) -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    await keys.find("ins_1")

    async def fetch_nothing() -> Any:
        return answer

    keys._fetch = fetch_nothing
    clerk.at += MAX_KEY_AGE
    assert await keys.find("ins_1")
    with pytest.raises(ClerkUnavailableError):
        await keys.find("ins_2")


async def test_an_empty_first_answer_is_clerks_fault_and_not_the_tokens() -> None:
    clerk = Clerk()
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    with pytest.raises(ClerkUnavailableError):
        await keys.find("ins_1")
    clerk.keys = [jwk()]
    clerk.at += MIN_FETCH_INTERVAL
    assert await keys.find("ins_1")


async def test_a_clerk_that_is_down_is_not_asked_by_every_request() -> None:
    clerk = Clerk(jwk())
    clerk.failure = ClerkUnavailableError("no answer")
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    for _ in range(5):
        with pytest.raises(ClerkUnavailableError):
            await keys.find("ins_1")
    assert clerk.fetch_count == 1
    clerk.failure = None
    clerk.at += MIN_FETCH_INTERVAL
    assert await keys.find("ins_1")


async def test_a_request_that_is_given_up_leaves_the_fetch_to_the_next() -> None:
    clerk = Clerk(jwk())
    keys = JwksKeySource(clerk.fetch, clock=clerk.clock)
    task = asyncio.create_task(keys.find("ins_1"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await keys.find("ins_1")


async def test_a_pem_answers_for_every_id() -> None:
    pem = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for text in (pem.decode(), pem.decode().replace("\n", "\\n")):
        assert (await StaticKeySource(text).find(None)).public_numbers() == KEY.public_key().public_numbers()


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_what_is_no_pem_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"PEM|key"):
        StaticKeySource(text)


def test_keys_that_are_not_for_rs256_signatures_are_left_out() -> None:
    weak = generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # it is to be refused
    document = {
        "keys": [
            jwk() | {"kid": "encryption", "use": "enc"},
            jwk() | {"kid": "other", "alg": "RS512"},
            jwk() | {"kid": "shared", "kty": "oct", "k": "AAAA"},
            jwk() | {"kid": 7},
            jwk() | {"kid": "broken", "n": "!"},
            {"kid": "empty", "kty": "RSA"},
            jwk(weak, "weak"),
            "nonsense",
            jwk(),
        ]
    }
    assert list(parse_jwks(document)) == ["ins_1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["keys", "kty", "kid", "n", "e", "use", "alg"]),
            inner | st.sampled_from(["RSA", "sig", "RS256", "AQAB"]),
        )
    ),
)


@given(JSON)
def test_any_document_is_read_without_an_error(document: Any) -> None:
    assert isinstance(parse_jwks(document), dict)
