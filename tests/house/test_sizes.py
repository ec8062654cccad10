"""Files fit on a few screens, functions on part of one, and callers need not juggle."""

import pytest

from tests.house.structure import PRODUCTS, Function, Module, length, parameters, percentile, product


def files(name: str) -> list[Module]:
    """The modules with something in them: one-line packages would only flatter the figures."""
    return [module for module in product(name) if not module.is_empty]


def functions(name: str) -> list[tuple[Module, Function]]:
    """All functions, but those of released migrations: these are generated, and frozen."""
    handmade = [module for module in product(name) if not module.path.startswith("migrations/versions/")]
    return [(module, function) for module in handmade for function in module.functions]


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_file_is_longer_than_400_lines(name: str) -> None:
    """Prevents the admin file of 4,900 lines, which began as one of 400."""
    long = [f"{module.path}: {module.lines} lines" for module in files(name) if module.lines > 400]
    assert not long, "\n".join([*long, "Split it where its reasons to change differ."])


@pytest.mark.parametrize("name", PRODUCTS)
def test_most_files_are_short(name: str) -> None:
    """Prevents every file from growing to just below the limit: median below 150 lines, nine in ten below 250."""
    sizes = [module.lines for module in files(name)]
    largest = sorted(files(name), key=lambda module: -module.lines)[: len(sizes) // 10 + 1]
    told = ", ".join(f"{module.path} {module.lines}" for module in largest)
    assert percentile(sizes, 0.5) < 150, f"half of the files have {percentile(sizes, 0.5)} lines or more"
    assert percentile(sizes, 0.9) < 250, f"a tenth of the files has {percentile(sizes, 0.9)} lines or more: {told}"


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_function_is_longer_than_60_lines(name: str) -> None:
    """Prevents the function that must be scrolled to be believed. The docstring counts."""
    long = [
        f"{module.path}, line {function.lineno}: {function.name} has {length(function)} lines"
        for module, function in functions(name)
        if length(function) > 60
    ]
    assert not long, "\n".join([*long, "Make a staircase of it: each step a function with a name."])


@pytest.mark.parametrize("name", PRODUCTS)
def test_half_of_the_functions_have_ten_lines_at_most(name: str) -> None:
    """Prevents the slow growth of all functions at once."""
    median = percentile((length(function) for _, function in functions(name)), 0.5)
    assert median <= 10, f"the median function of {name} has {median} lines; name the steps of the longer ones"


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_function_takes_more_than_six_things(name: str) -> None:
    """Prevents calls that nobody can read without the definition beside them. `self` and `cls` do not count."""
    greedy = [
        f"{module.path}, line {function.lineno}: {function.name} takes {parameters(function)}"
        for module, function in functions(name)
        if parameters(function) > 6
    ]
    assert not greedy, "\n".join([*greedy, "Things that travel together are a type: give it a name."])
