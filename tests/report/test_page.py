from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from fimi.record.reader import ReportError, read_run
from fimi.record.results import DeviceRound
from fimi.record.summary import summarise
from fimi.report.figures import pictures
from fimi.report.page import write_report
from fimi.report.sections import cards
from fimi.testbed.cli import main

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    '"onmouseover="alert(3)',
    "<!--",
    "&lt;b&gt;",
    "%{x}$\\alpha$",
]


OWN_TAGS = set(
    """html head meta link title style body main header p h1 h2 h3 div span dl dt dd section figure
    figcaption table caption thead tbody tfoot tr th td small ul li details summary code b footer
    noscript script strong""".split()  # noqa: SIM905
)


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def packed(self, name: str) -> str:
        """What a browser unpacks from a script."""
        (text,) = (text for attributes, text in self.scripts if attributes.get("id") == name)
        return gzip.decompress(base64.b64decode(text)).decode()

    @property
    def policy(self) -> str:
        return next(
            attributes["content"] or ""
            for tag, attributes in self.tags
            if tag == "meta" and "http-equiv" in attributes
        )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Page:
    folder = tmp_path_factory.mktemp("hostile")
    rounds = [
        build.round_result(
            1,
            [
                build.device_round(name, status="refused", reason=f"because {name}")
                for name in sorted(HOSTILE)
            ],
            0.5,
        )
    ]
    about = {
        "run": HOSTILE[0],
        "strategy_title": HOSTILE[1],
        "status": "failed",
        "reason": HOSTILE[1],
        "config": {HOSTILE[0]: HOSTILE[1], "plan.deadline_s": HOSTILE[0]},
        "origins": {HOSTILE[0]: HOSTILE[1]},
        "versions": {HOSTILE[0]: HOSTILE[1]},
        "broker": HOSTILE[0],
        "dataset": {"name": HOSTILE[0], "split": HOSTILE[1], "class_names": HOSTILE[:2]},
    }
    build.write(folder, names=HOSTILE, rounds=rounds, about=about)
    return Page(write_report(folder))


class TestPage:
    def test_headline(self, run_dir: Path) -> None:
        page = Page(write_report(run_dir))
        text = page.text.replace("\N{NO-BREAK SPACE}", " ")
        for words in ("a-run", "completed", "70.0 %", "172 J", "emulated", "184 J", "1.00 %"):
            assert words in text
        assert "best 80.0 % in round 2" in text
        assert "--rounds" in text  # origin of a value
        assert "A synthetic sample counts as" in text
        assert "0.5 real ones (q)" in text

    def test_one_piece_that_loads_nothing(self, run_dir: Path) -> None:
        page = Page(write_report(run_dir))
        loading = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction"}
        urls = [v for _, attributes in page.tags for k, v in attributes.items() if k in loading]
        assert urls == ["data:,"]
        assert not re.search(r"@import|url\(", "".join(page.styles))
        assert page.policy.startswith("default-src 'none'")
        assert "connect-src" not in page.policy

    def test_plotly_is_there_once(self, run_dir: Path) -> None:
        page = Page(write_report(run_dir))
        assert page.packed("library").count("* plotly.js v") == 1
        assert "* plotly.js v" not in "".join(text for _, text in page.scripts)

    def test_policy_names_the_very_scripts(self, run_dir: Path) -> None:
        page = Page(write_report(run_dir))
        own = [text for attributes, text in page.scripts if attributes.get("type") is None]
        assert len(own) == 1
        run = [page.packed("library"), *own]
        for text in run:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in page.policy
        scripts = next(part for part in page.policy.split(";") if "script-src" in part)
        assert "unsafe" not in scripts

    def test_every_picture_has_its_place(self, run_dir: Path) -> None:
        page = Page(write_report(run_dir))
        figures = json.loads(page.packed("figures"))["figures"]
        places = [a["id"] for _, a in page.tags if a.get("class") == "plot"]
        assert sorted(figures) == sorted(str(place) for place in places)
        assert places[0] == "measured-predicted"
        assert len(places) == 9

    @pytest.mark.parametrize("rounds", [None, []])
    def test_ended_early(self, tmp_path: Path, build: Any, rounds: Any) -> None:
        build.write(tmp_path, rounds=rounds, about={})
        text = Page(write_report(tmp_path)).text
        assert f"Running, {0 if rounds == [] else 3} rounds finished so far." in text
        assert "The run is still going, or it was killed." in text

    def test_empty_store(self, tmp_path: Path, build: Any) -> None:
        build.write(tmp_path, names=(), rounds=[], about={})
        page = Page(write_report(tmp_path))
        assert "nothing was metered" in page.text

    def test_unmetered_devices_are_named(self, tmp_path: Path, build: Any) -> None:
        rounds = [
            build.round_result(n, [build.device_round("quiet", unread={"compute"})], 0.5)
            for n in (1, 2, 4)
        ]
        build.write(tmp_path, names=["quiet"], rounds=rounds)
        assert "quiet: compute in rounds 1–2, 4" in Page(write_report(tmp_path)).text


class TestHostileNames:
    def test_no_element_or_attribute_comes_from_them(self, hostile: Page) -> None:
        assert {tag for tag, _ in hostile.tags} <= OWN_TAGS
        assert not [k for _, attributes in hostile.tags for k in attributes if k.startswith("on")]
        assert len(hostile.scripts) == 3

    def test_they_are_shown_as_they_are(self, hostile: Page) -> None:
        for name in HOSTILE:
            assert name in hostile.text

    def test_figures_have_them_as_text(self, hostile: Page) -> None:
        own = re.compile(r"</?b>|<br>|<extra></extra>")

        def strings(value: object) -> list[str]:
            if isinstance(value, dict):
                return [s for child in value.values() for s in strings(child)]
            if isinstance(value, list):
                return [s for child in value for s in strings(child)]
            return [value] if isinstance(value, str) else []

        found = strings(json.loads(hostile.packed("figures"))["figures"])
        assert any("&lt;img" in text for text in found)
        assert not [text for text in found if "<" in own.sub("", text)]

    def test_hover_templates_are_constants(self, tmp_path: Path, build: Any) -> None:
        build.write(tmp_path, names=HOSTILE)
        run = read_run(tmp_path)
        for picture in pictures(run, summarise(run)).values():
            for trace in picture.figure.data:
                assert trace.hovertemplate in (None, "%{text}<extra></extra>") or (
                    trace.hovertemplate == "deadline 12 s<extra></extra>"
                )


class TestWriting:
    def test_full_disk_leaves_the_old_report_and_no_rubbish(
        self, run_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (run_dir / "report.html").write_text("old")

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(ReportError, match=r"No space left on device.*fimi report"):
            write_report(run_dir)
        assert (run_dir / "report.html").read_text() == "old"
        assert sorted(p.name for p in run_dir.iterdir()) == ["report.html", "run.sqlite"]

    def test_again_gives_the_same(self, run_dir: Path) -> None:
        first = write_report(run_dir).read_bytes()
        assert write_report(run_dir).read_bytes() == first


def test_a_picture_does_not_say_that_devices_learn_where_none_takes_part(
    tmp_path: Path, build: Any
) -> None:
    titles = {}
    for status in ("resting", "accepted"):
        build.write(
            tmp_path / status,
            rounds=[build.round_result(1, [build.device_round("device-0", status=status)], 0.5)],
        )
        run = read_run(tmp_path / status)
        titles[status] = pictures(run, summarise(run))["labels"].title
    assert titles == {
        "resting": "What each device holds",
        "accepted": "What each device learns from",
    }


def test_each_card_has_the_kind_of_its_own_joules(tmp_path: Path, build: Any) -> None:
    """Idling is metered by a plug, computing and uploading are emulated."""

    def plugged(entry: DeviceRound) -> DeviceRound:
        return msgspec.structs.replace(
            entry,
            phases=tuple(
                msgspec.structs.replace(
                    p, energy=msgspec.structs.replace(p.energy, kind="measured")
                )
                if p.phase == "model-download" and p.energy
                else p
                for p in entry.phases
            ),
        )

    found = [build.round_result(1, [plugged(build.device_round("device-0"))], 0.5)]
    build.write(tmp_path / "run", names=("device-0",), rounds=found)
    run = read_run(tmp_path / "run")
    summary = summarise(run)
    assert summary.dynamic.value is not None and summary.dynamic.value.kind == "emulated"
    board, dynamic = (
        text
        for text in re.findall(r"<div.*?</div>", cards(run, summary), re.DOTALL)
        if ">Energy, whole board<" in text or ">Energy, dynamic<" in text
    )
    assert ">mixed<" in board and ">emulated<" in dynamic


@pytest.mark.parametrize(
    ("partition", "said"),
    [
        ("shards", "sorted by class and dealt out in pieces, 2 each"),
        ("iid", "divided at random, as many each"),
        ("quantity", "sizes by a Dirichlet distribution with α = 0.5"),
        ("file", "divided as parts.json says"),
    ],
)
def test_how_the_data_were_divided(tmp_path: Path, build: Any, partition: str, said: str) -> None:
    config = {
        "data.partition": partition,
        "data.alpha": 0.5,
        "data.shards": 2,
        "data.partition_file": "parts.json",
    }
    build.write(tmp_path, about={"config": config, "dataset": {"name": "digits", "test": 40}})
    assert said in Page(write_report(tmp_path)).text


def test_a_page_that_cannot_be_written_is_no_broken_store(run_dir: Path) -> None:
    (run_dir / "report.html").unlink(missing_ok=True)
    (run_dir / "report.html").mkdir()
    ended = CliRunner().invoke(main, ["report", str(run_dir)])
    assert ended.exit_code == 3
    said = " ".join(ended.stderr.split())
    assert "the report cannot be written" in said and "--format json" in said
    assert "error[U003]" in said
    assert (
        "device-0" in ended.stdout and "run" in ended.stdout
    )  # what it says is printed all the same
