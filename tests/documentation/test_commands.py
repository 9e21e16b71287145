"""Every block of the documentation is tested: run, parsed, read as what it is, or left out for a
stated reason (``tests/documentation/docs_blocks.py``)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from docs_blocks import COMMANDS, LANGUAGES, PAGES, PROGRAMS, ROOT, RUN, Block, Line, lines, of
from docs_blocks import blocks as all_blocks

from fimi.energy.host_profile import HostProfile, load_meters, load_profile
from fimi.optim.file_devices import Device
from fimi.testbed.chaos.script import parse_script
from fimi.testbed.cli import main
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment import file as experiment_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.timeout(400)  # of a machine on which much else goes on
PLACEHOLDER = re.compile(r"…|\$|\*|\b[A-Z][A-Z_]{2,}\b|^~")
"""Part of a word that stands for something else, which is not known here."""
SHELL_LINES = [line for block in of("sh") for line in lines(block)]
FIMI_LINES = [line for line in SHELL_LINES if line.program == "fimi" and line.words != ["fimi"]]


def tree(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """Every command below one that can be run, by its words."""
    below = getattr(command, "commands", {})
    if words and not isinstance(command, click.Group) and not command.hidden:
        yield " ".join(words), command
    for name, each in below.items():
        yield from tree(each, (*words, name))


def meant(line: Line) -> tuple[str, click.Command, list[str]]:
    """The command of a line by its words, itself, and the words behind it."""
    command, rest, name = main, line.words[1:], []
    while rest and rest[0] in getattr(command, "commands", ()):
        name.append(rest[0])
        command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
    return " ".join(name), command, rest


def test_blocks_are_of_known_languages_and_output_holds_no_commands() -> None:
    assert len(all_blocks()) >= 90
    assert [b.place for b in all_blocks() if b.language not in LANGUAGES] == []
    for block in of(""):
        assert not re.search(r"^(?:\w*\$ )?fimi [a-z]", block.text, re.MULTILINE), block.place


def test_every_command_of_fimi_is_named_in_the_pages_and_has_a_way_to_be_tested() -> None:
    commands = dict(tree(main))
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in PAGES)
    assert sorted(set(commands) - set(COMMANDS)) == [], (
        "name it in tests/documentation/docs_blocks.py"
    )
    assert sorted(set(COMMANDS) - set(commands)) == []
    assert [name for name in commands if not re.search(rf"fimi {name}\b", text)] == []


def test_every_program_in_a_block_is_one_that_is_known() -> None:
    unknown = {
        f"{line.block.place}: {line.program}"
        for line in SHELL_LINES
        if line.program not in PROGRAMS
    }
    assert sorted(unknown) == [], "say in tests/documentation/docs_blocks.py why it is not run"
    used = {line.program for line in SHELL_LINES}
    assert {name for name in PROGRAMS if "/" in name} <= used
    for line in SHELL_LINES:
        if line.program.startswith("scripts/"):
            assert (ROOT / line.program).is_file(), line.block.place
        if line.program == "python" and line.words[1].endswith(".py"):
            assert (ROOT / line.words[1]).is_file(), line.block.place


def test_fimi_is_installed_from_what_is_there() -> None:
    """It is on no package index: from its folder, a wheel, or as an extra of what is here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        line
        for line in SHELL_LINES
        if re.search(r"pip (install|download|wheel)\b", shlex.join(line.words))
    ]
    ways = {"folder": 0, "wheel": 0, "extra": 0}
    for line in asked:
        (what,) = [w for w in line.words if re.match(r"\.(\[|$)|fimi-testbed|\$\(ls .*\.whl\)", w)]
        here = what.startswith("fimi-testbed[")
        way = "extra" if here else "wheel" if what.startswith("$") else "folder"
        ways[way] += 1
        assert not (here and {"sudo", "download"} & set(line.words)), line.block.place
        for extra in re.findall(r"[\w-]+", "".join(re.findall(r"\[([\w,-]+)\]$", what))):
            assert extra in project["optional-dependencies"], line.block.place
    assert all(ways.values()), ways


@pytest.mark.parametrize("line", FIMI_LINES, ids=lambda line: shlex.join(line.words)[:60])
def test_a_command_line_is_understood(line: Line) -> None:
    """By the command's own parser: options, their values, arguments; keys of ``--set``."""
    name, command, rest = meant(line)
    if rest and rest[0] in ("--version", "-h"):
        return
    assert name in COMMANDS, f"{line.block.place}: no command {shlex.join(line.words)}"
    with click.Context(command, info_name=name) as context:
        given, arguments, _ = command.make_parser(context).parse_args(list(rest))
        for parameter in command.get_params(context):
            value = given.get(str(parameter.name))
            if isinstance(parameter, click.Argument):
                lacking = parameter.required and value in (None, ())
                assert not lacking, f"{line.block.place}: {parameter.human_readable_name} lacks"
            elif isinstance(parameter.type, (click.Choice, click.types.FloatParamType)) or (
                isinstance(parameter.type, click.types.IntParamType) and not parameter.count  # type: ignore[attr-defined]
            ):
                for each in value if isinstance(value, list) else [value]:
                    if each is not None and not PLACEHOLDER.search(str(each)):
                        parameter.type.convert(each, parameter, context)
    assert all(map(PLACEHOLDER.search, arguments))
    settings = [s for s in given.get("settings") or () if not PLACEHOLDER.search(s)]
    configures = "settings" in {parameter.name for parameter in command.params}
    overrides = dict(configuration.parse_setting(text) for text in settings)
    for option, key in (("strategy", "run.strategy"), ("alpha", "data.alpha")):
        if option in given and configures:
            overrides[key] = tomllib.loads(f"x = {json.dumps(given[option])}")["x"]
    if "alpha" in given and configures:
        overrides["data.alpha"] = float(given["alpha"])
    own = [key for key, value in overrides.items() if str(value).startswith("own_parts:")]
    for key in own:
        overrides.pop(key)
    configuration.load(None, {key: (value, "--set") for key, value in overrides.items()})


# What is run: in one folder, with one stored run, and every block of a page in its order.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder as that of a reader."""
    here = tmp_path_factory.mktemp("reader")
    (here / "examples").symlink_to(ROOT / "examples")
    for name in ("fimi.toml", "six-pis.toml"):
        shutil.copy(ROOT / "examples" / "six-pis.toml", here / name)
    (here / "bad-wifi.toml").write_text("", encoding="utf-8")
    return here


@pytest.fixture(scope="module")
def first(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the first run of docs/first-run.md says, with two rounds; it is stored in the folder.

    It is made once, also where several processes share the tests.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / "first-run"
    made.mkdir(exist_ok=True)
    said = made / "said.txt"
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.rmtree(made / "runs", ignore_errors=True)
            said.write_text(make_first(made), encoding="utf-8")
    shutil.copytree(made / "runs", folder / "runs")
    shutil.copytree(made / "runs" / "first", folder / "runs" / "fimi-1")
    (folder / "runs" / "NAME").symlink_to("first")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "pair").symlink_to("../runs")
    (folder / "experiments" / "NAME").mkdir()
    (folder / "experiments" / "NAME" / "runs").symlink_to("../../runs")
    return said.read_text(encoding="utf-8")


def make_first(folder: Path) -> str:
    """Make the first run, and give what it says."""
    words = next(w for w in walk("docs/first-run.md") if w[1] == "dry-run")
    at = words.index("--rounds") + 1
    code = "from fimi.testbed.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words[1:at], "2", *words[at + 1 :]],
        cwd=folder, capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def shorter(word: str) -> str:
    """A sweep with two values where the page has more: a plan for each takes its time."""
    return re.sub(r"^(\w+=[\d.e]+:[\d.e]+):\d+$", r"\1:2", word)


def turn(word: str) -> str:
    """The first turn of the loop over an experiment's runs."""
    return "experiments/NAME/runs/first/" if word == "$run" else word


@pytest.fixture(scope="module")
def ran(folder: Path, first: str) -> dict[str, str]:
    """What every line that is run says, in the order of the pages; each ends as it should."""
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT / "examples"))
        for line in runnable():
            done = CliRunner().invoke(main, [turn(shorter(word)) for word in line.words[1:]])
            wanted = 4 if "plan.deadline_s=0.2" in line.words else 0
            assert done.exit_code == wanted, f"{line.block.place}: {line.words}: {done.output}"
            said[shlex.join(line.words)] = done.stdout + done.stderr
            if "--example" in line.words:
                Path("problem.toml").write_text(done.stdout, encoding="utf-8")
    return said


def walk(page: str) -> list[list[str]]:
    """The command lines of fimi on a page."""
    return [line.words for line in FIMI_LINES if line.block.page == page]


def shape(text: str) -> str:
    """A text without its numbers and its line breaks."""
    return " ".join(re.sub(r"[−-]?\d[\d,.]*(?:e-?\d+)?", "#", text).split())


def shown(page: str, beginning: str) -> list[str]:
    """The lines of the block that begins so, as shapes; ``…`` stands for anything."""
    (block,) = [b for b in of("") if b.page == page and b.text.startswith(beginning)]
    return [shape(line) for line in block.text.splitlines() if line.strip("… ")]


def assert_said(line: str, said: str) -> None:
    """A line of a page, shortened by ``…``, stands in an output."""
    pattern = ".*?".join(re.escape(part.strip()) for part in line.split("…"))
    assert re.search(pattern, said), line


def test_the_first_run_prints_what_the_page_shows(first: str) -> None:
    for line in shown("docs/first-run.md", "[   4.8 s]"):
        assert_said(re.sub(r"onnxruntime.*$", "…", line), shape(first))
    assert re.search(r"plan: \d{3} synthetic samples", first)


def test_the_look_before_it_plans_the_images_that_the_page_names(ran: dict[str, str]) -> None:
    (words,) = [w for w in walk("docs/first-run.md") if "plan.error_max=0.08" in w and "-q" in w]
    said = ran[shlex.join(words)]
    for line in shown("docs/first-run.md", "plan "):
        assert_said(line, shape(said))
    page = (ROOT / "docs" / "first-run.md").read_text(encoding="utf-8")
    images = re.search(r"(\d+) synthetic samples", said)
    assert images and abs(int(images[1]) - 693) <= 7 and "need 693 images" in page


def runnable() -> Iterator[Line]:
    """The lines that are run, each once."""
    seen = set()
    for line in FIMI_LINES:
        name, _, _ = meant(line)
        text = shlex.join(line.words)
        needed = name.startswith("fleet") or any(
            each in text for each in ("data.root", "FILE", "experiments/digits-small")
        )
        if COMMANDS.get(name) == RUN and not needed and text not in seen:
            seen.add(text)
            yield line


def test_what_is_run_ends_well(ran: dict[str, str]) -> None:
    commands = {words.split()[1] for words in ran}
    assert commands >= {"check", "explain", "report", "optimise", "agent"}
    (refused,) = [said for words, said in ran.items() if "plan.deadline_s=0.2" in words]
    assert "error[P002]" in refused and "deadline" in refused


def test_a_fleet_is_set_up_as_the_pages_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page by itself, in a folder of its own: init, enroll, rotate, revoke, credentials."""
    pages = sorted({line.block.page for line in FIMI_LINES if meant(line)[0] == "fleet init"})
    assert len(pages) >= 5
    for page in pages:
        place = tmp_path / page.replace("/", "-")
        place.mkdir()
        monkeypatch.chdir(place)
        monkeypatch.delenv("FIMI_FLEET_FOLDER", raising=False)
        for line in (line for line in SHELL_LINES if line.block.page == page):
            if line.program == "export" and line.words[1].startswith("FIMI_FLEET_FOLDER"):
                monkeypatch.setenv(*line.words[1].split("=", 1))
            if line.program != "fimi" or COMMANDS.get(meant(line)[0]) != RUN:
                continue
            if not meant(line)[0].startswith("fleet"):
                continue
            words = [each for word in line.words[1:] for each in braces(word)]
            if words[1] == "enroll":  # a page may enroll one board first and all of them later
                words = [w for w in words if not list(Path().glob(f"*/bundles/{w}.bundle"))]
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, f"{line.block.place}: {words}: {done.output}"


def braces(word: str) -> list[str]:
    """``pi-{01..03}`` as bash writes it out."""
    found = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", word)
    if not found:
        return [word]
    before, first, last, behind = found.groups()
    width = len(first)
    return [f"{before}{i:0{width}d}{behind}" for i in range(int(first), int(last) + 1)][:4] + [
        f"{before}{i:0{width}d}{behind}" for i in (7, 31) if int(last) >= i
    ]


def test_queries_give_rows(folder: Path, first: str) -> None:
    queries = [line for line in SHELL_LINES if line.program == "sqlite3"]
    assert len(queries) >= 3
    assert first
    for line in queries:
        with sqlite3.connect(folder / line.words[1]) as run:
            assert run.execute(line.words[2]).fetchall(), line.block.place


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.place)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: block.place)
def test_yaml_is_yaml(block: Block) -> None:
    assert isinstance(pytest.importorskip("yaml").safe_load(block.text), dict)


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.place)
def test_python_runs(
    block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    code = compile(block.text, block.place, "exec")
    monkeypatch.chdir(folder)
    if "runs/" in block.text:
        request.getfixturevalue("first")
    if "/export-csv/" in block.text:  # what a command of its page has written
        (words,) = [w for w in walk(block.page) if w[1] == "export" and w[-2:] == ["--to", "csv"]]
        assert CliRunner().invoke(main, words[1:]).exit_code == 0
    names: dict[str, Any] = {"__name__": "docs", "Path": Path}
    if "pandas" in block.text:
        names["pandas"] = pytest.importorskip("pandas")
    exec(code, names)


EXPERIMENT = {"strategies", "tune", "grid", "live", "slurm", "generator", "overrides", "base"}
PROFILE = set(HostProfile.__struct_fields__)
SCRIPT = {"proxy", "process", "fault", "faults"}


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.place)
def test_toml_is_accepted_by_what_reads_it(block: Block, tmp_path: Path) -> None:
    keys = set(tomllib.loads(block.text))
    path = tmp_path / "shown.toml"
    path.write_text(block.text, encoding="utf-8")
    if keys <= set(Config.__struct_fields__):
        configuration.load(path)
    elif keys <= PROFILE and "compute" in tomllib.loads(block.text).get("board", {}):
        load_profile(path)
    elif keys <= PROFILE:  # lines of a profile, or a draft of one to be calibrated
        parts = re.split(r"^(?=\[)", block.text, flags=re.MULTILINE)
        text = "".join(part for part in parts if not part.startswith(("[board", "[remote")))
        text = re.sub(r"^name = .*\n", "", text)
        path.write_text(text, encoding="utf-8")
        load_meters(path)
    elif keys == {"device"}:
        for row in tomllib.loads(block.text)["device"]:
            msgspec.convert(row, Device)
    elif keys & SCRIPT:
        parse_script(block.text, block.place)
    elif keys & EXPERIMENT:
        text = block.text
        if "strategies" not in keys:
            path.write_text(f'strategies = ["tfl", "gan", "fimi"]\n{text}', encoding="utf-8")
        if "generator" in keys:
            path.write_text(
                f'strategies = ["gan", "fimi"]\n{text}'
                '[[generator]]\nname = "gan"\nkind = "gan"\nsteps = 10\n',
                encoding="utf-8",
            )
        experiment_file.read_experiment(path)
    else:
        raise AssertionError(f"{block.place}: what reads {', '.join(sorted(keys))}?")
