"""Which updates go into the model, and how far; with real updates in a store, and in whole runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import Lab, statuses
from scripted import MODEL, Behaviour, ScriptedDevice, honest, sends, tampered

from fimi.coordinator.federation import FederationError
from fimi.coordinator.rounds import RoundOutcome
from fimi.coordinator.screening import FLOOR, Screening, Usual, left_out
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.training import tensors
from fimi.learning.training.aggregation import mean
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.orders import RoundStart
from fimi.monitor.sentences import describe, is_problem
from fimi.record.events import DeviceSetAside, Event, ModelKept, UpdateClipped, UpdateRejected
from fimi.record.reader import read_run
from fimi.record.results import DeviceRound, RoundResult
from fimi.record.summary import summarise
from fimi.report.document import document
from fimi.report.screened import lines, notices

SIZE = sum(tensor.size for tensor in MODEL.values())
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
norms_of_many = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=9)


class TestUsual:
    @given(norms_of_many, st.data())
    def test_a_minority_cannot_move_it_beyond_the_others(
        self, norms: list[float], data: st.DataObject
    ) -> None:
        wrong = (len(norms) - 1) // 2
        others = data.draw(
            st.lists(st.sampled_from([0.0, 1e-9, 1e9, 1e45]), min_size=wrong, max_size=wrong)
        )
        usual = Usual().of([*norms[wrong:], *others])
        assert usual is not None
        assert min(norms[wrong:]) <= usual <= max(norms[wrong:])

    def test_of_four_two_large_ones_do_not_make_it_large(self) -> None:
        assert Usual().of([1.0, 2.0, 1e9, 1e9]) == 2.0

    def test_one_or_two_are_compared_with_what_went_before(self) -> None:
        usual = Usual()
        assert usual.of([5.0, 1e9]) is None
        usual.learn([5.0, 6.0], [5.0, 6.0])
        assert usual.of([1e9]) == 6.0
        usual.learn([1e9], [])  # it was clipped
        assert usual.of([1e9]) == 6.0

    def test_where_most_have_converged_the_rest_is_not_far(self) -> None:
        usual = Usual()
        usual.learn([4.0, 4.0, 4.0], [4.0] * 3)
        assert usual.of([0.001, 0.001, 4.0]) == FLOOR * 4.0
        usual.learn([0.001, 0.001, 4.0], [])
        assert usual.of([0.001, 0.001, 4.0]) == FLOOR * 4.0

    def test_nothing_is_usual_where_most_change_nothing(self) -> None:
        assert Usual().of([0.0, 0.0, 1.0]) is None


def outcome(
    folder: Path, values: Mapping[str, float], settings: RoundSettings
) -> tuple[RoundOutcome, UpdateStore, list[Event]]:
    """A round of devices whose updates move every number by the same."""
    spool, events = UpdateStore(folder), list[Event]()
    for device, value in values.items():
        moved = {n: (t + np.float32(value)).astype("f4") for n, t in MODEL.items()}
        spool.take(device, tensors.dump(moved), MODEL)
    found = RoundOutcome(
        duration_s=1.0,
        updates=Updates(spool, tuple(values), MODEL),
        weights=[1.0] * len(values),
        devices={d: DeviceRound(device=d, status="accepted") for d in values},
    )
    Screening(settings, events.append).screen(1, found, spool)
    return found, spool, events


class TestScreening:
    @given(
        values=st.lists(
            st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=3, max_size=8
        )
    )
    def test_what_goes_on_is_no_larger_than_it_may_be(
        self, tmp_path_factory: pytest.TempPathFactory, values: list[float]
    ) -> None:
        settings = RoundSettings(clip_factor=3.0, clip_to=2.0, refuse_factor=100.0)
        named = {f"d{i}": value for i, value in enumerate(values)}
        found, spool, events = outcome(tmp_path_factory.mktemp("s"), named, settings)
        norms = {device: spool.norm(device) for device in named}
        usual = sorted(norms.values())[(len(norms) - 1) // 2]
        went = dict(zip(found.updates.devices, found.updates.slices, strict=True))
        for device, norm in norms.items():
            entry = found.devices[device]
            assert entry.update_norm == norm
            if usual and norm > 100 * usual:
                assert (entry.status, entry.update_scale) == ("refused", None)
                assert device not in went
                continue
            model = {n: went[device].read(n, 0, t.size) for n, t in MODEL.items()}
            change = math.sqrt(sum(float((t.astype(float) ** 2).sum()) for t in model.values()))
            if usual and norm > 3 * usual:
                assert entry.is_clipped
                assert change == pytest.approx(2 * usual, rel=1e-5)
                assert "rounds.clip_factor is 3" in entry.reason
            else:
                assert (entry.update_scale, entry.reason) == (1.0, "")
                assert change == pytest.approx(norm, rel=1e-6)
        assert len(found.weights) == len(went)
        named_in = [each.device for each in events]  # type: ignore[attr-defined]
        assert sorted(named_in) == sorted(set(named) - {d for d in went if d not in named_in})

    def test_undisturbed_updates_go_on_bit_by_bit(self, tmp_path: Path) -> None:
        values = {"a": 0.3, "b": -2.0, "c": 3.0}
        found, _, events = outcome(tmp_path, values, RoundSettings())
        assert events == []
        new = mean(MODEL, found.updates.slices, found.weights)
        plain = sum(np.float64(np.float32(1 / 3) * np.float32(v)) for v in values.values())
        assert (new["w"] == np.float32(plain)).all()

    def test_factors_of_zero_leave_everything(self, tmp_path: Path) -> None:
        off = RoundSettings(clip_factor=0.0, refuse_factor=0.0)
        found, _, events = outcome(tmp_path, {"a": 1.0, "b": 1.0, "c": 3e38}, off)
        assert events == []
        assert found.devices["c"].update_scale == 1.0


def result(number: int, **entries: tuple[str, float | None]) -> RoundResult:
    return RoundResult(
        number=number,
        start_s=0.0,
        duration_s=1.0,
        evaluation=None,  # type: ignore[arg-type]
        devices=tuple(
            DeviceRound(device=d, status=status, update_norm=1.0, update_scale=scale)  # type: ignore[arg-type]
            for d, (status, scale) in entries.items()
        ),
    )


class TestSettingAside:
    BAD = (("refused", None), ("accepted", 0.1))

    @given(st.lists(st.sampled_from(["good", "bad", "away"]), max_size=12), st.integers(0, 4))
    def test_by_how_often_in_a_row(self, story: list[str], most: int) -> None:
        events: list[Event] = []
        told = {"good": ("accepted", 1.0), "bad": ("refused", None), "away": ("missing", None)}
        results = [result(n, d=told[each]) for n, each in enumerate(story, 1)]
        screening = Screening(RoundSettings(set_aside_after=most), events.append)
        for each in results:
            screening.stored(each)
        in_a_row = 0
        for each in (e for e in story if e != "away"):
            in_a_row = in_a_row + 1 if each == "bad" else 0
        expected = {"d"} if most and in_a_row >= most else set()
        assert screening.set_aside == expected
        resumed = Screening(RoundSettings(set_aside_after=most), events.append, results)
        assert resumed.set_aside == expected

    def test_clipped_ones_count_and_it_is_said_once(self) -> None:
        events: list[Event] = []
        screening = Screening(RoundSettings(set_aside_after=2), events.append)
        for number, told in enumerate((*self.BAD, self.BAD[0]), 1):
            screening.stored(result(number, d=told, e=("accepted", 1.0)))
        assert [type(each) for each in events] == [DeviceSetAside]
        assert (events[0].round, events[0].device) == (2, "d")  # type: ignore[attr-defined]

    def test_words(self) -> None:
        assert left_out(()) == ""
        assert left_out({"b", "a"}).startswith(" (a, b are set aside")


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def times(factor: float) -> Behaviour:
    """Sends the weights times a factor, less one where they are zero."""

    def behave(device: ScriptedDevice, start: RoundStart) -> None:
        model = tensors.load(device.peer.transfers.fetch(start.model, 5.0))
        turned = {n: np.float32(factor) * t - np.float32(1e4) for n, t in model.items()}
        device.offer(start, tensors.dump(turned))
        device.report(start)

    return behave


def huge(device: ScriptedDevice, start: RoundStart) -> None:
    """Sends 3e38 for all weights; other bytes each round, as those are that somebody trained."""
    model = {n: np.full_like(t, 3e38 - 1e36 * start.round) for n, t in MODEL.items()}
    sends(tampered(**model))(device, start)


def steady(device: ScriptedDevice, start: RoundStart) -> None:
    """Sends the global model and about 1, a little more in each round."""
    honest(1.0 + start.round / 1024)(device, start)


class TestAttacks:
    """One device of four; without it the model grows by 1 a round."""

    @pytest.mark.parametrize("kind", ["mean", "median", "trimmed-mean", "krum"])
    def test_a_huge_update_is_refused_named_and_its_device_set_aside(
        self, lab: Lab, kind: str
    ) -> None:
        federation = lab.run(
            honest(1.0), huge, honest(1.0), honest(1.0), rounds=4, aggregating={"aggregation": kind}
        )
        assert federation.status == "completed"
        np.testing.assert_allclose(federation.model["w"], 4.0, rtol=1e-6)
        assert [statuses(federation, n)["device-2"] for n in (1, 2, 3)] == ["refused"] * 3
        assert statuses(federation, 4)["device-2"] == "resting"
        closed = {c.round: c.accepted for c in lab.devices[1].closed}
        assert closed == {1: False, 2: False, 3: False, 4: False}
        rejected = lab.said(UpdateRejected)
        assert [e.device for e in rejected] == ["device-2"] * 3  # type: ignore[attr-defined]
        assert "times the usual one; rounds.refuse_factor is 1000" in describe(rejected[0])
        (aside,) = lab.said(DeviceSetAside)
        assert is_problem(aside)
        assert describe(aside).startswith("device-2 is set aside and trains no more")
        run = read_run(lab.path)
        summary = summarise(run)
        assert [e.device for e in run.set_aside] == ["device-2"]
        assert document(run, summary).set_aside == {"device-2": 3}
        assert ("set aside", f"device-2: after round 3, {aside.reason}") in lines(run)  # type: ignore[attr-defined]
        assert [title for title, _ in notices(run)] == ["Devices were set aside. "]

    def test_a_turned_model_is_clipped_to_the_usual_change(self, lab: Lab) -> None:
        far = {"refuse_factor": 0.0, "set_aside_after": 0}
        federation = lab.run(
            honest(1.0), times(-20.0), honest(1.0), honest(1.0), rounds=2, aggregating=far
        )
        assert federation.status == "completed"
        # three go up by 1, one goes down by a change of the same norm
        np.testing.assert_allclose(federation.model["w"], 2 * (3 - 1) / 4, rtol=1e-5)
        clipped = lab.said(UpdateClipped)
        assert [e.device for e in clipped] == ["device-2"] * 2  # type: ignore[attr-defined]
        assert "clipped to 0.01 % of its change" in describe(clipped[0])
        entry = {d.device: d for d in federation.rounds[0].devices}["device-2"]
        assert entry.status == "accepted"
        assert entry.share == 0.25
        assert entry.update_norm == pytest.approx(1e4 * math.sqrt(SIZE))
        assert entry.update_scale == pytest.approx(1e-4)
        run = read_run(lab.path)
        assert run.rounds == federation.rounds
        assert document(run, summarise(run)).clipped == {"device-2": (1, 2)}
        (said,) = lines(run)
        assert said[0] == "clipped"
        assert said[1].startswith("device-2: 2 of 2 updates; last in round 2, to 0.00999 %")

    def test_alone_against_one_a_huge_update_gives_no_model_and_the_run_says_so(
        self, lab: Lab
    ) -> None:
        """Two devices have no majority: what is left is that the model is not usable."""
        behaviours = [steady, huge]
        with pytest.raises(FederationError, match="3 rounds in a row gave no usable model"):
            lab.run(*behaviours, rounds=5)
        why = "the loss of the model that came of it is not finite"
        kept = lab.said(ModelKept)
        assert [e.round for e in kept] == [1, 2, 3]  # type: ignore[attr-defined]
        assert "the model before it stays: the loss of" in describe(kept[0])
        run = read_run(lab.path)
        assert run.info.status == "failed"
        assert "no usable model" in run.info.reason
        assert [r.evaluation.accuracy for r in run.rounds] == [0.0] * 3  # the first model's
        assert {d.share for r in run.rounds for d in r.devices} == {None}
        assert all((model["w"] == 0.0).all() for model in lab.models)
        assert document(run, summarise(run)).model_kept == dict.fromkeys((1, 2, 3), why)
        assert [term for term, _ in lines(run)] == ["no new model"]

    def test_after_a_spoilt_round_the_run_goes_on_with_the_last_good_model(self, lab: Lab) -> None:
        def once(device: ScriptedDevice, start: RoundStart) -> None:
            (huge if start.round == 1 else honest(1.0))(device, start)

        federation = lab.run(honest(1.0), once, rounds=3)
        assert federation.status == "completed"
        assert [r.model_kept is None for r in federation.rounds] == [False, True, True]
        np.testing.assert_allclose(federation.model["w"], 2.0)
        assert federation.reason == "3 rounds, 1 of them without a new model"
        assert lab.devices[0].ended[0].reason == federation.reason

    def test_a_run_that_never_got_a_model_does_not_end_as_completed(self, lab: Lab) -> None:
        with pytest.raises(FederationError, match="not one usable model came of 2 rounds"):
            lab.run(steady, huge, rounds=2)
        assert read_run(lab.path).info.status == "failed"

    def test_two_devices_are_compared_with_what_went_before(self, lab: Lab) -> None:
        def later(device: ScriptedDevice, start: RoundStart) -> None:
            (huge if start.round == 2 else honest(1.0))(device, start)

        federation = lab.run(honest(1.0), later, rounds=3)
        assert [statuses(federation, n)["device-2"] for n in (1, 2, 3)] == [
            "accepted",
            "refused",
            "accepted",
        ]
        np.testing.assert_allclose(federation.model["w"], 3.0)

    def test_idle_updates_do_not_make_honest_ones_far(self, lab: Lab) -> None:
        """All zero changes of one of four; and of two of four, which is no majority either way."""
        federation = lab.run(honest(1.0), honest(0.0), honest(1.0), honest(0.0), rounds=2)
        assert all(set(statuses(federation, n).values()) == {"accepted"} for n in (1, 2))
        np.testing.assert_allclose(federation.model["w"], 1.0)
        assert not lab.said(UpdateClipped)

    def test_a_run_whose_devices_are_all_set_aside_ends_with_that_reason(self, lab: Lab) -> None:
        nan = sends(tampered(b=np.array([math.nan, 0.0], np.float32)))
        with pytest.raises(FederationError, match=r"device-1, device-2 are set aside"):
            lab.run(nan, nan, rounds=4, gather_timeout_s=0.5, aggregating={"set_aside_after": 1})
