"""The architecture tests can fail: in a made-up package, every kind of violation is found."""

import ast
import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.architecture import structure
from tests.architecture.structure import Module, edges, find_cycle, find_trespassers, find_upward_imports

LAYERS = {"kit": 1, "cellar": 2, "attic": 3, "other_attic": 3}


@pytest.fixture
def build(tmp_path: Path) -> "Build":
    return Build(tmp_path / "house")


class Build:
    """Writes modules of a package called `house`, a few lines each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, **files: str) -> list[Module]:
        for name, source in files.items():
            path = self.folder / (re.sub(r"__(?!init__$|$)", "/", name) + ".py")
            for above in [path.parent, *path.parent.parents]:
                if above.is_relative_to(self.folder):
                    above.mkdir(parents=True, exist_ok=True)
                    (above / "__init__.py").touch()
            path.write_text(dedent(source))
        return structure.read(self.folder)


IMPORTS_OF_THE_ATTIC = {
    "plain": "import house.attic.roof",
    "from": "from house.attic import roof",
    "of a name": "from house.attic.roof import tile",
    "relative": "from ..attic import roof",
    "in a function": "def late():\n    from house.attic import roof",
    "for the type checker": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.attic import roof",
    "by a string": "import importlib\nroof = importlib.import_module('house.attic.roof')",
}


@pytest.mark.parametrize("source", IMPORTS_OF_THE_ATTIC.values(), ids=IMPORTS_OF_THE_ATTIC)
def test_an_import_that_imports_is_found_however_it_is_written(build: Build, source: str) -> None:
    imports = find_upward_imports(build(attic__roof="tile = 1", cellar__wine=source), LAYERS)
    assert any(each.startswith("house.cellar.wine, line") and "house.attic" in each for each in imports)


def test_an_import_that_goes_down_or_stays_in_its_room_is_welcome(build: Build) -> None:
    house = build(
        kit__nail="",
        cellar__wine="from house.kit import nail",
        attic__roof="from house.cellar import wine\nfrom house.attic import beam",
        attic__beam="from . import __doc__ as words",
    )
    assert find_upward_imports(house, LAYERS) == []


def test_packages_of_one_layer_do_not_import_each_other(build: Build) -> None:
    house = build(attic__roof="", other_attic__roof="from house.attic import roof")
    assert find_upward_imports(house, LAYERS) == [
        "house.other_attic.roof, line 1: imports house.attic",
        "house.other_attic.roof, line 1: imports house.attic.roof",
    ]


def test_a_package_without_a_layer_neither_imports_nor_is_imported(build: Build) -> None:
    house = build(shed__rake="from house.kit import nail", kit__nail="", attic__roof="from house.shed import rake")
    imports = find_upward_imports(house, LAYERS)
    assert {each.partition(",")[0] for each in imports} == {"house.shed.rake", "house.attic.roof"}


def test_the_face_of_the_house_may_show_anything_or_be_looked_at_but_not_both(build: Build) -> None:
    house = build(kit__nail="", __init__="from house.kit import nail")
    assert (find_upward_imports(house, LAYERS), find_cycle(edges(house))) == ([], [])
    house = build(kit__nail="from house import address", __init__="address = 1")
    assert (find_upward_imports(house, LAYERS), find_cycle(edges(house))) == ([], [])
    house = build(kit__nail="from house import nail", __init__="from house.kit import nail")
    assert find_cycle(edges(house)) != []


def test_a_circle_of_three_is_found_with_its_way_round(build: Build) -> None:
    house = build(
        kit__a="from house.kit import b", kit__b="def f():\n    import house.kit.c", kit__c="from .a import x"
    )
    assert sorted(find_cycle(edges(house))[1:]) == ["house.kit.a", "house.kit.b", "house.kit.c"]


def test_a_package_and_its_own_module_can_be_a_circle(build: Build) -> None:
    house = build(kit__nail="from house.kit import hammer", kit____init__="from house.kit.nail import head\nhammer = 1")
    assert find_cycle(edges(house)) != []


def test_a_package_that_shows_what_its_modules_have_is_no_circle(build: Build) -> None:
    house = build(
        kit__nail="from house.kit.iron import ore", kit__iron="", kit____init__="from house.kit.nail import ore"
    )
    assert find_cycle(edges(house)) == []


def test_running_a_strangers_package_is_part_of_importing_from_it(build: Build) -> None:
    house = build(
        kit__nail="import house.attic.beam",
        attic__beam="",
        attic__roof="import house.kit.nail",
        attic____init__="import house.attic.roof",
    )
    assert find_cycle(edges(house)) != []


READS_OF_THE_ENVIRONMENT = {
    "plain": "import os\nos.environ['HOME']",
    "renamed": "import os as system\nsystem.environ.get('HOME')",
    "from": "from os import environ",
    "from, renamed": "from os import environ as settings\nsettings['HOME']",
    "in a class": "class Home:\n    import os\n    where = os.environ",
}


@pytest.mark.parametrize("source", READS_OF_THE_ENVIRONMENT.values(), ids=READS_OF_THE_ENVIRONMENT)
def test_a_trespass_is_found_however_the_thing_is_named(build: Build, source: str) -> None:
    house = build(kit__nail=source, kit__owner=source)
    found = find_trespassers(house, ["os.environ"], ["*/owner.py"])
    assert found
    assert all(place.startswith("kit/nail.py, line") for place in found)


def test_a_method_of_a_class_is_told_from_its_namesakes(build: Build) -> None:
    house = build(
        kit__clock="from datetime import datetime as d\nd.now()\nd.fromtimestamp(0)", kit__other="now = 1\nnow"
    )
    assert find_trespassers(house, ["datetime.datetime.now"], []) == ["kit/clock.py, line 2: datetime.datetime.now"]


def test_a_name_that_only_begins_alike_is_something_else(build: Build) -> None:
    house = build(kit__nail="import richness, time\ntime.timezone")
    assert find_trespassers(house, ["rich", "time.time"], []) == []


@pytest.mark.parametrize(
    ("source", "lines", "things"),
    [
        ("def f(): ...", 1, 0),
        ("def f(self, a, /, b, *, c=1): ...", 1, 3),
        ("def f(cls, *args, **options): ...", 1, 2),
        ("async def f(a):\n    '''One.\n\n    More.\n    '''\n    return a", 6, 1),
        ("@decorated\ndef f(\n    a,\n    b,\n): ...", 4, 2),
    ],
)
def test_functions_are_measured_from_def_to_end_and_without_self(source: str, lines: int, things: int) -> None:
    (function,) = Module("house.kit", "kit.py", source).functions
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert (structure.length(function), structure.parameters(function)) == (lines, things)
