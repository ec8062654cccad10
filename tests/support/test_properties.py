"""A property that fails says with what, and how to see it again."""

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(database=None)
@given(number=st.integers())
def all_numbers_are_small(number: int) -> None:
    assert number < 100


def test_a_failing_property_shows_its_values_and_the_way_to_repeat_it() -> None:
    with pytest.raises(AssertionError) as failure:
        all_numbers_are_small()
    words = "\n".join(failure.value.__notes__)
    assert "number=100" in words
    assert "@reproduce_failure(" in words


def test_the_report_is_the_same_beside_schemathesis() -> None:
    schema = schemathesis.openapi.from_dict({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}})
    assert list(schema.get_all_operations()) == []
    test_a_failing_property_shows_its_values_and_the_way_to_repeat_it()
