from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import ACTIVE_W, CYCLES, FREQUENCIES, IDLE_W, KAPPA, busy, idle, sweep
from msgspec.structs import replace

from fimi.energy.calibration.fit import (
    LEAKAGE_DOUBLING_K,
    FitError,
    Law,
    Setting,
    cycles_trend,
    fit_cycles,
    fit_power,
)
from fimi.energy.calibration.radio_fit import fit_radio, fit_receive
from fimi.energy.cost_model import ComputeSetting

LAWS: tuple[Law, ...] = ("mixed", "cubic", "voltage")


class TestPower:
    def test_exact_readings_give_the_exact_parameters(self) -> None:
        fit = fit_power(sweep())
        assert fit.idle_w.value == pytest.approx(IDLE_W)
        assert fit.active_w.value == pytest.approx(ACTIVE_W)
        assert fit.slope.value == pytest.approx(KAPPA, rel=1e-6, abs=0)
        assert fit.residual_percent < 1e-6

    @settings(max_examples=40, deadline=None)
    @given(
        st.floats(0.5, 20.0), st.floats(0.0, 5.0), st.floats(1e-28, 2e-27), st.integers(0, 10**6)
    )
    def test_any_board_is_recovered(
        self, idle_w: float, active_w: float, kappa: float, seed: int
    ) -> None:
        made = [idle(idle_w), idle(idle_w)]
        made += [busy(f, idle_w + active_w + kappa * f**3) for f in FREQUENCIES]
        fit = fit_power(made)
        assert fit.idle_w.value == pytest.approx(idle_w, rel=1e-6)
        assert fit.active_w.value == pytest.approx(active_w, abs=1e-6 * idle_w)
        assert fit.slope.value == pytest.approx(kappa, rel=1e-5, abs=0)

    def test_intervals_hold_the_truth_as_often_as_they_say(self) -> None:
        inside = np.zeros(3)
        for seed in range(400):
            fit = fit_power(sweep(0.01, seed))
            truths = (IDLE_W, ACTIVE_W, KAPPA)
            for k, (found, truth) in enumerate(
                zip((fit.idle_w, fit.active_w, fit.slope), truths, strict=True)
            ):
                inside[k] += found.low <= truth <= found.high
        assert inside / 400 == pytest.approx(np.full(3, 0.95), abs=0.035)

    def test_nothing_falls_below_zero(self) -> None:
        for seed in range(50):
            fit = fit_power(sweep(0.05, seed, active_w=0.0))
            assert fit.active_w.value >= 0.0
            assert fit.active_w.low >= 0.0
            assert fit.slope.value > 0.0

    def test_voltage_law(self) -> None:
        capacitance = 2.5e-9
        made = [idle(), idle()]
        for f in FREQUENCIES:
            volts = 0.6 + 2e-10 * f
            made.append(busy(f, IDLE_W + ACTIVE_W + capacitance * volts**2 * f))
        fit = fit_power(made, "voltage")
        assert fit.slope.value == pytest.approx(capacitance, rel=1e-6, abs=0)
        assert fit.residual_percent < 0.1 * fit_power(made).residual_percent

    def test_leakage_beside_the_voltage_law(self) -> None:
        """Exact readings at two temperatures of every frequency give every parameter back."""
        capacitance, leakage_a = 2.5e-9, 0.3

        def leaks_w(volts: float, celsius: float) -> float:
            return leakage_a * volts * 2.0 ** ((celsius - 45.0) / LEAKAGE_DOUBLING_K)

        floor_v = 0.6 + 2e-10 * min(FREQUENCIES)
        made = [
            replace(idle(IDLE_W + leaks_w(floor_v, celsius)), temperature_c=celsius)
            for celsius in (40.0, 60.0)
        ]
        for f in FREQUENCIES:
            volts = 0.6 + 2e-10 * f
            for celsius in (45.0 + 1e-8 * f, 60.0):
                power_w = IDLE_W + ACTIVE_W + capacitance * volts**2 * f + leaks_w(volts, celsius)
                made.append(replace(busy(f, power_w), temperature_c=celsius))
        fit = fit_power(made, "voltage")
        assert fit.leakage_a is not None
        assert fit.leakage_a.value == pytest.approx(leakage_a, rel=1e-6, abs=0)
        assert fit.slope.value == pytest.approx(capacitance, rel=1e-6, abs=0)
        assert fit.idle_w.value == pytest.approx(IDLE_W)
        assert fit.power_w(made[-1]) == pytest.approx(made[-1].power_w)
        with pytest.raises(FitError, match="temperature"):
            fit.busy_power_w(1e9, 0.8)
        assert fit_power(made).leakage_a is None, "κ f³ knows of no leakage"

    @pytest.mark.parametrize("spread_k", [None, 2.0])
    def test_no_leakage_without_different_temperatures(self, spread_k: float | None) -> None:
        made = [
            replace(s, temperature_c=None if spread_k is None else 50.0 + spread_k * (k % 2))
            for k, s in enumerate(sweep())
        ]
        assert fit_power(made, "voltage").leakage_a is None

    @pytest.mark.parametrize(
        ("made", "says"),
        [
            ([busy(f, 5.0) for f in FREQUENCIES], "at rest"),
            ([idle(), busy(6e8, 4.0), busy(9e8, 5.0)], "2 frequencies"),
            ([idle(0.0), *(busy(f, 5.0) for f in FREQUENCIES)], "did not read"),
        ],
    )
    def test_what_cannot_be_fitted_says_why(self, made: list[Setting], says: str) -> None:
        with pytest.raises(FitError, match=says):
            fit_power(made)

    def test_unknown_voltages_are_not_guessed(self) -> None:
        made = [
            idle(),
            *(
                Setting(activity="compute", frequency_hz=f, duration_s=1.0, energy_j=5.0)
                for f in FREQUENCIES
            ),
        ]
        with pytest.raises(FitError, match="voltage"):
            fit_power(made, "voltage")


# Voltages of Linux' rk3399-opp.dtsi, MHz and V.
A72 = (
    *((408, 0.8), (600, 0.8), (816, 0.825), (1008, 0.875)),
    *((1200, 0.95), (1416, 1.025), (1608, 1.1), (1800, 1.2)),
)


class TestLinearTerm:
    @settings(max_examples=40, deadline=None)
    @given(
        st.floats(0.5, 20.0),
        st.floats(0.0, 5.0),
        st.floats(0.0, 2e-9),
        st.floats(1e-29, 2e-27),
    )
    def test_any_law_is_recovered(
        self, idle_w: float, active_w: float, linear: float, kappa: float
    ) -> None:
        def power_w(hertz: float) -> float:
            return idle_w + active_w + linear * hertz + kappa * hertz**3

        made = [idle(idle_w), idle(idle_w), *(busy(f, power_w(f)) for f in FREQUENCIES)]
        fit = fit_power(made, "mixed")
        assert fit.linear_w_per_hz is not None
        largest = power_w(max(FREQUENCIES))
        assert fit.idle_w.value == pytest.approx(idle_w, rel=1e-6)
        assert fit.active_w.value == pytest.approx(active_w, abs=1e-5 * largest)
        assert fit.linear_w_per_hz.value * 1e9 == pytest.approx(linear * 1e9, abs=1e-5 * largest)
        assert fit.slope.value == pytest.approx(kappa, abs=1e-32 * largest)
        assert fit.busy_power_w(1.3e9) == pytest.approx(power_w(1.3e9), rel=1e-6)

    def test_a_real_table_of_voltages(self) -> None:
        """V² f of a chip is fitted by the linear term within 1 %, without it at 7 %."""
        made = [idle(), idle()]
        made += [busy(1e6 * mhz, IDLE_W + 2e-3 * volts**2 * mhz) for mhz, volts in A72]

        def mean_error(law: Law) -> float:
            fit = fit_power(made, law)
            above = [
                (fit.power_w(s) - IDLE_W) / (s.power_w - IDLE_W) - 1.0
                for s in made
                if s.activity == "compute"
            ]
            return float(np.mean(np.abs(above)))

        assert mean_error("mixed") < 0.035
        assert mean_error("mixed") < 0.3 * mean_error("cubic")

    def test_intervals_hold_the_truth_as_often_as_they_say(self) -> None:
        linear = 0.8e-9
        truths = np.array([IDLE_W, ACTIVE_W, linear, KAPPA])
        inside = np.zeros(4)
        for seed in range(300):
            luck = np.random.default_rng(seed)
            made = [idle(IDLE_W * (1.0 + 0.003 * luck.normal())) for _ in range(8)]
            for f in FREQUENCIES * 4:
                power_w = IDLE_W + ACTIVE_W + linear * f + KAPPA * f**3
                made.append(busy(f, power_w * (1.0 + 0.003 * luck.normal())))
            fit = fit_power(made, "mixed")
            assert fit.linear_w_per_hz is not None
            found = (fit.idle_w, fit.active_w, fit.linear_w_per_hz, fit.slope)
            inside += [e.low <= truth <= e.high for e, truth in zip(found, truths, strict=True)]
        assert inside / 300 == pytest.approx(np.full(4, 0.95), abs=0.04)

    def test_never_below_zero_where_power_is_concave(self) -> None:
        made = [idle(), idle(), *(busy(f, IDLE_W + (f / 1e9) ** 0.5) for f in FREQUENCIES)]
        fit = fit_power(made, "mixed")
        assert fit.linear_w_per_hz is not None
        for estimate in (fit.active_w, fit.linear_w_per_hz, fit.slope):
            assert estimate.low >= 0.0


class TestAlongFrequency:
    def test_only_the_clock_of_the_cpu_makes_a_law(self) -> None:
        made = sweep()
        other = replace(busy(1e9, 50.0), applied=ComputeSetting(cpu_hz={"all": 1e9}, cores=1))
        named = [replace(s, applied=ComputeSetting(cpu_hz={"all": s.frequency_hz})) for s in made]
        for law in LAWS:
            assert fit_power([*named, other], law) == fit_power(made, law)
        assert fit_cycles([*named, other]) == fit_cycles(made)


class TestCycles:
    def test_time_and_frequency_give_cycles(self) -> None:
        found = fit_cycles(sweep())
        assert found.value == pytest.approx(CYCLES)
        assert found.low <= CYCLES * (1 + 1e-12)
        assert found.high >= CYCLES * (1 - 1e-12)

    def test_memory_bound_work_shows_as_a_trend(self) -> None:
        bound = [busy(f, 5.0, CYCLES * (1.0 + 0.3 * f / 1.8e9)) for f in FREQUENCIES]
        assert cycles_trend(bound) == pytest.approx(0.175, abs=0.02)
        assert abs(cycles_trend(sweep())) < 1e-9

    def test_one_setting_is_not_enough(self) -> None:
        with pytest.raises(FitError, match="two"):
            fit_cycles([busy(1e9, 5.0)])


class TestRadio:
    def sent(self, rate_bps: float, power_w: float) -> Setting:
        return Setting(
            activity="send",
            frequency_hz=6e8,
            duration_s=5.0,
            energy_j=5.0 * power_w,
            bits=5.0 * rate_bps,
            transmit_power_w=0.1,
        )

    def test_electronics_and_joules_per_bit(self) -> None:
        made = [self.sent(r, IDLE_W + 0.1 + 0.35 + 6e-9 * r) for r in (1e6, 5e6, 2e7)]
        fit = fit_radio(made, IDLE_W)
        assert fit.electronics_w.value == pytest.approx(0.35)
        assert fit.energy_per_bit_j.value == pytest.approx(6e-9, rel=1e-6, abs=0)
        assert fit.rate_bps == 2e7

    def test_one_rate_does_not_tell_them_apart(self) -> None:
        with pytest.raises(FitError, match="differ by a fifth"):
            fit_radio([self.sent(1e6, 4.0)] * 4, IDLE_W)

    def test_receiving(self) -> None:
        made = [
            Setting(activity="receive", frequency_hz=6e8, duration_s=2.0, energy_j=2 * power_w)
            for power_w in (2.98, 3.02)
        ]
        assert fit_receive(made, IDLE_W).value == pytest.approx(0.3)
        with pytest.raises(FitError, match="two"):
            fit_receive(made[:1], IDLE_W)
