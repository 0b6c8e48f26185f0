"""The command line: nouns, verbs, help, exit codes, and how errors are shown."""

import argparse
import json
from importlib import import_module

import pytest

from tilth import InvalidInput, Refused
from tilth.cli import NOUNS, build_parser, main


def leaves(parser, path=()):
    """Every command with the words that lead to it."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield path, parser
    for action in inner:
        for name, child in action.choices.items():
            yield from leaves(child, (*path, name))


def commands():
    for noun in NOUNS:
        yield from leaves(build_parser(noun))


@pytest.mark.parametrize("words", [" ".join(path) for path, _ in commands()])
def test_every_command_has_help_and_json(words, capsys):
    parser = {" ".join(path): parser for path, parser in commands()}[words]

    assert parser.description
    assert any("--json" in action.option_strings for action in parser._actions)
    assert callable(parser.get_default("run"))


def test_the_words_are_nouns_then_verbs():
    words = {" ".join(path) for path, _ in commands()}

    assert {
        *("algo add", "algo list", "leaderboard", "data add", "data grant", "data list"),
        *("ledger show", "objective accept", "objective add", "objective list"),
        *("objective show", "plan cancel", "plan list", "plan retry", "plan show"),
        *("plan watch", "profile add", "profile list", "row export", "status"),
        *("task log", "task show", "verify"),
    } <= words


def test_the_version_goes_to_standard_output(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "tilth 0.1.0\n"


def test_a_command_of_the_node_makes_none_of_the_sdk_s():
    made = {path[0] for path, _ in leaves(build_parser("node"))}

    assert made & NOUNS.keys() == set()
    assert {"node", "network"} <= made


def test_a_word_that_is_no_command_is_told_all_of_them(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    told = capsys.readouterr().err
    assert "'plan'" in told
    assert "'node'" in told


@pytest.mark.parametrize("words", [["nonsense"], ["plan"], ["plan", "nonsense"], ["row", "export"]])
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "Exit codes" in capsys.readouterr().out


def test_an_error_says_what_to_do_and_exits_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TILTH_HOME", str(tmp_path))

    assert main(["status", "--profile", "nowhere"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("tilth: there is no profile 'nowhere'")
    assert "tilth profile add nowhere" in shown.err


def test_with_json_an_error_is_json_on_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TILTH_HOME", str(tmp_path))

    assert main(["status", "--profile", "nowhere", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)["error"]
    assert facts["kind"] == "invalid"
    assert "tilth profile add nowhere" in facts["remedy"]


def says(raised, monkeypatch, capsys):
    """What a command prints for an error, line by line."""

    def run(arguments):
        raise raised

    def register(noun):
        noun.set_defaults(run=run)

    monkeypatch.setattr(import_module("tilth.cli.status"), "register", register)
    assert main(["status"]) == 1
    return capsys.readouterr().err.splitlines()


def test_an_error_is_one_line_for_each_of_its_facts(monkeypatch, capsys):
    raised = Refused("R1", "no such thing", found="a", expected="b", remedy="do c")

    assert says(raised, monkeypatch, capsys) == [
        "tilth: refused by rule R1: no such thing",
        "  found     a",
        "  expected  b",
        "  to do     do c",
    ]


def test_a_file_that_cannot_be_written_is_an_error_in_words(monkeypatch, capsys):
    raised = FileNotFoundError(2, "No such file or directory", "/nowhere/row.json")

    said = says(raised, monkeypatch, capsys)

    assert said[1] == "  found     /nowhere/row.json: No such file or directory"


def test_a_package_that_is_missing_comes_with_the_extra_that_brings_it(monkeypatch, capsys):
    raised = ModuleNotFoundError("No module named 'structlog'", name="structlog")

    said = says(raised, monkeypatch, capsys)

    assert said[-1] == "  to do     Run: pip install 'tilth[node]'"
    with pytest.raises(ModuleNotFoundError):  # ours: nothing that an extra would bring
        says(ModuleNotFoundError("gone", name="tilth_ledger.gone"), monkeypatch, capsys)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (Refused("R1", "no", found="a", expected="b", remedy="c"), 1),
        (InvalidInput("no"), 1),
        (KeyboardInterrupt(), 130),
        (None, 0),
    ],
)
def test_what_a_command_raises_becomes_its_exit_code(raised, code, monkeypatch, capsys):
    def run(arguments):
        if raised is not None:
            raise raised

    def register(noun):
        noun.set_defaults(run=run)

    monkeypatch.setattr(import_module("tilth.cli.status"), "register", register)

    assert main(["status"]) == code


def test_grants_are_words_or_organizations():
    parse = build_parser("data").parse_args
    words = "--train hospital-a,hospital-b --test all --mixed participants"
    grant = parse(["data", "grant", "digits", *words.split()])

    assert grant.train == ["hospital-a", "hospital-b"]
    assert grant.test == "public"
    assert grant.mixed == "participants"
    assert grant.logs is None


@pytest.mark.parametrize("how", ["at-least=x", "local=3", "linearizable=1"])
def test_a_read_that_has_no_such_name_is_refused_before_anybody_is_asked(how, capsys):
    assert main(["status", "--profile", "nowhere", "--read", how]) == 1
    assert "--read is wrong" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["local", "at-least=12", "linearizable"])
def test_a_read_is_named_on_the_command_line(how, capsys):
    assert main(["status", "--profile", "nowhere", "--read", how]) == 1
    assert "--read is wrong" not in capsys.readouterr().err  # but there is no such profile
