"""Read a package as syntax trees: imports and uses of each module, sizes, and imports that go up."""

import ast
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PRODUCTS = ("instep", "clerk_emulator")

BELOW, TOP = -1, 99  # layers of a package that has none: it may import nothing, and nothing may import it
ENTRY_POINTS = "app"  # the layer of every `cli` module, which stands beside its slice and composes what is below

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Use:
    """A dotted name that a module imports or reads, such as `os.environ`, and the line where it does."""

    name: str
    line: int

    def is_within(self, name: str) -> bool:
        return self.name == name or self.name.startswith(f"{name}.")


@dataclass(frozen=True)
class Module:
    """One file of a package: `instep.members.views` in `members/views.py`."""

    name: str
    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def package(self) -> str:
        """The folder, or the file, directly below the product: `members` of `instep.members.views`."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def layer_name(self) -> str:
        """The package whose layer the module belongs to."""
        return ENTRY_POINTS if re.fullmatch(r"instep\.\w+\.cli", self.name) else self.package

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def imports(self) -> list[Use]:
        """Every import: at the top, in a function, for the type checker only, or by a name given as a string."""
        statements = [node for node in ast.walk(self.tree) if isinstance(node, ast.stmt | ast.expr)]
        return [Use(name, node.lineno) for node in statements for name in self._imported(node)]

    @cached_property
    def uses(self) -> list[Use]:
        """Every import, and every dotted name that starts at one: `os.environ` after `import os as o; o.environ`."""
        bound = self._bindings()
        chains = ((node, dotted(node)) for node in ast.walk(self.tree) if isinstance(node, ast.Name | ast.Attribute))
        found = ((node, name.partition(".")) for node, name in chains if name)
        reads = [Use(bound[root] + dot + rest, node.lineno) for node, (root, dot, rest) in found if root in bound]
        return [*self.imports, *reads]

    def _imported(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            return [f"{self._origin(node)}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Call) and dotted(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        return []

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        above = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*above, *([node.module] if node.module else [])])

    def _bindings(self) -> dict[str, str]:
        """Return the meaning of each name that an import binds in this module."""
        bound: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                bound |= {alias.asname or root(alias.name): alias.name for alias in node.names if alias.asname}
                bound |= {root(alias.name): root(alias.name) for alias in node.names if not alias.asname}
            elif isinstance(node, ast.ImportFrom):
                bound |= {alias.asname or alias.name: f"{self._origin(node)}.{alias.name}" for alias in node.names}
        return bound


def root(name: str) -> str:
    return name.partition(".")[0]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of attributes that starts at a plain name, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := dotted(node.value)):
        return f"{start}.{node.attr}"
    return ""


@cache
def product(name: str) -> list[Module]:
    """All modules of one of our products."""
    return read(SRC / name)


def read(folder: Path) -> list[Module]:
    """All modules of the package in `folder`."""
    return [load(folder, path) for path in sorted(folder.rglob("*.py"))]


def load(folder: Path, path: Path) -> Module:
    inside = path.relative_to(folder)
    parts = [folder.name, *inside.with_suffix("").parts]
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, inside.as_posix(), path.read_text(encoding="utf-8"))


Edges = dict[str, dict[str, int]]


def edges(modules: Iterable[Module]) -> Edges:
    """Return the imports between modules, each with its line."""
    modules = list(modules)
    known = {module.name for module in modules}
    return {
        module.name: {name: use.line for use in module.imports for name in reached(module.name, use.name, known)}
        for module in modules
    }


def reached(importer: str, name: str, known: Collection[str]) -> list[str]:
    """Return the module of `name` and the packages above it that the importer is not in: these run first."""
    chain = [part for part in ancestry(name) if part in known]
    return [part for part in chain if part != importer and (part == chain[-1] or not importer.startswith(f"{part}."))]


def ancestry(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def find_cycle(graph: Edges) -> list[str]:
    """Return one cycle of imports, its first module named twice; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def find_upward_imports(modules: Iterable[Module], layers: Mapping[str, int]) -> list[str]:
    """Return the imports that do not go down: to a higher layer, or to another package of the same layer."""
    modules = list(modules)
    packages = {module.name: module.layer_name for module in modules}
    return [
        f"{importer}, line {line}: imports {name}"
        for importer, targets in edges(modules).items()
        for name, line in targets.items()
        if goes_up(packages[importer], packages[name], layers)
    ]


def goes_up(package: str, other: str, layers: Mapping[str, int]) -> bool:
    """Return whether an import is not allowed. The product's own `__init__` (package "") may import anything."""
    return "" not in (package, other) and package != other and layers.get(other, TOP) >= layers.get(package, BELOW)


def find_trespassers(modules: Iterable[Module], things: Iterable[str], owners: Collection[str]) -> list[str]:
    """The first place in each file that uses one of the `things` without owning it (`owners` are patterns of paths)."""
    strangers = [module for module in modules if not any(fnmatch(module.path, owner) for owner in owners)]
    places = [
        f"{module.path}, line {lines[0]}: {thing}"
        for module in strangers
        for thing in things
        if (lines := sorted(use.line for use in module.uses if use.is_within(thing)))
    ]
    return sorted(places)


def length(function: Function) -> int:
    """Lines from `def` to the end, the docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def parameters(function: Function) -> int:
    """How many things a caller may have to think of; `self` and `cls` are not among them."""
    spec = function.args
    named = [arg.arg for arg in (*spec.posonlyargs, *spec.args)]
    own = 1 if named[:1] in (["self"], ["cls"]) else 0
    return len(named) - own + len(spec.kwonlyargs) + bool(spec.vararg) + bool(spec.kwarg)
