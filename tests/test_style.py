"""Our style, held by tests: what a reader may rely on when opening any file."""

import ast
import functools
import re
import statistics
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "tilth_ledger": "ledger",
    "tilth_metrics": "metrics",
    "tilth_node": "node",
    "tilth": "sdk",
}
FOLDERS = {"node", "ledger", "protos", "sdk", "metrics", "deploy", "tests"}
FILES = {"pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile"}

LONGEST_FILE = 450
# The verifier is one file by design: an auditor copies it, and reads nothing else.
ONE_FILE, LONGEST_ONE_FILE = "sdk/tilth/verifier.py", 1_500
LONGEST_FUNCTION = 60
LONG_FUNCTION, SHARE_OF_LONG_FUNCTIONS = 40, 0.03
MEDIAN_FUNCTION = 10


def tracked():
    """Files under version control, or all files of an unpacked source distribution."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
        return [path for path in paths if path.is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]


TRACKED = tracked()
PRODUCT = [
    path
    for path in TRACKED
    if path.suffix == ".py"
    and path.relative_to(ROOT).parts[0] in PACKAGES.values()
    and path.relative_to(ROOT).parts[1] in PACKAGES
]
TESTS = [
    path for path in TRACKED if path.suffix == ".py" and path.parent.is_relative_to(ROOT / "tests")
]


@functools.cache
def trees():
    """The product's modules, parsed once, by the worker that runs these tests."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in PRODUCT}


def shown(path):
    """A path as a reader would write it."""
    return str(path.relative_to(ROOT))


def functions(tree):
    """Every function of a module with the number of its lines, without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            start = body[0].lineno if body else node.lineno
            yield node, (node.end_lineno or start) - start + 1


def calls(tree):
    """Dotted names of everything that is called, as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_top_level_folder_or_file_beyond_the_agreed():
    first = {path.relative_to(ROOT).parts for path in TRACKED}
    folders = {parts[0] for parts in first if len(parts) > 1 and not parts[0].startswith(".")}
    files = {parts[0] for parts in first if len(parts) == 1 and not parts[0].startswith(".")}

    assert folders <= FOLDERS
    assert files == FILES


def test_every_module_says_what_it_is_for():
    silent = [shown(p) for p, tree in trees().items() if len(ast.get_docstring(tree) or "") < 20]

    assert silent == []


def test_files_are_short():
    long = {}
    for path in PRODUCT:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > (LONGEST_ONE_FILE if shown(path) == ONE_FILE else LONGEST_FILE):
            long[shown(path)] = lines

    assert long == {}


def test_functions_are_short():
    lengths = {
        f"{shown(path)}:{node.lineno} {node.name}": lines
        for path, tree in trees().items()
        for node, lines in functions(tree)
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    long = {name: lines for name, lines in lengths.items() if lines > LONG_FUNCTION}

    assert too_long == {}
    assert len(long) <= SHARE_OF_LONG_FUNCTIONS * len(lengths), long
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_no_file_is_a_drawer_for_anything():
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc", "legacy", "v2"}

    assert [shown(path) for path in PRODUCT if {path.stem, path.parent.name} & drawers] == []


@pytest.mark.parametrize(
    "word", ["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]
)
def test_nothing_is_left_for_later(word):
    pattern = re.compile(rf"\b{word}\b")

    assert [shown(p) for p in [*PRODUCT, *TESTS] if pattern.search(p.read_text("utf-8"))] == []


def test_the_product_never_sleeps():
    sleeps = [
        f"{shown(path)}:{node.lineno}"
        for path, tree in trees().items()
        for name, node in calls(tree)
        if name in ("time.sleep", "asyncio.sleep", "sleep")
        and ast.unparse(node) != "asyncio.sleep(0)"
    ]

    assert sleeps == []


def test_no_pickle_no_eval_no_shell():
    imported = [
        shown(path)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.name.split(".")[0]
        in ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")
    ]
    called = [
        f"{shown(path)}:{node.lineno} {name}"
        for path, tree in trees().items()
        for name, node in calls(tree)
        if name in ("eval", "os.system", "os.popen", "subprocess.getoutput")
        or any(word.arg == "shell" for word in node.keywords)
    ]

    assert imported + called == []


def test_errors_are_caught_by_name():
    """All errors at once are caught only to raise them again, or at an outermost loop, said so."""
    swallowed = []
    for path, tree in trees().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else ""
            if caught not in ("", "Exception", "BaseException"):
                continue
            last = node.body[-1]
            passed_on = isinstance(last, ast.Raise) and last.exc is None
            if not passed_on and "outermost" not in lines[node.lineno - 1]:
                swallowed.append(f"{shown(path)}:{node.lineno}")

    assert swallowed == []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package):
    module = import_module(package)

    assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []


@pytest.mark.parametrize("folder", ["sdk", "metrics"])
def test_what_users_call_has_a_docstring(folder):
    silent = [
        f"{shown(path)}:{node.lineno} {node.name}"
        for path, tree in trees().items()
        if path.is_relative_to(ROOT / folder) and "cli" not in path.parts
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]

    assert silent == []


def test_test_files_have_names_of_their_own_and_say_what_they_test():
    tests = [path for path in TESTS if path.name.startswith("test_")]
    names = [path.name for path in tests]

    assert sorted(names) == sorted(set(names))
    assert [shown(p) for p in tests if not ast.get_docstring(ast.parse(p.read_text("utf-8")))] == []


def test_no_lock_file_is_committed():
    pattern = re.compile(
        r"(uv\.lock|poetry\.lock|Pipfile\.lock|pylock.*\.toml|package-lock\.json)$"
    )

    assert [shown(path) for path in TRACKED if pattern.search(path.name)] == []


def test_no_file_names_a_registry_host_or_a_place_on_someones_machine():
    places = re.compile(
        "|".join(
            [
                "/wo" + "rk/",
                "/ro" + r"ot/\w",
                r"/ho" + r"me/[a-z]+/",
                "/tmp/con" + "tract",
                "/op" + "t/(wheels|pypi)",
            ]
        )
    )
    hosts = re.compile(r"(index-url|find-links|registry)\s*[=:]\s*\S*https?://|localhost:\d{4}")
    found = []
    for path in TRACKED:
        if path.name == "LICENSE" or path.suffix in (".png", ".h5", ".npy", ".bin"):
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if places.search(line) or hosts.search(line):
                found.append(f"{shown(path)}:{number} {line.strip()[:80]}")

    assert found == []


# Where people read errors; what decodes a form of bytes says what it found, and that is all.
SPEAKS_TO_PEOPLE = (
    "sdk/tilth/",
    "node/tilth_node/audit_command.py",
    "node/tilth_node/commands.py",
    "node/tilth_node/config.py",
    "node/tilth_node/demo/",
    "node/tilth_node/doctor.py",
    "node/tilth_node/founding.py",
    "node/tilth_node/worker/data",
)
DECODERS = {"sdk/tilth/verifier.py"}  # its errors are findings about a file, for an auditor


def error_classes():
    """Names of TilthError and of every class of the product that extends it."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"TilthError"}
    while more := {name for name, above in bases.items() if above & known} - known:
        known |= more
    return known


def silent_raises(tree, classes):
    """Raises of these classes that state no remedy; what is passed on as facts may hold one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        name = ast.unparse(node.exc.func).rpartition(".")[2]
        if name in classes and not {word.arg for word in node.exc.keywords} & {"remedy", None}:
            yield node.lineno


def test_an_error_that_people_read_says_what_to_do():
    classes = error_classes()
    silent = [
        f"{shown(path)}:{line}"
        for path, tree in trees().items()
        if shown(path).startswith(SPEAKS_TO_PEOPLE) and shown(path) not in DECODERS
        for line in silent_raises(tree, classes)
    ]

    assert {"InvalidInput", "Refused", "Unreachable", "WrongShape"} <= classes
    assert silent == []


def test_an_error_without_a_remedy_is_found():
    tree = ast.parse("raise InvalidInput('no', found=1)\nraise InvalidInput('no', remedy='do')")

    assert list(silent_raises(tree, {"InvalidInput"})) == [1]
