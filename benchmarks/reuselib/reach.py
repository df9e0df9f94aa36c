"""What code can be reached from a function, told from the source alone. Nothing is imported.

From a function's body follow: every function, class and value of a module that is named; of each class that is named,
also in an annotation, and of its bases: `__init__`, `__post_init__`, and the methods whose names occur as attributes
anywhere in what is reached. Only code of the given packages counts.

What this cannot see: calls through values (a function handed over is followed where it is named, not where it is
called), operators and other methods with double underscores, names made at run time. What it sees too much: a method
of the same name on another class. `INTERFACES` says which class stands behind an interface in both hosts.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_ALWAYS = ("__init__", "__post_init__")


@dataclass(frozen=True, slots=True)
class Unit:
    """A function or a method that can be reached."""

    file: Path
    name: str
    lines: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Module:
    """One source file. Names are what its top level defines or imports."""

    name: str
    path: Path
    tree: ast.Module

    @cached_property
    def names(self) -> Mapping[str, ast.AST]:
        found: dict[str, ast.AST] = {}
        for node in _top_level(self.tree.body):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found[name] = node
                case ast.Import(names=aliases):
                    found |= {one.asname or one.name.split(".")[0]: _imported(one) for one in aliases}
                case ast.ImportFrom(names=aliases):
                    found |= {one.asname or one.name: node for one in aliases}
                case ast.Assign(targets=targets, value=value):
                    found |= {one.id: value for one in targets if isinstance(one, ast.Name)}
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    found[name] = value
        return found


@dataclass
class Modules:
    """The modules of some packages. `packages`: name to folder."""

    packages: Mapping[str, Path]
    _read: dict[str, Module | None] = field(default_factory=dict)

    def find(self, name: str) -> Module | None:
        """None for what lies in none of the packages."""
        if name not in self._read:
            self._read[name] = self._find(name)
        return self._read[name]

    def _find(self, name: str) -> Module | None:
        top, _, rest = name.partition(".")
        if top not in self.packages:
            return None
        base = self.packages[top].joinpath(*rest.split(".")) if rest else self.packages[top]
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                return Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
        return None


class Reach:
    """Follows names from functions until nothing new is found."""

    def __init__(self, modules: Modules, interfaces: Mapping[str, str] | None = None) -> None:
        self._modules = modules
        self._interfaces = interfaces or {}
        self._units: dict[tuple[str, str], Unit] = {}
        self._classes: dict[tuple[str, str], tuple[Module, ast.ClassDef]] = {}
        self._attributes: set[str] = set()
        self._done: set[int] = set()

    def add(self, module: str, function: str) -> None:
        """Begins at a function of a module. Raises KeyError where it is not there."""
        found = self._modules.find(module)
        if found is None or not isinstance(node := found.names.get(function), FunctionNode):
            raise KeyError(f"{module}.{function}")
        self._function(found, function, node)

    def units(self) -> list[Unit]:
        """What is reached, by file and name."""
        before = -1
        while before != len(self._units) + len(self._attributes) + len(self._classes):
            before = len(self._units) + len(self._attributes) + len(self._classes)
            for module, node in list(self._classes.values()):
                self._methods(module, node)
        return sorted(self._units.values(), key=lambda unit: (str(unit.file), unit.name))

    def _function(self, module: Module, name: str, node: FunctionNode) -> None:
        if (module.name, name) in self._units:
            return
        self._units[module.name, name] = Unit(module.path, name, frozenset(code_lines(node)))
        arguments = node.args
        for one in [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            arguments.vararg,
            arguments.kwarg,
        ]:
            if one is not None and one.annotation is not None:
                self._follow(module, one.annotation)
        for expression in (*arguments.defaults, *arguments.kw_defaults, node.returns):
            if expression is not None:
                self._follow(module, expression)
        for statement in node.body:
            self._follow(module, statement)

    def _follow(self, module: Module, node: ast.AST) -> None:
        if id(node) in self._done:
            return
        self._done.add(id(node))
        for inner in ast.walk(node):
            match inner:
                case ast.Name(id=name, ctx=ast.Load()):
                    self._name(module, name)
                case ast.Attribute(value=value, attr=name):
                    self._attributes.add(name)
                    if (owner := self._module_of(module, value)) is not None:
                        self._name(owner, name)

    def _name(self, module: Module, name: str) -> None:
        node = module.names.get(name)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(module, name, node)
            case ast.ClassDef():
                self._class(module, name, node)
            case ast.ImportFrom(module=str(source), level=0):
                original = next((one.name for one in node.names if (one.asname or one.name) == name), name)
                target = self._modules.find(source)
                if target is not None and original in target.names:
                    self._name(target, original)
            case ast.expr():
                self._follow(module, node)

    def _class(self, module: Module, name: str, node: ast.ClassDef) -> None:
        if (module.name, name) in self._classes:
            return
        self._classes[module.name, name] = (module, node)
        for base in node.bases:
            self._follow(module, base)
        for statement in node.body:
            if not isinstance(statement, FunctionNode):
                self._follow(module, statement)
        if (behind := self._interfaces.get(f"{module.name}.{name}")) is not None:
            source, _, real = behind.rpartition(".")
            if (target := self._modules.find(source)) is not None:
                self._name(target, real)

    def _methods(self, module: Module, node: ast.ClassDef) -> None:
        for statement in node.body:
            if isinstance(statement, FunctionNode) and (
                statement.name in _ALWAYS or statement.name in self._attributes
            ):
                self._function(module, f"{node.name}.{statement.name}", statement)

    def _module_of(self, module: Module, node: ast.expr) -> Module | None:
        """The module that an expression such as `counting` or `platforms.traffic` names."""
        match node:
            case ast.Name(id=name):
                match module.names.get(name):
                    case ast.Import(names=[one]):
                        return self._modules.find(one.name if one.asname else one.name.split(".")[0])
                    case ast.ImportFrom(module=str(source), names=aliases):
                        original = next((one.name for one in aliases if (one.asname or one.name) == name), name)
                        return self._modules.find(f"{source}.{original}")
            case ast.Attribute(value=value, attr=name) if (owner := self._module_of(module, value)) is not None:
                return self._modules.find(f"{owner.name}.{name}")
        return None


def code_lines(node: FunctionNode) -> Iterator[tuple[int, int]]:
    """First and last line of each statement that does something, of a compound one of its head; nested functions
    included. A tracer tells of at least one of these lines when the statement runs."""
    for inner in ast.walk(node):
        if not isinstance(inner, ast.stmt) or inner is node:
            continue
        match inner:
            case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.Global() | ast.Nonlocal():
                continue
            case ast.AnnAssign(value=None):
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield min([inner.lineno, *(one.lineno for one in inner.decorator_list)]), inner.lineno
            case ast.Match(cases=[first, *_]):
                yield inner.lineno, max(inner.lineno, first.pattern.lineno - 1)
            case ast.Try() | ast.TryStar():
                yield inner.lineno, inner.lineno
            case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.With() | ast.AsyncWith():
                yield inner.lineno, max(inner.lineno, inner.body[0].lineno - 1)
            case _:
                yield inner.lineno, inner.end_lineno or inner.lineno


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those beneath its `if` and `try` too."""
    for node in body:
        yield node
        match node:
            case ast.If(body=inner, orelse=other):
                yield from _top_level([*inner, *other])
            case ast.Try(body=inner, orelse=other, finalbody=last, handlers=handlers):
                yield from _top_level([*inner, *other, *last, *(one for each in handlers for one in each.body)])


def _imported(alias: ast.alias) -> ast.Import:
    return ast.Import(names=[alias])
