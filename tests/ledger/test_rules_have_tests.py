"""Every rule of ledger/README.md has a test that passes and one in which it says no.

A test carries the id of what it guards: `@pytest.mark.rule("R1")`. It says no where it expects a
refusal (`raises`, or its file's `refused` or `refusal`) or asserts that something did not happen;
it passes where it expects no refusal.
"""

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
REFUSALS = {"raises", "refused", "refusal"}
NEGATIVES = (ast.Not, ast.NotIn, ast.IsNot, ast.NotEq)
# What the votes of a member and its journal promise, numbered in the specification of the ledger.
VOTING = ["V1", "V2", "V3", "V4", "V5", "V6", "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"]


def rules():
    """The ids in the first column of the table of rules; "L2 to L4" is three."""
    text = (ROOT / "ledger" / "README.md").read_text(encoding="utf-8")
    table = text.partition("\n## Rules\n")[2].partition("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| (.+) \|$", table, re.MULTILINE):
        first, _, rest = row.partition(" | ")
        for letter, low, high in re.findall(r"\b([A-Z])(\d)(?: to [A-Z](\d))?", first):
            found |= {f"{letter}{n}" for n in range(int(low), int(high or low) + 1)}
        found |= set(re.findall(r"; ([A-Z]\d) `", rest))  # "...; B5 `bundle.py`"
    return sorted(found) + VOTING


@functools.cache
def marked():
    """Every marked test: rule id -> [(expects a refusal, says no in any way)]."""
    found = defaultdict(list)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.rule":
                        found[mark.args[0].value].append(manner(node))
    return found


def manner(test):
    calls = {
        ast.unparse(n.func).rpartition(".")[2] for n in ast.walk(test) if isinstance(n, ast.Call)
    }
    refusal = bool(calls & REFUSALS)
    return refusal, refusal or any(
        denies(n.test) for n in ast.walk(test) if isinstance(n, ast.Assert)
    )


def denies(asserted):
    """Whether an assertion says that something is not, is nothing, or ended badly."""
    for node in ast.walk(asserted):
        if isinstance(node, NEGATIVES):
            return True
        if isinstance(node, ast.Constant) and node.value in (None, False, "failed", "canceled"):
            return True
        if isinstance(node, ast.List | ast.Dict) and not ast.unparse(node).strip("[]{}"):
            return True
        if isinstance(node, ast.Call) and ast.unparse(node) == "set()":
            return True
    return False


@pytest.mark.parametrize("rule", rules())
def test_a_rule_has_a_test_that_passes_and_one_that_says_no(rule):
    assert [refusal for refusal, _ in marked()[rule] if not refusal], "no test that passes"
    assert [no for _, no in marked()[rule] if no], "no test that says no"
    assert len(marked()[rule]) > 1


def test_no_test_names_a_rule_that_nobody_wrote():
    known = {*rules(), "D2", "L6"}  # a worker's alone

    assert {*marked()} <= known
