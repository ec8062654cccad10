"""Fields that are named where no type checker looks: in `replace` and `object.__setattr__`."""

import ast

from tests.architecture.structure import product

REPLACE = ("replace", "structs.replace", "dataclasses.replace")


def test_replaced_fields_exist() -> None:
    trees = {module.path: module.tree for module in product("instep")}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    fields = {
        node.target.id for _, node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    calls = [(path, node) for path, node in nodes if isinstance(node, ast.Call)]
    named = [(path, key.arg) for path, call in calls if ast.unparse(call.func) in REPLACE for key in call.keywords]
    named += [
        (path, str(call.args[1].value))
        for path, call in calls
        if ast.unparse(call.func) == "object.__setattr__" and isinstance(call.args[1], ast.Constant)
    ]
    assert len(named) > 10
    assert [(path, name) for path, name in named if name is not None and name not in fields] == []
