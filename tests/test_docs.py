"""What the documentation names exists: links, files, modules, functions, commands, keys.

Decisions and the glossary have the form that they promise, and the page about the conversation has
all its stages, orders and facts.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

from fimi.edge_agent.course import Step
from fimi.messaging.messages.basis import Stage
from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.messages.facts import FactBody
from fimi.testbed.cli import main
from fimi.testbed.configuration.sections import Config

ROOT = Path(__file__).parents[1]
HEADINGS = ["Decision", "Why", "Tried", "Numbers", "Date"]
FOLDERS = [path.parent.name for path in (ROOT / "fimi").glob("*/__init__.py")]
TOP = [*FOLDERS, "fimi", "benchmarks", "docs", "examples", "packaging", "scripts", "tests"]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = sorted({*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")})
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that describe the tree as it is; the change log also describes what it was."""


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def spans(text: str) -> list[str]:
    """What stands between single backticks, line breaks as spaces."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@cache
def definitions() -> dict[str, set[str]]:
    """What each module of the product defines: ``name`` and ``Class.name``; fields and arguments.

    Keys are the modules' names from ``fimi`` on.
    """
    tree = ast.parse((ROOT / "fimi" / "__init__.py").read_text(encoding="utf-8"))
    found = {"fimi": {*_names(tree.body), *_exported(tree)}}
    mortar = [path for path in (ROOT / "fimi").glob("*.py") if path.stem != "__init__"]
    for path in mortar:
        found[f"fimi.{path.stem}"] = set(_names(ast.parse(path.read_text(encoding="utf-8")).body))
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(("fimi", *(part for part in parts if part != "__init__")))
            found[module] = set(_names(ast.parse(path.read_text(encoding="utf-8")).body))
    return found


def _exported(tree: ast.Module) -> list[str]:
    """What a module names in ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _names(body: list[ast.stmt], before: str = "") -> list[str]:
    names = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            inside = f"{before}{node.name}."
            names += [before + node.name, *_names(node.body, inside)]
            names += [
                inside + part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
                if isinstance(part.value, ast.Name) and part.value.id == "self"
            ]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.append(before + node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [before + target.id for target in targets if isinstance(target, ast.Name)]
    return names


def exists(dotted: str) -> bool:
    """Whether a name from ``fimi`` on is a module or something that a module defines."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in definitions():
            rest = ".".join(parts[length:])
            return not rest or rest in definitions()[module]
    return False


def test_there_are_pages_and_decisions() -> None:
    assert len(FOLDERS) >= 10
    assert len(DECISIONS) >= 43
    assert len(PAGES) >= len(DECISIONS) + 10
    assert "plan" in definitions()["fimi.optim.planner"]
    assert exists("fimi.energy.joules.Energy") and not exists("fimi.energy.joules.Nothing")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_five_headings_and_something_below_each(page: Path) -> None:
    first, *sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.fullmatch(rf"# {page.stem[:4]} \S.*\n\n", first)
    assert [section.split("\n", 1)[0] for section in sections] == HEADINGS
    assert all(section.split("\n", 1)[1].strip() for section in sections)
    date.fromisoformat(sections[-1].split("\n", 1)[1].strip())


def test_the_index_lists_every_decision_with_its_title_and_date() -> None:
    index = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[(\d{4})\]\((.*?)\) \| (.*?) \| (.*?) \| \S.* \|$", index, re.MULTILINE
    )
    expected = []
    for page in DECISIONS:
        text = page.read_text(encoding="utf-8")
        heading = text.split("\n", 1)[0].removeprefix(f"# {page.stem[:4]} ")
        expected.append((page.stem[:4], page.name, heading, text.split("## Date")[1].strip()))
    assert rows == expected
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_terms_of_the_glossary_stand_once_and_in_the_order_of_the_alphabet() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [term.lower() for term in re.findall(r"^\| \*\*(.+?)\*\*", text, re.MULTILINE)]
    assert len(terms) > 40
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_relative_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.exists(), f"{title(page)} links to {target}"
        if anchor:
            assert anchor in anchors(goal.read_text(encoding="utf-8")), target


def test_pages_link_to_each_other() -> None:
    """Every page of docs/ is reached by links from README.md."""
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        text = without_code(page.read_text(encoding="utf-8"))
        goals = {
            (page.parent / target.split("#")[0]).resolve()
            for target in re.findall(r"\]\(([^)\s]+\.md(?:#\S*)?)\)", text)
            if not re.match(r"[a-z]+:", target)
        }
        ahead += [goal for goal in goals if goal not in reached and goal not in ahead]
    assert {title(page) for page in PAGES} - {title(page) for page in reached} == set()


def test_names_below_fimi_exist() -> None:
    named = set[tuple[str, str]]()
    for page in TODAY:
        text = page.read_text(encoding="utf-8")
        for module, list_ in re.findall(r"^from (fimi[\w.]*) import (.+)$", text, re.MULTILINE):
            text += "".join(f" {module}.{name.strip()}" for name in list_.split(","))
        found = re.findall(r"(?<![\w/.\-])fimi\.[A-Za-z_][\w.]*\w", text)
        named |= {(title(page), name) for name in found if name != "fimi.toml"}
    assert len(named) >= 5
    assert sorted((page, name) for page, name in named if not exists(name)) == []


def test_files_named_in_pages_exist() -> None:
    named = {
        (title(page), path)
        for page in TODAY
        for path in re.findall(
            rf"(?<![\w/.\-~<])(?:{'|'.join(TOP)})/(?!v1/)[\w./\-]*\w",
            re.sub(r"\]\([^)]*\)", "]", page.read_text(encoding="utf-8")),
        )
    }
    assert len(named) >= 60
    assert sorted((page, path) for page, path in named if not (ROOT / path).exists()) == []


def test_what_docstrings_refer_to_exists() -> None:
    """Cross-references to names below ``fimi``, and files of the tree that docstrings name."""
    names, files = set[tuple[str, str]](), set[tuple[str, str]]()
    for folder in (*FOLDERS, "fimi", "benchmarks", "examples"):
        for path in (ROOT / folder).glob("*.py" if folder == "fimi" else "**/*.py"):
            text = path.read_text(encoding="utf-8")
            place = str(path.relative_to(ROOT))
            names |= {
                (place, n) for n in re.findall(r":[a-z]+:`[^`<]*?<?~?(fimi\.[\w.]+)>?`", text)
            }
            files |= {
                (place, file)
                for file in re.findall(
                    rf"(?<![\w/.\-])(?:{'|'.join(TOP)})/[\w/]+\.(?:py|md)\b", text
                )
            }
    assert len(names) >= 300
    assert len(files) >= 30
    assert sorted((place, name) for place, name in names if not exists(name)) == []
    assert sorted((place, file) for place, file in files if not (ROOT / file).exists()) == []


def test_what_a_docstring_refers_to_in_its_module_is_there() -> None:
    """Functions, classes, methods and data that a docstring names without a module."""
    wrong, count = [], 0
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            known = set(_names(tree.body))
            known |= {name.rpartition(".")[2] for name in known}
            for node in ast.walk(tree):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    known |= {(alias.asname or alias.name) for alias in node.names}
            for name in re.findall(
                r":(?:func|class|data|meth|attr|exc):`(?:[^`<]*<)?~?(\w[\w.]*)>?`", text
            ):
                if name.split(".")[0] not in OUTSIDE:
                    count += 1
                    if name not in known and name.split(".")[0] not in known:
                        wrong.append((str(path.relative_to(ROOT)), name))
    assert count >= 300
    assert wrong == []


OUTSIDE = {"fimi", "torch", "scipy", *vars(builtins)}
"""First words of names that stand in other modules, in packages of others, or in no module."""


def test_keys_named_in_pages_are_keys_of_the_configuration() -> None:
    keys = {
        section.name: {field.name for field in msgspec.structs.fields(section.type)}
        for section in msgspec.structs.fields(Config)
    }
    named = 0
    for page in TODAY:
        for span in spans(page.read_text(encoding="utf-8")):
            match = re.match(rf"({'|'.join(keys)})\.([a-z_0-9]+)(\*?)(?![\w.(])", span)
            if match and span.split(".")[1].split()[0].rstrip("*") not in FILE_ENDINGS:
                section, key, star = match.groups()
                named += 1
                known = [name for name in keys[section] if name == key or star]
                known = [name for name in known if name.startswith(key)]
                assert known, f"{title(page)} names {span}"
    assert named >= 60


FILE_ENDINGS = {"lock", "py", "toml", "html", "sqlite", "onnx", "csv"}


def test_functions_of_the_model_exist() -> None:
    """Where docs/model.md says which function computes an equation, the function is there.

    A name between backticks is a function, a class, a method or a field of the product.
    """
    known = set[str]()
    for names in definitions().values():
        known |= names | {name.rpartition(".")[2] for name in names}
    arguments = {
        argument.arg
        for folder in ("energy", "optim", "learning", "coordinator")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.arguments)
        for argument in [*node.args, *node.kwonlyargs]
    }
    text = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    sections = {section.name for section in msgspec.structs.fields(Config)}
    symbols = text.split("## Symbols")[1].split("\n## ")[0]
    known |= arguments & set(spans(symbols))
    named = [
        span
        for span in spans(text)
        if re.fullmatch(r"[A-Za-z_][\w.]*", span) and span.split(".")[0] not in sections
    ]
    assert len(named) >= 60
    assert [name for name in named if name not in known] == []


def column(page: str, heading: str, number: int = 0) -> list[str]:
    """What stands between backticks in a column of the table below a heading of a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    rows = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0].split("\n|---")[1]
    cells = [row.split("|")[number + 1] for row in rows.splitlines()[1:] if row.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_page_about_the_conversation_has_all_that_is_said_in_it() -> None:
    page = "conversation.md"
    assert column(page, "The device") == list(get_args(Stage))
    assert column(page, "Facts") == [fact.__name__ for fact in get_args(FactBody)]
    orders = {
        field.name: [part.__name__ for part in get_args(field.type) if part is not type(None)]
        for field in msgspec.structs.fields(Desired)
        if field.default is None
    }
    assert column(page, "Orders") == list(orders)
    assert [[name] for name in column(page, "Orders", 1)] == list(orders.values())
    steps = {step.__name__ for step in get_args(Step)} - {"Forget"}
    assert steps <= {name for names in orders.values() for name in names}
    fields = {field.name for kind in (Desired, Reported) for field in msgspec.structs.fields(kind)}
    assert set(column(page, "What every document says")) == fields - {"run", "device", *orders}


def test_the_drawing_of_the_device_has_every_stage() -> None:
    text = (ROOT / "docs" / "conversation.md").read_text(encoding="utf-8")
    drawing = text.split("## The device")[1].split("```")[1]
    assert set(re.findall(r"│ +([a-z]+) +│", drawing)) == set(get_args(Stage))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Where a command line of ``fimi`` is shown, and its words."""
    pages = [
        *TODAY,
        ROOT / "packaging" / "card" / "first-boot.sh",
        *(ROOT / "examples").rglob("*.toml"),
    ]
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        shown = re.findall(r"^(?:\S+=|#| )*(?:\S*/)?(fimi [a-z].*)$", text, re.MULTILINE)
        for line in [*shown, *re.findall(r"`(fimi [a-z][^`]*)`", text)]:
            yield title(page), re.split(r" [#|>&]|  +| *…|;", line)[0].split()


def test_commands_in_pages_have_the_options_that_are_shown() -> None:
    count = 0
    for page, words in commands():
        command: click.Command = main
        names = [word.strip("[]'") for word in words[1:]]
        while names and names[0] in getattr(command, "commands", ()):
            command = command.commands[names.pop(0)]  # type: ignore[attr-defined]
        if command is main:
            continue  # a sentence about fimi
        options: list[Any] = [each for each in command.params if isinstance(each, click.Option)]
        known = {name for each in options if not each.hidden for name in each.opts}
        known |= {"-h", "--help", "-v", "-vv", "-q", "--log-file"}
        for name in names:
            if re.match(r"--?[a-z]", name):
                count += 1
                assert name.split("=")[0] in known, f"{page}: {' '.join(words)}"
    assert count >= 60
