"""No plan in a corner that no radio has.

A CIFAR-10 fleet with a deadline of 900 s: without watts while sending, the least transmit energy is
that of an upload which fills the deadline, at microwatts and some kbit/s. Boards draw their
electronics for all of that time.
"""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from fimi.energy.cost_model import BoardModel, point_rate_bps, predict_round
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import BoardDeclaration, RadioKind, fleet
from fimi.energy.emulation.physical_board import PhysicalBoard, Surroundings
from fimi.energy.ledger import Ledger
from fimi.optim.board_problem import from_boards
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import DeviceShare, plan
from fimi.optim.problem import FimiProblem, Objective

DEADLINE_S = 900.0
BITS = 8.0 * 545_000
"""Update of the small network on 3 × 32 × 32 pixels."""
CYCLES = 6.1e7
EPOCHS = 5
MAKES = ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "raspberry-pi-4", "mini-pc")
EXACT = Disturbance(profile_error=0.0, load_sd=0.0, fading_sd_db=0.0)
QUIET = Surroundings(background=0.0, relative_noise=0.0, dropped=0.0)
OBJECTIVES: tuple[Objective, ...] = ("dynamic", "board")


def declared(radio: RadioKind = "wifi") -> dict[str, BoardDeclaration]:
    boards = fleet(10, 0, boards=MAKES, cycles_per_sample=CYCLES, radio=radio)
    return {f"device-{number:02}": board for number, board in enumerate(boards, 1)}


def cifar(boards: dict[str, BoardModel], objective: Objective) -> FimiProblem:
    counts = np.random.default_rng(0).multinomial(600, np.full(10, 0.1), size=len(boards))
    return from_boards(
        boards,
        local_counts=dict(zip(boards, counts.tolist(), strict=True)),
        epochs=EPOCHS,
        deadline_s=DEADLINE_S,
        upload_bits=BITS,
        download_bits=BITS,
        bandwidth_hz=20e3 * len(boards),
        generated_max=200.0,
        error_max=0.3,
        curve=LearningCurve(alpha=5.8, beta=0.5, delta0=0.05),
        objective=objective,
        rounds=20.0,
    )


def metered(
    declaration: BoardDeclaration, share: DeviceShare, index: int, *, physical: bool
) -> tuple[float, float]:
    """Seconds of the upload, and joules above idle of training and upload, of a true board."""
    board: VirtualBoard = EmulatedBoard(declaration, seed=0, index=index, disturbance=EXACT)
    if physical:
        board = PhysicalBoard(
            declaration, seed=0, index=index, disturbance=EXACT, surroundings=QUIET
        )
    board.apply(share.point)
    ledger = Ledger(board.clock, board.recorder)
    with ledger.phase("compute"):
        board.has_computed(EPOCHS * share.samples)
    began_s, before_j = board.clock.now_s(), board.recorder.true_energy_j
    with ledger.phase("upload"):
        board.has_sent(round(BITS / 8))
    ended_s = board.clock.now_s()
    joules = board.recorder.true_energy_j - ended_s * board.truth.idle_power_w
    assert before_j > 0.0
    return ended_s - began_s, joules


@pytest.mark.parametrize("objective", OBJECTIVES)
class TestWifi:
    def test_sends_as_a_radio_can(self, objective: Objective) -> None:
        boards = declared()
        models = {device: board.model for device, board in boards.items()}
        found = plan(cifar(models, objective), seed=0)
        for share in found.devices:
            link = models[share.device].link
            assert share.point.transmit_power_w == pytest.approx(link.transmit_power_max_w)
            rate_bps = point_rate_bps(link, share.point)
            assert rate_bps > 50e3
            assert share.upload_s == pytest.approx(BITS / rate_bps, rel=1e-6)
            assert share.upload_s < 0.1 * DEADLINE_S

    @pytest.mark.parametrize(("physical", "tolerance"), [(False, 0.01), (True, 0.05)])
    def test_what_is_predicted_is_metered(
        self, objective: Objective, physical: bool, tolerance: float
    ) -> None:
        boards = declared()
        models = {device: board.model for device, board in boards.items()}
        found = plan(cifar(models, objective), seed=0)
        total_j = 0.0
        for index, share in enumerate(found.devices):
            seconds, joules = metered(boards[share.device], share, index, physical=physical)
            assert seconds == pytest.approx(share.upload_s, rel=tolerance)
            assert joules == pytest.approx(share.compute_j + share.upload_j, rel=2.0 * tolerance)
            total_j += joules
        assert found.dynamic.energy_j == pytest.approx(total_j, rel=tolerance)

    def test_the_cost_model_agrees(self, objective: Objective) -> None:
        models = {device: board.model for device, board in declared().items()}
        found = plan(cifar(models, objective), seed=0)
        for share in found.devices:
            model = models[share.device]
            _, compute, upload = predict_round(
                model,
                share.point,
                cycles=EPOCHS * share.samples * model.compute.cycles_per_sample,
                upload_bits=BITS,
                download_bits=BITS,
            )
            assert compute.dynamic_j == pytest.approx(share.compute_j, rel=1e-6)
            assert upload.dynamic_j == pytest.approx(share.upload_j, rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_settable_radio_with_electronics_does_not_whisper(objective: Objective) -> None:
    """With P_el = 0.6 W the least energy is at milliwatts and seconds, not microwatts for minutes.

    For given b the least of (p + P_el)/r is where the joules of the last bit, dp/dr, are those of
    the mean one: an independent golden section finds it.
    """
    models = {
        device: replace(
            board.model, link=replace(board.model.link, power_settable=True, rate_cap_bps=None)
        )
        for device, board in declared().items()
    }
    found = plan(cifar(models, objective), seed=0)
    for share in found.devices:
        link = models[share.device].link
        powers = np.geomspace(1e-9, link.transmit_power_max_w, 4001)
        snr = powers * link.channel_gain / link.noise_density_w_per_hz / share.point.bandwidth_hz
        per_bit_j = (powers + link.electronics_power_w) / np.log1p(snr)
        best_w = float(powers[np.argmin(per_bit_j)])
        # with idle power, faster is worth more still
        assert share.point.transmit_power_w > 0.8 * best_w
        assert share.upload_s < 0.2 * DEADLINE_S
        assert share.point.transmit_power_w > 1e-3


def test_the_paper_s_radio_may_whisper() -> None:
    """There nothing but the radiated power costs, which is the paper's problem."""
    models = {device: board.model for device, board in declared("paper").items()}
    found = plan(cifar(models, "dynamic"), seed=0)
    for share in found.devices:
        assert share.point.transmit_power_w < 1e-4
        assert share.upload_s > 0.5 * DEADLINE_S


def test_a_plan_that_stretches_its_uploads_costs_more() -> None:
    """The corner itself: a tenth of the band for ten times as long, all else equal."""
    models = {device: board.model for device, board in declared().items()}
    found = plan(cifar(models, "dynamic"), seed=0)
    for share in found.devices:
        model = models[share.device]
        cycles = EPOCHS * share.samples * model.compute.cycles_per_sample
        narrow = replace(share.point, bandwidth_hz=share.point.bandwidth_hz / 10.0)
        before, after = (
            predict_round(model, point, cycles=cycles, upload_bits=BITS, download_bits=BITS)[2]
            for point in (share.point, narrow)
        )
        assert after.duration_s > 5.0 * before.duration_s
        assert after.dynamic_j > 5.0 * before.dynamic_j
