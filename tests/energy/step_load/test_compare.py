from __future__ import annotations

import numpy as np
import pytest
from meters_under_load import edges_for, meter, readings

from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.compare import Pair, Tried, compare, line_through
from fimi.energy.step_load.fit import learn
from fimi.energy.step_load.load import Edges

CHIP = MeterResponse(delay_s=0.05, window_s=0.1, refresh_s=0.1)
PLUG = MeterResponse(delay_s=1.0, refresh_s=0.5)


class TestLine:
    def test_equal_errors_give_orthogonal_regression(self) -> None:
        random = np.random.default_rng(0)
        true_x = random.uniform(0.0, 10.0, 40)
        x = true_x + random.normal(0.0, 0.3, 40)
        y = 1.5 + 1.2 * true_x + random.normal(0.0, 0.3, 40)
        sd = np.full(40, 0.3)
        line = line_through(x, sd, y, sd)
        centred = np.stack([x - x.mean(), y - y.mean()])
        direction = np.linalg.svd(centred)[0][:, 0]
        assert line.slope == pytest.approx(direction[1] / direction[0], rel=1e-6)
        assert line.offset == pytest.approx(y.mean() - line.slope * x.mean(), rel=1e-6)

    def test_exchanging_both_inverts_it(self) -> None:
        random = np.random.default_rng(1)
        x = random.uniform(0.0, 10.0, 20)
        y = 2.0 + 0.8 * x + random.normal(0.0, 0.2, 20)
        x_sd, y_sd = random.uniform(0.05, 0.3, 20), random.uniform(0.05, 0.3, 20)
        one, other = line_through(x, x_sd, y, y_sd), line_through(y, y_sd, x, x_sd)
        assert one.slope * other.slope == pytest.approx(1.0, rel=1e-6)

    def test_stated_deviations_cover_the_truth(self) -> None:
        random = np.random.default_rng(2)
        off = []
        for _ in range(300):
            true_x = random.choice([3.0, 7.0], 16) + random.normal(0.0, 0.05, 16)
            sd = random.uniform(0.02, 0.2, (2, 16))
            x = true_x + sd[0] * random.normal(size=16)
            y = 0.3 + 1.06 * true_x + sd[1] * random.normal(size=16)
            line = line_through(x, sd[0], y, sd[1])
            off.append(((line.slope - 1.06) / line.slope_sd, (line.offset - 0.3) / line.offset_sd))
        assert np.mean(np.abs(off) <= 2.0) == pytest.approx(0.955, abs=0.03)


def tried(response: MeterResponse, edges: Edges, seed: int, **more: object) -> Tried:
    about = {
        key: more.pop(key) for key in ("source", "scope", "relative_uncertainty") if key in more
    }
    shown = readings(response, edges, seed, **more)  # type: ignore[arg-type]
    described = meter(response, **{"relative_uncertainty": 0.005, **about})
    learned = learn(edges, shown, described)
    return Tried(meter=described, learned=learned, problem="", readings=tuple(shown))


def both(one: dict[str, object], other: dict[str, object]) -> Pair:
    edges = edges_for(PLUG)
    first = tried(CHIP, edges, 1, **{"source": "chip", **one})
    second = tried(PLUG, edges, 2, **{"source": "plug", **other})
    (pair,) = compare(edges, [first, second])
    return pair


def test_meters_that_agree() -> None:
    pair = both({}, {})
    assert pair.verdict == "agree within their uncertainties"
    assert pair.gain == pytest.approx(1.0, abs=0.02)
    assert pair.later_s == pytest.approx(PLUG.lag_s - CHIP.lag_s, abs=0.1)


def test_a_plug_that_reads_more() -> None:
    pair = both({}, {"idle_w": 3.0 * 1.06, "step_w": 4.0 * 1.06})
    assert pair.gain is not None
    assert pair.gain_sd is not None
    assert abs(pair.gain - 1.06) < 3.0 * pair.gain_sd + 0.005
    assert "plug reads" in pair.verdict
    assert "% more" in pair.verdict


def test_wall_beside_module() -> None:
    pair = both({"scope": "module"}, {"scope": "wall", "idle_w": 5.0, "step_w": 4.6})
    assert pair.verdict.startswith("scopes differ (module, wall)")
    assert "larger" in pair.verdict
    assert "at all times" in pair.verdict


def test_an_offset_alone() -> None:
    pair = both({}, {"idle_w": 4.0})
    assert pair.offset_w == pytest.approx(1.0, abs=0.15)
    assert "1 ±" in pair.verdict or "W more at all times" in pair.verdict


def test_what_cannot_be_compared() -> None:
    assert both({"scope": "cpu"}, {"scope": "gpu"}).verdict.startswith("cannot be compared: scopes")
    edges = edges_for(PLUG)
    first = tried(CHIP, edges, 1)
    blind = Tried(meter=first.meter, learned=None, problem="it says nothing", readings=())
    (pair,) = compare(edges, [first, blind])
    assert "it says nothing" in pair.verdict
    assert pair.gain is None
