from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.sections import Config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


EXAMPLES = Path(__file__).parents[3] / "examples"


def write(folder: Path, text: str) -> Path:
    path = folder / "fimi.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestTemplate:
    def test_it_says_the_defaults_in_comments(self, tmp_path: Path) -> None:
        path = write(tmp_path, configuration.template())
        effective = configuration.load(path)
        assert effective.config == Config()
        assert set(effective.origins.values()) == {"default"}

    def test_without_the_comment_signs_it_says_them_itself(self, tmp_path: Path) -> None:
        path = write(tmp_path, re.sub(r"^#(?! )", "", configuration.template(), flags=re.M))
        effective = configuration.load(path)
        assert effective.config == Config()
        assert set(effective.origins.values()) == {str(path)}
        assert configuration.changed(effective.config) == {}

    def test_it_documents_every_key(self) -> None:
        lines = configuration.template().splitlines()
        for dotted, _ in configuration.fields():
            key = dotted.split(".")[1]
            place = next(i for i, line in enumerate(lines) if line.startswith(f"#{key} = "))
            assert lines[place - 1].startswith("# "), dotted

    @given(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**53), 2**53),
            st.text(max_size=20),
            st.lists(st.text(max_size=5), max_size=3),
            st.booleans(),
        )
    )
    def test_values_survive_toml(self, value: object) -> None:
        text = f"x = {configuration.to_toml(value)}"
        back = tomllib.loads(text)["x"]
        assert back == value  # to the last digit
        assert type(back) is type(value)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(path.parent)  # for parts of one's own, as docs/your-own.md says
    configuration.load(path)


class TestOrigins:
    def test_command_line_over_file_over_default(self, tmp_path: Path) -> None:
        path = write(tmp_path, "[run]\nseed = 4\n[fleet]\ndevices = 3\n")
        effective = configuration.load(path, {"run.seed": (9, "--seed")})
        assert (effective.config.run.seed, effective.origins["run.seed"]) == (9, "--seed")
        assert effective.config.fleet.devices == 3
        assert effective.origins["fleet.devices"] == str(path)
        assert effective.origins["plan.deadline_s"] == "default"

    def test_every_effective_value_has_an_origin(self) -> None:
        effective = configuration.load()
        assert set(configuration.values(effective.config)) == set(effective.origins)


class TestBadInput:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            (
                "[plan]\ndeadlin_s = 3",
                "unknown key 'deadlin_s' in [plan]; did you mean 'deadline_s'",
            ),
            ('[training]\nbackend = "onnx"\namp = "bf16"', "on the CPU in single precision"),
            ("[rounds]\nparticipants = 11", "rounds.participants 11 "),
            (
                "[rounds]\nparticipants = 2\nmin_devices = 3",
                "is above rounds.participants 2",
            ),
            ("[plan]\ndevices = 3", "unknown key 'devices' in [plan]; it belongs to [fleet]"),
            ("[plam]\ndeadline_s = 3", "unknown section [plam]"),
            ("deadline_s = 3", "stands outside any table"),
            ("[plan]\ndeadline_s = '20 s'", "a number without a unit"),
            ("[plan]\ndeadline_s = -1", "plan.deadline_s = -1"),
            ("[fleet]\ndevices = 0", "expected `int` >= 1"),
            ("[fleet]\ndevices = 2.5", "expected `int`"),
            ("[fleet]\nboards = []", "length >= 1"),
            ("[data]\nalpha = 0", "expected `float` > 0"),
            ("[data]\nalpha = -0.5", "expected `float` > 0"),
            ("[data]\nalpha = nan", "data.alpha"),
            ("[data]\nalpha = inf", "data.alpha"),
            ("[data]\npublic_fraction = 0.9", "leave no private samples"),
            ("[data]\nvalidation_fraction = 0", "expected `float` > 0"),
            ("[data]\nvalidation_fraction = 1", "expected `float` < 1"),
            (
                "[plan]\nerror_max = 0.01\ncurve_alpha = 2\ncurve_beta = 1\ncurve_delta0 = 0.02",
                "raise error_max",
            ),
            ("[plan]\ncurve_delta0 = 0.02", "are one curve"),
            ("[plan]\nbandwidth_hz = 20", "looks like kHz or MHz"),
            ("[rounds]\nmin_devices = 11", "above fleet.devices 10"),
            (
                "[training]\nsteps = 5\n[plan]\ntarget_accuracy = 0.9",
                "needs a cost for every sample",
            ),
            ("[generator]\nimages_max = 5", "is below plan.synthetic_max 500"),
            ("[fleet]\nboards = ['abacus']", "): unknown board; there are raspberry-pi-4"),
            ("[fleet]\nboards = ['minipc']", "did you mean 'mini-pc'?"),
            ("[run]\nstrategy = 'fimmi'", "did you mean 'fimi'?"),
            ("[data]\ndataset = 'cifar10'", "did you mean 'cifar-10'?"),
            ("[data]\npartition = 'dirchlet'", "did you mean 'dirichlet'?"),
            ("[training]\nmodel = 'resnet18'", "did you mean 'resnet-18'?"),
            ("[plan]\ninner = 'slow'", "no such name; there are fast, reference"),
            ("[run]\nstrategy = 'fedavg'", "run.strategy"),
            ("[run]\nname = '../up'", "run.name"),
            ("[run", "not TOML"),
            ("[run]\nseed = 1\nseed = 2", "not TOML"),
        ],
    )
    def test_one_sentence_says_where_and_what(self, tmp_path: Path, text: str, what: str) -> None:
        path = write(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            configuration.load(path)
        assert what in str(caught.value)
        assert str(path) in str(caught.value)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such file; 'fimi init' writes one"):
            configuration.load(tmp_path / "none.toml")

    def test_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "fimi.toml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="not TOML"):
            configuration.load(path)


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "key", "value"),
        [
            ("plan.deadline_s=20", "plan.deadline_s", 20),
            ("run.strategy=tfl", "run.strategy", "tfl"),
            ('run.strategy="tfl"', "run.strategy", "tfl"),
            ("fleet.boards=['mini-pc']", "fleet.boards", ["mini-pc"]),
        ],
    )
    def test_toml_or_a_bare_word(self, text: str, key: str, value: object) -> None:
        assert configuration.parse_setting(text) == (key, value)

    @pytest.mark.parametrize(
        "text", ["x", "x=1", "a.b.c=1", "plan.nothing=1", "nope.x=1", "=", "."]
    )
    def test_not_a_setting(self, text: str) -> None:
        with pytest.raises(ConfigError, match="--set"):
            configuration.parse_setting(text)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("run.name", "a/b", "at most 64 letters"),
        ("otlp.endpoint", "foo", "not of the form"),
        ("carbon.embodied_of", ["x"], "not of the form"),
    ],
)
def test_a_pattern_is_said_in_words(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configuration.load(None, {key: (value, "--set")})
    words = str(refused.value)
    assert said in words and key in words and "[A-Za-z0-9]" not in words and "regex" not in words
