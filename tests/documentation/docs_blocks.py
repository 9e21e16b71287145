"""The fenced blocks of the documentation, and how each command in them is tested.

* :func:`blocks`    every block with its page, line and language
* :func:`lines`     the command lines of a block for a shell
* :data:`COMMANDS`  how a command of ``fimi`` is tested: it is run here, or parsed, and then why
* :data:`PROGRAMS`  why other programs are not run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("", "sh", "toml", "python", "json", "yaml")
"""What may stand behind the fence; nothing: what a command prints, or a drawing."""

RUN = ""
FLEET = "it needs a fleet's broker, or runs until Ctrl-C; tests/testbed/processes starts it"
BOARD = "it needs a board, its meters or root; tests/edge_agent and tests/energy do"
KEPT = "it needs runs of a certain kind; tests/testbed and tests/report make them"
LONG = "it takes minutes; its own tests run it with small settings"
COMMANDS = {
    "dry-run": "one is run for all blocks; what others set is read as a configuration",
    "check": RUN,
    "init": RUN,
    "explain": RUN,
    "report": RUN,
    "optimise": RUN,
    "plot": RUN,
    "runs": RUN,
    "compare": KEPT,
    "export": RUN,
    "bundle": RUN,
    "verify": RUN,
    "control": "it needs a run that goes on; tests/coordinator/test_interventions.py has one",
    "experiment": LONG,
    "experiment compare": "it needs two finished experiments; tests/testbed/experiment has some",
    "learning-curve": LONG,
    "pilot": LONG,
    "calibrate": LONG,
    "generator train": LONG,
    "generator evaluate": LONG,
    "generator run": FLEET,
    "coordinator run": FLEET,
    "broker": FLEET,
    "agent run": FLEET,
    "agent data": RUN,
    "agent doctor": BOARD,
    "agent restore": BOARD,
    "agent install": BOARD,
    "agent uninstall": BOARD,
    "agent compare-meters": BOARD,
    "meter publish": BOARD,
    "meter import": "it needs a recording of another tool; tests/testbed/recordings has some",
    "chaos run": FLEET,
    "chaos proxy": FLEET,
    "chaos example": RUN,
    "chaos plan": RUN,
    "fleet init": RUN,
    "fleet enroll": RUN,
    "fleet credentials": RUN,
    "fleet rotate": RUN,
    "fleet revoke": RUN,
    "fleet status": FLEET,
    "fleet check": FLEET,
    "fleet doctor": FLEET,
    "fleet logs": FLEET,
    "fleet restart": FLEET,
    "fleet calibrate": FLEET,
    "fleet forget": FLEET,
    "fleet update": FLEET,
    "fleet home-assistant": FLEET,
    "top": "it needs a run that goes on; tests/monitor/terminal looks at one",
}
"""For every command of ``fimi``: empty, it is run here; else the reason why it is only parsed."""

INSTALLS = "it installs or fetches something"
ELSEWHERE = "it is typed on another machine"
SYSTEM = "it changes or watches the system"
SHELL = "a step of the shell around a command that is tested"
SOURCES = "a program of the sources, which has tests or is run by hand; the file is there"
PROGRAMS = {
    **dict.fromkeys(("pip", "python3", "apt", "npm", "git", ".", "fimi"), INSTALLS),
    **dict.fromkeys(("ssh", "scp"), ELSEWHERE),
    **dict.fromkeys(("sudo", "systemctl", "journalctl", "modprobe", "mosquitto"), SYSTEM),
    **dict.fromkeys(("mosquitto_passwd", "nano", "dtparam", "dtoverlay"), SYSTEM),
    **dict.fromkeys(("export", "cd", "rm", "cp", "mkdir", "chmod", "echo", "printf"), SHELL),
    **dict.fromkeys(("true", "tee", "ls", "head", "sed", "for", "umount"), SHELL),
    **dict.fromkeys(("python", "scripts/check"), SOURCES),
    "scripts/cuda_study.py": SOURCES,
    **dict.fromkeys(("mlflow", "tensorboard", "wandb"), "it shows what FIMI has told another tool"),
    "sqlite3": "its query is made here, on a stored run",
}
"""Other programs in blocks, and why they are not run here."""


class Block(NamedTuple):
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    """Every fenced block of the documentation, in its order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
            found.append(Block(str(page.relative_to(ROOT)), line, match[2], body))
    return tuple(found)


def of(language: str) -> list[Block]:
    """The blocks of a language."""
    return [block for block in blocks() if block.language == language]


class Line(NamedTuple):
    """A command line of a block, without what a prompt and a shell add to it.

    ``words`` begins with the program; for ``fimi``, wherever it is installed, with ``fimi``.
    """

    block: Block
    words: list[str]

    @property
    def program(self) -> str:
        """What is called."""
        return self.words[0]


def lines(block: Block) -> Iterator[Line]:
    """The command lines of a block for a shell; those that are joined stand alone."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    for whole in text.splitlines():
        for words in _joined(re.sub(r"^\w+\$ ", "", whole)):
            if words[:1] == ["done"]:
                continue
            if words[:1] == ["do"]:
                words = words[1:]
            if words and re.match(r"\w+=", words[0]):
                continue  # a variable of the shell
            if len(words) > 1 and words[0] == "sudo" and words[1].endswith("/fimi"):
                words = words[1:]
            if words[:3] == ["fimi", "chaos", "run"] and "--" in words:
                yield Line(block, words[words.index("--") + 1 :])
            if words:
                yield Line(block, [re.sub(r"^\S*bin/", "", words[0]), *words[1:]])


def _joined(line: str) -> list[list[str]]:
    """The words of each command of a line; where its output goes is left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    to_file = False
    for token in lexer:
        if set(token) <= set("|&;"):
            found.append([])
        elif to_file or token == ">":
            to_file = token == ">"
        else:
            found[-1].append(token)
    return found
