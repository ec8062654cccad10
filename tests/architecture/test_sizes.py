"""Sizes beyond which a module, a function or a call is hard to follow."""

import pytest

from tests.architecture.structure import PRODUCTS, Function, Module, length, parameters, product

MODULE_LINES = 600
FUNCTION_LINES = 60
PARAMETERS = 8


def functions(name: str) -> list[tuple[Module, Function]]:
    """All functions, but those of released migrations: these are generated, and frozen."""
    handmade = [module for module in product(name) if not module.path.startswith("migrations/versions/")]
    return [(module, function) for module in handmade for function in module.functions]


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_module_is_longer_than_600_lines(name: str) -> None:
    """Prevents the admin file of 4,900 lines, which began as one of 400."""
    long = [f"{module.path}: {module.lines} lines" for module in product(name) if module.lines > MODULE_LINES]
    assert not long, "\n".join([*long, "Split it where its reasons to change differ."])


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_function_is_longer_than_60_lines(name: str) -> None:
    """Prevents the function that must be scrolled to be believed. The docstring counts."""
    long = [
        f"{module.path}, line {function.lineno}: {function.name} has {length(function)} lines"
        for module, function in functions(name)
        if length(function) > FUNCTION_LINES
    ]
    assert not long, "\n".join([*long, "Make a staircase of it: each step a function with a name."])


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_function_takes_more_than_eight_parameters(name: str) -> None:
    """Prevents calls that nobody can read without the definition beside them. `self` and `cls` do not count."""
    greedy = [
        f"{module.path}, line {function.lineno}: {function.name} takes {parameters(function)}"
        for module, function in functions(name)
        if parameters(function) > PARAMETERS
    ]
    assert not greedy, "\n".join([*greedy, "Things that travel together are a type: give it a name."])
