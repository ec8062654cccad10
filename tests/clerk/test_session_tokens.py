"""Session tokens: which are accepted, which are refused, and that nothing else can happen."""

import base64
import json
from contextlib import suppress
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.jwks import JwksKeySource
from instep.clerk.session_tokens import LEEWAY, MAX_TOKEN_LENGTH, SessionTokenVerifier, unpack_permissions
from instep.core.clock import Millis
from instep.domain.errors import InvalidSessionError
from instep.domain.models import SessionClaims
from tests.clerk.tokens import ISSUER, KEY, NOW, ORIGIN, OTHER_KEY, SECONDS, claims, jwk, sign

pytestmark = pytest.mark.anyio


async def fetch() -> dict[str, Any]:
    return {"keys": [jwk()]}


def verifier(at: int = NOW) -> SessionTokenVerifier:
    keys = JwksKeySource(fetch, clock=lambda: Millis(at))
    return SessionTokenVerifier(keys, frozenset([ISSUER]), frozenset([ORIGIN]), clock=lambda: Millis(at))


async def refusal(token: str, at: int = NOW) -> str:
    with pytest.raises(InvalidSessionError) as refused:
        await verifier(at).verify(token)
    return refused.value.code


async def test_a_v2_token_says_who_where_and_what_they_may() -> None:
    o = {"id": "org_1", "slg": "northwind", "rol": "admin", "per": "manage,read", "fpm": "3,2"}
    token = sign(claims(o=o, fea="o:dashboard,o:teams", pla="o:pro", fva=[5, -1], act={"sub": "user_boss"}))
    assert await verifier().verify(token) == SessionClaims(
        user="user_2qV",
        session="sess_2qV",
        organization="org_1",
        role="org:admin",
        permissions=frozenset({"org:dashboard:manage", "org:dashboard:read", "org:teams:read"}),
        expires_at=NOW + 60_000,
        actor="user_boss",
    )


async def test_a_v1_token_says_the_same() -> None:
    v1 = {"org_id": "org_1", "org_role": "org:admin", "org_slug": "northwind", "org_permissions": ["org:teams:read"]}
    said = await verifier().verify(sign(claims(v=None, sts=None, **v1)))
    assert (said.organization, said.role, said.permissions) == ("org_1", "org:admin", frozenset({"org:teams:read"}))


async def test_a_role_with_its_prefix_is_not_given_another() -> None:
    assert (await verifier().verify(sign(claims(o={"id": "org_1", "rol": "org:admin"})))).role == "org:admin"


async def test_without_an_active_organization_there_is_no_role() -> None:
    said = await verifier().verify(sign(claims()))
    assert (said.organization, said.role, said.permissions) == (None, None, frozenset())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://other.clerk.accounts.dev"}, "issuer"),
        ({"iss": None}, "malformed"),
        ({"azp": ""}, "party"),
        ({"azp": "https://evil.example"}, "party"),
        ({"exp": None}, "malformed"),
        ({"nbf": None}, "malformed"),
        ({"exp": "tomorrow"}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 1e308}, "malformed"),
        ({"nbf": 10**30}, "malformed"),
        ({"sts": "pending"}, "pending"),
        ({"sid": None}, "machine_token"),
        ({"sid": "client_1"}, "machine_token"),
        ({"sub": "mch_1"}, "machine_token"),
        ({"sub": None}, "malformed"),
        ({"sub": 7}, "malformed"),
        ({"o": "org_1"}, "malformed"),
        ({"org_permissions": "all"}, "malformed"),
    ],
)
async def test_claims_that_are_not_a_persons_for_us_are_refused(changes: dict[str, Any], code: str) -> None:
    assert await refusal(sign(claims(**changes))) == code


async def test_a_token_that_was_minted_without_an_origin_is_believed() -> None:
    """Clerk leaves `azp` out at top-level navigations and in tokens of the Backend API."""
    assert (await verifier().verify(sign(claims(azp=None)))).user == "user_2qV"


async def test_a_refusal_names_the_foreign_origin() -> None:
    with pytest.raises(InvalidSessionError, match=r"https://evil\.example"):
        await verifier().verify(sign(claims(azp="https://evil.example")))


async def test_a_token_is_good_until_its_end_and_five_seconds() -> None:
    end = NOW + 60_000 + LEEWAY
    assert await verifier(end - 1).verify(sign(claims()))
    assert await refusal(sign(claims()), end) == "expired"


async def test_a_token_is_good_from_five_seconds_before_its_beginning() -> None:
    token = sign(claims(nbf=SECONDS + 5))
    assert await verifier(NOW).verify(token)
    assert await refusal(token, NOW - 1) == "early"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "malformed"),
        ("a.b", "malformed"),
        ("a.b.c", "malformed"),
        ("ak_0123456789", "machine_token"),
        ("oat_0123456789", "machine_token"),
        ("mt_0123456789", "machine_token"),
        ("m2m_0123456789", "machine_token"),
        ("\ud800.\ud800.x", "malformed"),
        (sign(claims())[:-4], "malformed"),
        (sign(claims(), kid=None), "unknown_key"),
        (sign(claims(), kid="ins_2"), "unknown_key"),
        (sign(claims(), key=OTHER_KEY), "signature"),
        (sign(claims(), algorithm="RS512"), "algorithm"),
        (sign(claims(), key="s" * 64, algorithm="HS256"), "algorithm"),
        (sign(claims(), key="", algorithm="none"), "algorithm"),
        (sign(claims(), cat="cl_B7d4PD222AAA"), "machine_token"),
        (sign(claims(), cat="cl_B7d4PD333AAA"), "machine_token"),
        (sign(claims(), cat=["cl_B7d4PD111AAA"]), "machine_token"),
        (sign(claims(), typ="at+jwt"), "machine_token"),
        (sign(claims(filler="x" * MAX_TOKEN_LENGTH)), "malformed"),
    ],
    ids=lambda value: str(value)[:24].encode("ascii", "replace").decode(),
)
async def test_what_is_not_a_session_token_of_this_instance_is_refused(token: str, code: str) -> None:
    assert await refusal(token) in (code, "signature" if code == "malformed" and token.count(".") == 2 else code)


async def test_tokens_without_a_category_or_with_one_that_says_nothing_are_believed() -> None:
    plain = jwt.encode(claims(), KEY, "RS256", headers={"kid": "ins_1"})
    assert await verifier().verify(plain)
    assert await verifier().verify(sign(claims(), cat="cl_I7d4PD111III"))


async def test_the_public_key_as_a_shared_secret_fools_nobody() -> None:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"ins_1"}').rstrip(b"=").decode()
    assert await refusal(header + sign(claims())[sign(claims()).index(".") :]) == "algorithm"


@given(st.text() | st.tuples(st.text(), st.text(), st.text()).map(".".join))
async def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    assert await refusal(text)


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "kid", "typ", "cat", "crit", "b64"), JSON)),
    JSON,
    st.binary(),
)
async def test_any_header_is_refused_and_nothing_else_happens(header: Any, payload: Any, signature: bytes) -> None:
    header = {"alg": "RS256", "kid": "ins_1"} | header
    assert await refusal(f"{_part(header)}.{_part(payload)}.{base64.urlsafe_b64encode(signature).decode()}")


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("iss", "sub", "sid", "exp", "nbf", "azp", "sts", "v", "o", "fea", "act", "org_permissions"), JSON
        ),
    )
)
async def test_signed_claims_of_any_shape_are_read_or_refused(changes: dict[str, Any]) -> None:
    token = sign(claims() | changes)
    with suppress(InvalidSessionError):
        assert (await verifier().verify(token)).user.startswith("user_")


@given(features=st.text(), names=st.text(), maps=st.text())
def test_permissions_of_any_text_are_a_list(features: str, names: str, maps: str) -> None:
    assert isinstance(unpack_permissions(features=features, names=names, maps=maps), list)


def test_only_features_of_the_organization_count() -> None:
    assert unpack_permissions(features="u:mail,o:teams,ou:bills", names="read", maps="1,1") == [
        "org:teams:read",
        "org:bills:read",
    ]
