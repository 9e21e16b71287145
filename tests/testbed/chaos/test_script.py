"""Scripts: what they say, when it happens, and what is wrong with them."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.testbed.chaos.faults import Cut, Kill
from fimi.testbed.chaos.script import (
    EXAMPLE,
    ProcessPart,
    ProxyPart,
    Script,
    ScriptError,
    needs,
    parse_script,
    timeline,
    with_seed,
)

PROXY = '[proxy.wifi]\nbroker = "127.0.0.1:1883"\n'
CUT = PROXY + '[[fault]]\nkind = "cut"\nproxy = "wifi"\n'
PROCESS = '[process.a]\ncommand = "sleep 9"\n'


def test_the_example_has_every_kind_and_can_be_read():
    script = parse_script(EXAMPLE, "example")
    kinds = {type(each).__struct_config__.tag for each in script.fault}
    commented = {line.split('"')[1] for line in EXAMPLE.splitlines() if line.startswith("# kind")}
    assert kinds | commented == {
        "cut", "half-open", "freeze", "slow", "delay", "messages", "kill", "stop", "file-limit",
        "full-disk", "clock",
    }  # fmt: skip
    whole = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [[", "# kind", "# proc", "# at", "# for",
                                                    "# jump", "# own", "# disk")) else line
        for line in EXAMPLE.splitlines()
    )  # fmt: skip
    assert len(parse_script(whole, "whole").fault) == len(script.fault) + 2
    assert needs(script, "wifi") == (True, True)
    assert needs(parse_script(PROXY, "x"), "wifi") == (False, False)


@given(
    seed=st.integers(0, 2**53),
    rates=st.lists(st.floats(1.0, 600.0), min_size=1, max_size=4),
    every=st.floats(0.5, 5.0),
)
def test_a_seed_gives_one_timeline_in_the_order_of_time(seed, rates, every):
    faults = [Kill(process="a", per_minute=rate, for_s=(0.5, 2.0), until_s=60.0) for rate in rates]
    script = Script(
        seed=seed,
        proxy={"wifi": ProxyPart(broker="b:1")},
        process={"a": ProcessPart(command="sleep 9")},
        fault=(*faults, Cut(proxy="wifi", every_s=every, from_s=10.0, until_s=60.0)),
    )
    found = list(timeline(script))
    assert found == list(timeline(script))
    assert found == sorted(found, key=lambda each: each.at_s)
    cuts = [each.at_s for each in found if each.index == len(rates)]
    assert cuts == pytest.approx([10.0 + every * n for n in range(1, int(50.0 / every) + 1)])
    assert all(0.5 <= each.for_s <= 2.0 for each in found if each.for_s is not None)
    assert max((each.at_s for each in found), default=0.0) <= 60.0
    if len(found) > len(cuts):
        assert list(timeline(with_seed(script, seed ^ 1))) != found


def test_random_faults_come_as_often_as_they_say():
    """Mean and spread of 4,000 gaps between events of a Poisson process with 30 a minute."""
    script = Script(process={"a": ProcessPart(pid=9)}, fault=(Kill(process="a", per_minute=30.0),))
    times = [each.at_s for each in itertools.islice(timeline(script), 4001)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(2.0, rel=0.08)
    assert statistics.stdev(gaps) == pytest.approx(2.0, rel=0.08)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = [", "no TOML"),
        ("sede = 1", "sede"),
        ('[[fault]]\nkind = "explode"', "explode"),
        (CUT, "none is given"),
        (CUT + 'at_s=1.0\nevery_s=1.0', "at_s and every_s"),
        (PROXY + '[[fault]]\nkind = "cut"\nproxy = "wify"\nat_s=1.0', "did you mean 'wifi'"),
        (PROXY + '[[fault]]\nkind = "slow"\nproxy = "wifi"\nat_s=1.0', "up_bps, down_bps"),
        (CUT + 'at_s=1.0\nfor_s=[2.0, 1.0]', "smaller one"),
        (CUT + 'at_s=1.0\nfor_s=-1.0', "0 s or longer"),
        ('[[fault]]\nkind = "kill"\nprocess = "a"\nat_s=1.0', "the script has none"),
        (PROCESS + '[[fault]]\nkind = "full-disk"\nprocess = "a"\nat_s=1.0', "disk = {folder"),
        (PROCESS + '[[fault]]\nkind = "clock"\nprocess = "a"\nat_s=1.0\njump_s=1.0', "own_clock"),
        ("[process.a]\npid = 1234\nown_clock = true", "give its command"),
        ('[process.a]\npid = 12\n[[fault]]\nkind="kill"\nprocess="a"\nat_s=1.0\nfor_s=1', "again"),
        ('[process.a]\ncommand = "x"\npid = 12', "one of command, pid and pid_file"),
        ('[process.a]\ncommand = "x"\nthrough = "wifi"', "no proxy 'wifi'"),
        ("[process.a]\ncommand = \"x 'y\"", "quotes"),
        ("[proxy.wifi]\nup = {rate_bps = 0.0}", "rate_bps"),
    ],
)  # fmt: skip
def test_an_error_says_what_is_wrong_and_where(text, said):
    with pytest.raises(ScriptError) as error:
        parse_script(text, "bad.toml")
    assert said in str(error.value) and str(error.value).startswith("bad.toml")


@given(st.binary(max_size=200))
def test_a_damaged_script_is_refused_with_a_sentence(data):
    text = EXAMPLE[: len(data) * 9] + data.decode("latin-1")
    try:
        parse_script(text, "bad.toml")
    except ScriptError as error:
        assert str(error).startswith("bad.toml")
