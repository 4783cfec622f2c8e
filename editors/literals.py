"""Strings that a class's source gives it, read without importing the module.

`instructedit list editors` prints two strings of each editor. Importing the editors for them would load torch: five
seconds where reading nine files takes a tenth of one.
"""

import ast
from collections.abc import Iterator
from importlib.abc import InspectLoader
from importlib.util import find_spec


def literals(module: str, name: str) -> dict[str, str]:
    """Return the attributes that the body of a class sets to string literals.

    What the class inherits or computes is not among them, nor what a statement outside its body sets. Nothing is
    returned where the source does not decide: there is none, or the class is decorated, has a metaclass, or is bound
    elsewhere than by one class statement at the top of the module. The packages around the module are imported, the
    module itself is not.

    Args:
        module: Full name of the module, e.g. `instructedit.baselines.grace`.
        name: Name of the class.
    """
    try:
        tree = ast.parse(_source(module) or "")
    except (ImportError, SyntaxError):
        return {}  # whoever imports it then is told why
    match [node for node in ast.walk(tree) if _bound(node) == name]:
        case [ast.ClassDef(decorator_list=[], keywords=[]) as node] if node in tree.body:
            written = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _stores(node)}
            return {key: value for key, value in _body(node).items() if key not in written}
    return {}


def _source(module: str) -> str | None:
    spec = find_spec(module)
    return spec.loader.get_source(module) if spec is not None and isinstance(spec.loader, InspectLoader) else None


def _body(node: ast.ClassDef) -> dict[str, str]:
    """Return the names that are bound to string literals once the whole body has run."""
    found: dict[str, str] = {}
    for statement in node.body:
        # What a method binds inside is its own.
        is_definition = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for part in [statement] if is_definition else ast.walk(statement):
            found.pop(_bound(part) or "", None)
        found.update(_strings(statement))
    return found


def _strings(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the names that a plain assignment binds to string literals."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return
    for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
        pairs: list[tuple[ast.expr, ast.expr | None]] = [(target, statement.value)]
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            names, values = target.elts, statement.value.elts
            pairs = [] if ast.Starred in map(type, [*names, *values]) else list(zip(names, values, strict=False))
        for left, right in pairs:
            if isinstance(left, ast.Name) and isinstance(right, ast.Constant) and isinstance(right.value, str):
                yield left.id, right.value


def _bound(node: ast.AST) -> str | None:
    """Return the name that a node binds or deletes, if it does."""
    if isinstance(node, ast.Name):
        return node.id if _stores(node) else None
    return getattr(node, "asname", None) or getattr(node, "name", None)


def _stores(node: ast.Name | ast.Attribute) -> bool:
    return not isinstance(node.ctx, ast.Load)
