"""Every error that reaches a user has a code, and every code an explanation that holds."""

from __future__ import annotations

import ast
import errno
import importlib
import pickle
import re
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from fimi import errors as base
from fimi.edge_agent.failures import words
from fimi.errors import CODE_LINE, FimiError, InputError
from fimi.messaging.errors import BrokerUnreachable
from fimi.optim.problem import InfeasibleError
from fimi.record.store_file import StoreError
from fimi.report.layout import Paper
from fimi.testbed.cli import main
from fimi.testbed.commands.shared import code_of, errors
from fimi.testbed.experiment.engines.base import last_code, last_line, last_words
from fimi.testbed.explanations import as_text, explanations, subjects

ROOT = Path(__file__).parents[2]
ROOMS = sorted(path.parent.name for path in (ROOT / "fimi").glob("*/__init__.py"))
CODE = re.compile(r"[A-Z]\d{3}")
BASES = {"FimiError", "InputError", "SurroundingsError", "NoPlanError", "RunFailedError"}
"""Without a code of their own: what is raised as one of them gives its code itself."""


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of the product."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return tuple((path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def kinds() -> set[type[FimiError]]:
    """Every class of errors of the product."""
    for path, tree in sources():
        names = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and re.search(r"Error|Exception", ast.unparse(node))
        ]
        if names:
            parts = path.relative_to(ROOT).with_suffix("").parts
            importlib.import_module(".".join(("fimi", *(p for p in parts if p != "__init__"))))
    found: set[type[FimiError]] = set()
    ahead = [FimiError]
    while ahead:
        kind = ahead.pop()
        found.add(kind)
        ahead += kind.__subclasses__()
    return {kind for kind in found if kind.__module__.startswith("fimi.")}


def used() -> dict[str, set[str]]:
    """Code to the places that give it to an error: classes, ``code=…``, calls of ``fail``."""
    found: dict[str, set[str]] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and CODE.fullmatch(value):
                found.setdefault(value, set()).add(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_every_class_of_errors_has_a_code() -> None:
    known = explanations()
    all_kinds = kinds()
    assert len(all_kinds) >= 60
    without = [kind.__name__ for kind in all_kinds if kind.code not in known]
    assert sorted({*without} - {"InfeasibleError", "_OverBudgetError"}) == sorted(BASES)
    for constraint in ("deadline", "bandwidth", "learning error", "energy budget"):
        assert InfeasibleError("no", constraint=constraint, devices=()).code in known  # type: ignore[arg-type]


def test_what_is_raised_as_a_base_class_gives_its_own_code() -> None:
    lacking = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func).rpartition(".")[2]
                given = {keyword.arg for keyword in node.exc.keywords}
                if name in BASES and "code" not in given:
                    lacking.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert lacking == []


def test_every_fail_of_a_command_has_a_code_but_those_of_ctrl_c() -> None:
    lacking, count = [], 0
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "fail":
                count += 1
                code = node.args[2] if len(node.args) > 2 else None
                if code is None and "EXIT_INTERRUPTED" not in ast.unparse(node):
                    lacking.append(f"{path.relative_to(ROOT)}:{node.lineno}")
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


@pytest.mark.parametrize("code", explanations())
def test_an_explanation_is_whole_and_its_pages_exist(code: str) -> None:
    one = explanations()[code]
    assert len(one.title) <= 72 - len(code)
    assert one.title[0].islower() or one.title.split()[0].isupper() or "CUDA" in one.title
    assert one.means.endswith(".") and one.causes and one.steps
    assert (ROOT / "docs" / "troubleshooting.md").exists()
    for page in one.read:
        assert (ROOT / "docs" / page).is_file(), f"{code} names docs/{page}"
    assert all(text.count("`") % 2 == 0 for text in (one.means, *one.causes, *one.steps))
    lines = as_text(code, Paper()).splitlines()
    assert max(map(len, lines)) <= 80
    for part in (*one.causes, *one.steps, one.means):
        assert part.split("`")[0].split()[0] in " ".join(lines)


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
