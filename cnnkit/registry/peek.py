"""A look at the source of an entry: its summary, and the reason why it would not load, without an import."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnkit.registry.entries import Entry

# A module that uses one of these may define names that its source does not show.
_DYNAMIC_NAMES = {"globals", "vars", "locals", "exec", "eval", "setattr", "__dict__", "__getattr__"}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Peek:
    """The facts about an entry that need no import: its summary, the reason why it would not load, and two fields that it may have.

    `image_size` is that of an architecture, in px, `suffix` that of the files of an exporter.
    """

    summary: str
    problem: str | None
    image_size: int | None = None
    suffix: str = ""


def peek(entry: Entry) -> Peek:
    """Return the summary and the image size of an entry, and the reason why it would not load, from its source alone.

    It finds a missing module, a syntax error, a missing name and a missing import. Errors during the import need the import
    itself (`cnnkit archs --check`). A source that cannot be judged, such as a compiled module, has no problem.
    """
    module, _, attribute = entry.value.partition(":")
    try:
        source = _source(module)
        if source is None:
            return Peek("", f"no module named {module!r}" if _is_absent(module) else None)
        tree = _parsed(source)
    except (SyntaxError, OSError, ValueError, RecursionError, MemoryError) as error:
        return Peek("", f"{type(error).__name__}: {error}")
    for statement in tree.body:
        for imported in _imports(statement):
            if _spec(imported) is None:
                return Peek("", f"it imports {imported!r}, which is not installed")
    names = {name for statement in _statements(tree) for name in _bound(statement)}
    if attribute.partition(".")[0] not in names and not _is_dynamic(tree):
        return Peek("", f"module {module!r} defines no {attribute!r}")
    image_size = _literal(tree, attribute, "image_size")
    return Peek(
        summary=str(_literal(tree, attribute, "summary") or ""),
        problem=None,
        image_size=image_size if isinstance(image_size, int) else None,
        suffix=str(_literal(tree, attribute, "suffix") or ""),
    )


def is_family(entry: Entry) -> bool:
    """Tell from the source alone whether an entry is assigned a call of `Family`."""
    module, _, attribute = entry.value.partition(":")
    try:
        source = _source(module)
        tree = _parsed(source) if source else ast.Module([], [])
    except (SyntaxError, OSError, ValueError, RecursionError, MemoryError):
        return False
    calls = [getattr(statement, "value", None) for statement in _statements(tree) if attribute in _bound(statement)]
    return any(isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "Family" for call in calls)


def _spec(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # an empty name, or a module without a spec
        return None


def _parsed(source: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other people's source help nobody here
        return ast.parse(source.read_bytes(), filename=str(source))


def _source(module: str) -> Path | None:
    """Return the source file of a dotted module without importing its parents; None if there is none."""
    top, *rest = module.split(".")
    spec = _spec(top)
    if spec is None:
        return None
    folders = [Path(folder).joinpath(*rest[:-1]) for folder in spec.submodule_search_locations or ()]
    if not rest:
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    else:
        files = [file for folder in folders for file in (folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py")]
    return next(filter(Path.is_file, files), None)


def _is_absent(module: str) -> bool:
    """Return True if there is no such module in any form: no source, no compiled module, no archive."""
    top, *rest = module.split(".")
    spec = _spec(top)
    if spec is None or not rest:
        return spec is None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    in_archive = any(not folder.is_dir() for folder in folders)
    return not in_archive and not any(True for folder in folders for _ in folder.joinpath(*rest[:-1]).glob(f"{rest[-1]}.*"))


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, those below ``if``, ``try`` and ``with`` included."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, _SCOPES):
            yield from _statements(child)


def _imports(statement: ast.stmt) -> list[str]:
    """Return the top-level packages that a module-level statement imports unconditionally."""
    if isinstance(statement, ast.Import):
        return [alias.name.partition(".")[0] for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
        return [statement.module.partition(".")[0]]
    return []


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines by itself, without the statements below it."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    return [node.id for node in _expressions(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a statement that are no statements."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, *_SCOPES)):
            yield child
            yield from _expressions(child)


def _is_dynamic(tree: ast.Module) -> bool:
    """Return True if the module may define names that its source does not show."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global) or (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)):
            return True
        named = getattr(node, "id", getattr(node, "attr", getattr(node, "name", None)))
        if named in _DYNAMIC_NAMES:
            return True
    return False


def _literal(tree: ast.Module, attribute: str, argument: str) -> object:
    """Return the literal `argument` of the call that is assigned to `attribute`, or None."""
    for statement in _statements(tree):
        value = getattr(statement, "value", None)
        if attribute in _bound(statement) and isinstance(value, ast.Call):
            for keyword in value.keywords:
                if keyword.arg == argument and isinstance(keyword.value, ast.Constant):
                    return keyword.value.value
    return None
