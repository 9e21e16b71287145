"""Every error that reaches a user has a code, and every code an explanation that holds."""

from __future__ import annotations

import ast
import errno
import pickle
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, get_args

import pytest
from click.testing import CliRunner

from fimi import errors as base
from fimi.edge_agent.failures import words
from fimi.errors import CODE_LINE, InputError
from fimi.messaging.errors import BrokerUnreachable
from fimi.optim.problem import Constraint, InfeasibleError
from fimi.record.store_file import StoreError
from fimi.report.layout import Paper
from fimi.testbed.cli import main
from fimi.testbed.commands.shared import code_of, errors
from fimi.testbed.experiment.engines.base import last_code, last_line, last_words
from fimi.testbed.explanations import _plain, as_text, explanations, subjects

ROOT = Path(__file__).parents[2]
ROOMS = [*sorted(path.parent.name for path in (ROOT / "fimi").glob("*/__init__.py")), "fimi"]
GLOBS = {"fimi": "*.py"}  # its folders are links to the rooms
Node = TypeVar("Node", bound=ast.AST)
BASES = {"FimiError", "InputError", "SurroundingsError", "NoPlanError", "RunFailedError"}
"""Without a code of their own: what is raised as one of them gives its code itself."""


@cache
def sources() -> dict[str, str]:
    """The text of every module of the product."""
    paths = [
        path for room in ROOMS for path in sorted((ROOT / room).glob(GLOBS.get(room, "**/*.py")))
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def nodes(kind: type[Node], having: str) -> Iterator[tuple[str, Node]]:
    """Nodes of a kind with their places, of the modules in whose text a pattern is found."""
    for path, text in sources().items():
        if re.search(having, text):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, kind):
                    yield f"{path}:{node.lineno}", node  # type: ignore[attr-defined]


def kinds() -> dict[str, str]:
    """Every class of errors of the product, to its code or that of its base."""
    bases: dict[str, list[str]] = {"FimiError": []}
    codes = {"FimiError": ""}
    for text in sources().values():
        for part in re.split(r"^class ", text, flags=re.MULTILINE)[1:]:
            name, _, rest = part.partition("(")
            bases.setdefault(name, [base.strip() for base in rest.partition(")")[0].split(",")])
            if found := re.search(r'^    code = "(.*)"$', part, re.MULTILINE):
                codes[name] = found[1]

    def is_error(name: str) -> bool:
        return name == "FimiError" or any(map(is_error, bases.get(name, [])))

    def code(name: str) -> str:
        return codes.get(name) or next(filter(None, map(code, bases.get(name, []))), "")

    return {name: code(name) for name in bases if is_error(name)}


def used() -> dict[str, set[str]]:
    """Code to the modules that give it to an error: classes, ``code=…``, calls of ``fail``."""
    found: dict[str, set[str]] = {}
    for path, text in sources().items():
        for code in re.findall(r'"([A-Z]0\d\d)"', text):
            found.setdefault(code, set()).add(path)
    return found


def test_every_class_of_errors_has_a_code() -> None:
    known, found = explanations(), kinds()
    assert len(found) >= 60
    without = {name for name, code in found.items() if code not in known}
    assert without - {"InfeasibleError", "_OverBudgetError"} == BASES
    for constraint in get_args(Constraint):
        assert InfeasibleError("no", constraint=constraint, devices=()).code in known


def test_what_is_raised_as_a_base_class_gives_its_own_code() -> None:
    lacking = []
    for place, node in nodes(ast.Raise, rf"raise (\w+\.)*({'|'.join(BASES)})\("):
        if isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            if name in BASES and "code" not in {each.arg for each in node.exc.keywords}:
                lacking.append(place)
    assert lacking == []


def test_every_fail_of_a_command_has_a_code_but_those_of_ctrl_c() -> None:
    lacking, count = [], 0
    for place, node in nodes(ast.Call, r"\bfail\("):
        if ast.unparse(node.func) == "fail":
            count += 1
            if len(node.args) < 3 and "EXIT_INTERRUPTED" not in ast.unparse(node):
                lacking.append(place)
    assert count >= 50
    assert lacking == []


def test_every_code_in_use_is_explained_and_every_explained_one_in_use_or_retired() -> None:
    known, there = explanations(), used()
    assert len(there) >= 70
    assert sorted(set(there) - set(known)) == []
    assert sorted(c for c, one in known.items() if one.retired == (c in there)) == []


def test_codes_are_counted_without_gaps_so_that_none_is_used_again() -> None:
    for letter in subjects():
        numbers = [int(code[1:]) for code in explanations() if code[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1)), letter
    assert {code[0] for code in explanations()} == set(subjects())


def test_an_explanation_is_whole_and_its_pages_exist() -> None:
    for code, one in explanations().items():
        assert len(one.title) <= 72 and not one.title.endswith("."), code
        assert one.means.endswith(".") and one.causes and one.steps, code
        for page in one.read:
            assert (ROOT / "docs" / page).is_file(), f"{code} names docs/{page}"
        said = (one.means, *one.causes, *one.steps)
        assert all(text.count("`") % 2 == 0 for text in said), code
        lines = as_text(code, Paper()).splitlines()
        assert max(map(len, lines)) <= 80, code
        words = " ".join(" ".join(lines).split())
        for text in said:
            assert " ".join(_plain(text).split()) in words, code


def test_the_page_is_that_of_the_texts() -> None:
    script = ROOT / "scripts" / "document_errors.py"
    names: dict[str, object] = {"__name__": "page", "__file__": str(script)}
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), names)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert names["made"]() == page, "run scripts/document_errors.py"  # type: ignore[operator]


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.stdout, done.stderr


def test_it_explains_a_code_however_it_is_written() -> None:
    said = {run("explain", text) for text in ("B003", "b003", "b3", "error[B003]", "[B003]:")}
    assert len(said) == 1
    code, out, err = said.pop()
    assert (code, err) == (0, "")
    assert out.startswith("B003  the broker refuses this peer\n")
    assert "'fimi fleet rotate NAME'" in out and "docs/security.md" in out


def test_without_a_code_it_lists_all() -> None:
    code, out, _ = run("explain")
    assert code == 0
    assert re.findall(r"^  ([A-Z]\d{3})  \S", out, re.MULTILINE) == list(explanations())
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("text", ["B099", "Z001", "broker", "", "B" + "9" * 400, "[", "B-01"])
def test_an_unknown_code_is_refused_with_near_ones(text: str) -> None:
    code, out, err = run("explain", text)
    assert (code, out) == (2, "")
    assert "'fimi explain' lists all" in err and err.endswith("error[U001]\n")
    if text == "B099":
        assert "B009" in err


def test_an_error_ends_with_its_code_and_where_more_is_said() -> None:
    code, out, err = run("report", "/nowhere")
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == "error[R004]: 'fimi explain R004' says what to do"
    code, _, err = run("check", "--set", "plan.dedline_s=3")
    assert (code, err.splitlines()[-1][:11]) == (2, "error[C002]")
    code, _, err = run("check", "--set", "fleet.devices=-3")
    assert (code, err.splitlines()[-1][:11]) == (2, "error[C003]")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "U003"),
        (errno.EACCES, "U004"),
        (errno.ENOSPC, "U005"),
        (errno.EMFILE, "U006"),
    ],
)
def test_errors_of_the_system_have_codes(
    number: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(OSError(number, "no")) == code
    with pytest.raises(SystemExit) as end, errors():
        raise OSError(number, "no", "a-file")
    assert end.value.code == 3
    said = capsys.readouterr().err.splitlines()
    assert said == ["fimi: a-file: no", f"error[{code}]: 'fimi explain {code}' says what to do"]


def test_a_code_stays_with_an_error_that_is_pickled() -> None:
    error = pickle.loads(pickle.dumps(StoreError("taken", code="R002")))  # noqa: S301 - made here
    assert (str(error), error.code, StoreError("x").code) == ("taken", "R002", "R001")


def test_a_device_says_the_code_of_what_it_reports() -> None:
    assert words("d1", BrokerUnreachable("gone"), "x") == "BrokerUnreachable: gone [B001]"
    assert words("d1", ValueError("gone"), "x") == "ValueError: gone"
    assert base.coded(InputError("no")) == "no"


def test_what_a_command_said_last_is_its_error_and_its_code_is_known(tmp_path: Path) -> None:
    log = tmp_path / "output"
    log.write_text(f"a\nfimi: it is\n  so\n{CODE_LINE}B007]: more\n", encoding="utf-8")
    assert (last_words(log), last_line(log), last_code(log)) == ("it is so", "  so", "B007")
    log.write_text("all is well\n", encoding="utf-8")
    assert last_code(log) == ""
    assert last_code(tmp_path / "absent") == ""
