"""From code to an archive: a class of a script or a notebook, or a folder.

    packed = archive.of(Softmax)          # or archive.of(Path("opener/"))
    packed.data, packed.digest, packed.manifest

Invariants
- Equal code gives equal bytes and so an equal digest, whoever packs it, wherever, whenever.
- Of a class's file only what the class uses is taken: its own source, and the imports, functions,
  classes and constants of the same file that it names, and what those name. A script that connects
  to a network below the class does not run again inside an isolation.
"""

import ast
import inspect
import linecache
import os
import stat
import symtable
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.algorithm import manifest
from tilth.algorithm.algorithm import Algorithm
from tilth.algorithm.manifest import Manifest
from tilth.algorithm.opener import Opener
from tilth_ledger.archive import ArchiveFile, write
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import InvalidInput

_LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"})


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive, its digest, and its manifest as an `algo.add` registers it."""

    data: bytes
    digest: str
    manifest: dict[str, Any]
    name: str


def of(code: Any) -> Packed:
    """The archive of a class (Algorithm, Opener, a metric function) or of a folder."""
    if isinstance(code, (str, os.PathLike)):
        return of_folder(Path(code))
    if inspect.isclass(code) or inspect.isfunction(code):
        return of_object(code)
    raise InvalidInput(
        "only a class, a function or a folder can be packed",
        found=type(code).__name__,
        expected="a subclass of Algorithm or Opener, a metric function, or a path",
        remedy="Give one of these.",
    )


def of_object(code: Any) -> Packed:
    """The archive of a class or function: one module and a manifest."""
    kind = _kind(code)
    if kind == "algorithm" and not code.capabilities():
        raise InvalidInput(
            "this class overrides nothing of Algorithm",
            found=code.__name__,
            remedy="Define at least train, predict or aggregate in it.",
        )
    stated = Manifest(
        name=code.__name__,
        entry=(kind, code.__name__),
        capabilities=tuple(code.capabilities()) if kind == "algorithm" else (),
        parameters=tuple(p.schema() for p in code.parameters) if kind == "algorithm" else (),
    )
    files = [
        ArchiveFile(f"{kind}.py", False, module_of(code).encode()),
        ArchiveFile(manifest.FILE, False, manifest.write(stated).encode()),
    ]
    return _packed(files, stated)


def of_folder(folder: Path) -> Packed:
    """The archive of a folder as it is; caches and dot-folders of tools are left out."""
    files = files_of(folder)
    return _packed(files, manifest.read(folder))


def files_of(folder: Path) -> list[ArchiveFile]:
    """The files of a folder, without caches and dot-folders of tools."""
    if not folder.is_dir():
        raise InvalidInput(
            "there is no such folder",
            found=str(folder),
            expected="a folder",
            remedy="Check the path.",
        )
    files = [_file(folder, path) for path in sorted(folder.rglob("*")) if _is_wanted(folder, path)]
    if not files:
        raise InvalidInput(
            "the folder holds no files",
            found=str(folder),
            expected="tilth.toml and the code",
            remedy="Put the code into it.",
        )
    return files


def module_of(code: Any) -> str:
    """The text of a module that defines `code` and nothing it does not need."""
    source, filename = _source(code)
    try:
        tree = _parsed(source)
    except SyntaxError as error:
        raise InvalidInput(
            f"the source of {code.__name__} cannot be read: {error}",
            remedy="Put the code into a file, and pack its folder.",
        ) from None
    wanted = _closure(tree, code.__name__)
    if not wanted:
        raise InvalidInput(
            f"{code.__name__} is not defined at the top level of its file",
            found=filename,
            remedy="define it outside of functions, or pack a folder",
        )
    lines = source.splitlines()
    return (
        "\n\n".join(_text(node, lines, wanted[node]) for node in tree.body if node in wanted) + "\n"
    )


def _kind(code: Any) -> str:
    if inspect.isclass(code) and issubclass(code, Algorithm):
        return "algorithm"
    return "opener" if inspect.isclass(code) and issubclass(code, Opener) else "metric"


def _packed(files: Iterable[ArchiveFile], stated: Manifest) -> Packed:
    data = write(files)
    return Packed(data, sha256_hex(data), stated.as_registered(), stated.name)


def _is_wanted(folder: Path, path: Path) -> bool:
    parts = path.relative_to(folder).parts
    return not (_LEFT_OUT.intersection(parts) or path.suffix == ".pyc") and not (
        path.is_dir() and not path.is_symlink()
    )


def _file(folder: Path, path: Path) -> ArchiveFile:
    mode = path.lstat().st_mode
    name = path.relative_to(folder).as_posix()
    if not stat.S_ISREG(mode):
        raise InvalidInput(
            "a folder to pack holds something else than files",
            found=name,
            remedy="replace links by the files they point to",
        )
    return ArchiveFile(name, bool(mode & stat.S_IXUSR), path.read_bytes())


# Where source is found


def _source(code: Any) -> tuple[str, str]:
    """The whole text that defines `code`, and a name for it."""
    filename = _filename(code)
    if filename and os.path.isfile(filename):
        return Path(filename).read_text(encoding="utf-8"), filename
    if cells := _cells():
        return cells, "the cells of this notebook"
    if lines := linecache.getlines(filename or ""):
        return "".join(lines), str(filename)
    if filename == "<stdin>" and stat.S_ISREG(os.fstat(0).st_mode):
        return os.pread(0, os.fstat(0).st_size, 0).decode(), "standard input"
    raise InvalidInput(
        f"the source of {code.__name__} cannot be found",
        found=filename or "no file",
        remedy="define it in a file or a notebook cell, or pack a folder",
    )


def _parsed(source: str) -> ast.Module:
    """The syntax tree; raises SyntaxError."""
    try:
        return ast.parse(source)
    except SystemError:
        # Python 3.11 counts the depth of all threads' trees together, and now and then takes
        # another one's step for its own (python/cpython#106905). The next count begins anew.
        return ast.parse(source)


def _filename(code: Any) -> str | None:
    """The file that the code's own functions name; a class does not name one."""
    functions = [code] if inspect.isfunction(code) else list(vars(code).values())
    for function in functions:
        if inspect.isfunction(function):
            return function.__code__.co_filename
    return getattr(sys.modules.get(code.__module__), "__file__", None)


def _cells() -> str:
    """What was entered in an interactive notebook so far, without its magics."""
    entered = getattr(sys.modules.get("__main__"), "In", None)
    if not isinstance(entered, list):
        return ""
    kept = []
    for cell in entered:
        lines = [x for x in str(cell).splitlines() if not x.lstrip().startswith(("%", "!", "?"))]
        text = "\n".join(lines)
        try:
            _parsed(text)
        except SyntaxError:
            continue
        kept.append(text)
    return "\n".join(kept)


# What of it is needed


def _closure(tree: ast.Module, name: str) -> dict[ast.stmt, set[str]]:
    """The top-level statements that define `name` and all it uses, each with the names wanted of
    it. The last definition of a name counts, as it does for Python."""
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        defined |= dict.fromkeys(binds(node), node)
    wanted: dict[ast.stmt, set[str]] = {}
    waiting = [name] if name in defined else []
    waiting += ["annotations"] if _is_future(defined.get("annotations")) else []
    while waiting:
        current = waiting.pop()
        node = defined[current]
        names = wanted.setdefault(node, set())
        if current not in names:
            names.add(current)
            waiting += sorted(_uses(node) & defined.keys())
    return wanted


def _is_future(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def binds(node: ast.stmt) -> set[str]:
    """Names that a top-level statement gives a value."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.alias):
            names.add(part.asname or part.name.partition(".")[0])
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            names.add(part.name)
    return names


def _uses(node: ast.stmt) -> set[str]:
    """Names that the statement reads from the module: locals and attributes are not among them."""
    module = symtable.symtable(ast.unparse(node), "statement", "exec")
    names = {s.get_name() for s in module.get_symbols() if s.is_referenced()}
    tables = list(module.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    return names


def _text(node: ast.stmt, lines: list[str], names: set[str]) -> str:
    """The source of a statement; of an import only the wanted names."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        node.names = [a for a in node.names if (a.asname or a.name.partition(".")[0]) in names]
        return ast.unparse(node)
    decorators = getattr(node, "decorator_list", [])
    start = min([node.lineno, *(d.lineno for d in decorators)])
    return "\n".join(lines[start - 1 : node.end_lineno])
