"""No two modules need each other."""

import pytest

from tests.house.structure import PRODUCTS, edges, find_cycle, product


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_modules_import_each_other_in_a_circle(name: str) -> None:
    """Prevents modules that only load in one order. Imports in functions and for the type checker count."""
    cycle = find_cycle(edges(product(name)))
    told = " imports ".join(cycle)
    assert not cycle, f"{told}. Move what they share below them; an import inside a function only hides it."
