from __future__ import annotations

import numpy as np
import pytest
import torch

from fimi.learning.data.dataset import load_digits
from fimi.learning.training.precision import LossScale, PrecisionError, amp_of, device_of
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings

CPU = torch.device("cpu")
DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images[:200], DIGITS.labels[:200]
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")


class TestChoice:
    @WITHOUT_CUDA
    def test_cuda_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(PrecisionError, match="finds no CUDA device here"):
            TorchTrainer.of(TrainingSettings(device="cuda"), 10, (1, 8, 8))
        assert device_of(TrainingSettings(device="auto")) == CPU

    def test_fp16_is_refused_on_the_cpu(self) -> None:
        with pytest.raises(PrecisionError, match='"fp16", which is for CUDA'):
            TorchTrainer.of(TrainingSettings(amp="fp16"), 10, (1, 8, 8))

    def test_auto_is_off_on_the_cpu(self) -> None:
        assert amp_of(TrainingSettings(amp="auto"), CPU) == "off"
        assert amp_of(TrainingSettings(amp="bf16"), CPU) == "bf16"


class TestBfloat16:
    def test_it_learns_what_single_precision_learns_in_other_numbers(self) -> None:
        start = initial_parameters("small-cnn", 10, (1, 8, 8), seed=0)
        plain, half = (
            TorchTrainer.of(settings, 10, (1, 8, 8)).train(
                start, IMAGES, LABELS, settings, stream=(0,)
            )
            for settings in (
                TrainingSettings(epochs=25, learning_rate=0.1, amp=amp) for amp in ("off", "bf16")
            )
        )
        assert half.accuracy == pytest.approx(plain.accuracy, abs=0.05)
        assert plain.accuracy > 0.9
        assert all(tensor.dtype == np.float32 for tensor in half.parameters.values())
        assert any(
            not np.array_equal(half.parameters[name], plain.parameters[name]) for name in start
        )

    def test_the_same_numbers_every_time(self) -> None:
        settings = TrainingSettings(epochs=2, amp="bf16")
        start = initial_parameters("small-cnn", 10, (1, 8, 8), seed=0)
        trainer = TorchTrainer.of(settings, 10, (1, 8, 8))
        one, other = (
            trainer.train(start, IMAGES, LABELS, settings, stream=(1,)).parameters for _ in range(2)
        )
        assert all(np.array_equal(one[name], other[name]) for name in start)


class TestLossScale:
    def test_gradients_come_back_to_their_size(self) -> None:
        scale = LossScale(enabled=True)
        weight = torch.tensor([2.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(scale.scaled((weight**2).sum()), [weight])
        gradients = [gradient.clone()]
        assert scale.unscale(gradients)
        assert gradients[0].tolist() == [4.0]

    @pytest.mark.parametrize("bad", [float("inf"), float("nan")])
    def test_a_step_that_is_not_finite_is_left_out_and_the_factor_halved(self, bad: float) -> None:
        scale = LossScale(enabled=True)
        before = scale.factor
        assert not scale.unscale([torch.ones(2), torch.tensor([bad])])
        assert scale.factor == before / 2

    def test_the_factor_grows_back_after_2000_good_steps(self) -> None:
        scale = LossScale(enabled=True)
        scale.unscale([torch.tensor([float("inf")])])
        halved = scale.factor
        for _ in range(1999):
            assert scale.unscale([torch.ones(1)])
        assert scale.factor == halved
        assert scale.unscale([torch.ones(1)])
        assert scale.factor == 2 * halved

    def test_switched_off_it_leaves_everything_alone(self) -> None:
        scale = LossScale(enabled=False)
        loss, gradient = torch.tensor(3.0), torch.tensor([float("inf")])
        assert scale.scaled(loss) is loss
        assert scale.unscale([gradient])
