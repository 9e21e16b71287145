"""fimi.generator_node.service.trial: what is of no use is refused, and what is weak is not."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch

from fimi.generator_node.generators.base import Generator, Provenance, Seeds
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.card import noise_of, shipped_for
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.generators.gan import GanGenerator, GeneratorNetwork
from fimi.generator_node.generators.open import open_generator
from fimi.generator_node.service.drawing import made_by
from fimi.generator_node.service.gate import Gate, GateSettings, Judge, read_judge
from fimi.generator_node.service.pool import Pool
from fimi.generator_node.service.service import BatchService, RequestRefusedError
from fimi.generator_node.service.trial import ClassesSeen, most, tail
from fimi.generator_node.training.diffusion_training import DiffusionSettings
from fimi.generator_node.training.judge import train_judge
from fimi.generator_node.training.loop import first_card
from fimi.generator_node.training.network import NetworkSettings, build_unet, sampling_solver
from fimi.learning.data.batches import decode
from fimi.learning.data.dataset import Dataset, Images, Labels, Split
from fimi.learning.training.metrics import wilson
from fimi.messaging.messages.synthesis import SyntheticRequest


def two(parts: Split) -> Dataset:
    """The digits 3 and 5 alone."""
    chosen = np.flatnonzero(np.isin(parts.public.labels, (3, 5)))
    labels = (parts.public.labels[chosen] == 5).astype(np.int64)
    images = parts.public.images[chosen]
    return Dataset(name="two", images=images, labels=labels, class_names=("3", "5"))


def signs() -> Dataset:
    """43 classes of 12 images, each a pattern of its own with noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (43, 1, 8, 8))
    labels = np.tile(np.arange(43, dtype=np.int64), 12)
    images = patterns[labels] + rng.integers(-30, 31, (len(labels), 1, 8, 8))
    names = tuple(f"{number:02d}" for number in range(43))
    return Dataset(name="signs", images=images.astype(np.uint8), labels=labels, class_names=names)


@pytest.fixture(scope="module", params=[2, 10, 43])
def gate(request: pytest.FixtureRequest, parts: Split) -> Gate:
    if request.param == 10:
        return Gate(read_judge(shipped_for(parts.public)), parts.public)
    public = two(parts) if request.param == 2 else signs()
    return Gate(Judge(train_judge(public, steps=60 if request.param == 2 else 250)), public)


class Made(Generator):
    """A generator that a function of class ids and seeds is."""

    def __init__(self, public: Dataset, make: Callable[[Labels, Seeds], Images]) -> None:
        super().__init__(public.classes, public.image_shape)
        self._function = make
        self.made = 0

    @property
    def name(self) -> str:
        return "made"

    @property
    def provenance(self) -> Provenance:
        digest = "0" * 64
        return Provenance(
            generator="made", dataset="", data_digest=digest, weights_digest=digest, libraries={}
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        self.made += len(class_ids)
        return self._function(class_ids, seeds)


def noise(public: Dataset) -> Generator:
    def draw(class_ids: Labels, seeds: Seeds) -> Images:
        return np.stack(
            [np.random.default_rng(int(s)).integers(0, 256, public.image_shape) for s in seeds]
        ).astype(np.uint8)

    return Made(public, draw)


def grey_noise(public: Dataset) -> Generator:
    def draw(class_ids: Labels, seeds: Seeds) -> Images:
        drawn = 128 + 50 * noise_of(seeds, public.image_shape)
        return drawn.clip(0, 255).astype(np.uint8)

    return Made(public, draw)


def one_class(public: Dataset) -> Generator:
    inner = BootstrapGenerator(public)
    return Made(public, lambda class_ids, seeds: inner.generate(np.ones_like(class_ids), seeds))


def strangers(public: Dataset) -> Generator:
    """Fine images of any class."""
    inner = BootstrapGenerator(public)
    return Made(
        public,
        lambda _, seeds: inner.generate((seeds % public.classes).astype(np.int64), seeds),
    )


def untrained_unet(public: Dataset) -> Generator:
    settings = DiffusionSettings(network=NetworkSettings(channels=(8,), norm_groups=4))
    card = first_card(
        public, settings, kind="class-conditional-diffusion", name="untrained", levels=()
    )
    unet = build_unet(settings.network, public.classes, public.image_shape, seed=1).eval()
    return DiffusionGenerator(unet, card, sampling_solver().config, steps=2)


def untrained_gan(public: Dataset) -> Generator:
    card = first_card(public, DiffusionSettings(), kind="conditional-gan", name="raw", levels=())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = GeneratorNetwork(public.classes, public.image_shape, 16, 8)
    return GanGenerator(network.eval().requires_grad_(False), card)


def weak(public: Dataset) -> Generator:
    """Of its images 30 % show their class by more than chance, the others any."""
    inner = BootstrapGenerator(public)

    def draw(class_ids: Labels, seeds: Seeds) -> Images:
        meant = [int(s) // 1000 % 10 < 3 for s in seeds]
        shown = np.where(meant, class_ids, (seeds // 7 % public.classes).astype(np.int64))
        return inner.generate(shown, seeds)

    return Made(public, draw)


def request(counts: tuple[int, ...], **other: object) -> SyntheticRequest:
    fields = {"run": "r", "device": "device-1", "seed": 3, **other}
    return SyntheticRequest(counts=counts, **fields)  # type: ignore[arg-type]


def all_classes(gate: Gate, images: int) -> tuple[int, ...]:
    return (-(-images // gate.public.classes),) * gate.public.classes


@pytest.mark.parametrize(
    "useless", [noise, grey_noise, one_class, strangers, untrained_unet, untrained_gan]
)
def test_of_no_use(useless: Callable[[Dataset], Generator], gate: Gate) -> None:
    generator = useless(gate.public)
    service = BatchService(generator, gate=gate)
    made = service.make(request(all_classes(gate, 600)))
    assert sum(made.delivered) == 0
    assert made.data == b""
    assert f"{generator.name} is of no use, nothing of it is shipped" in made.error
    assert "fimi generator evaluate --out" in made.error
    with pytest.raises(RequestRefusedError, match=r"is of no use.*first images show their class"):
        service.make(request(all_classes(gate, 5), device="device-2"))


@pytest.mark.parametrize("useful", [BootstrapGenerator, weak])
def test_of_use(useful: Callable[[Dataset], Generator], gate: Gate) -> None:
    made = BatchService(useful(gate.public), gate=gate).make(request(all_classes(gate, 600)))
    assert sum(made.delivered) > 200
    assert "no use" not in made.error


def test_a_good_one_draws_nothing_twice_and_nothing_that_was_not_asked_for(gate: Gate) -> None:
    generator = Made(gate.public, BootstrapGenerator(gate.public).generate)
    lenient = Gate(gate.judged_by, gate.public, GateSettings(redraws=0))
    made = BatchService(generator, gate=lenient).make(request(all_classes(gate, 100)))
    assert generator.made == made.drawn == sum(all_classes(gate, 100))


def test_the_shipped_one(parts: Split) -> None:
    gate = Gate(read_judge(shipped_for(parts.public)), parts.public)
    made = BatchService(open_generator(parts.public), gate=gate).make(request((3,) * 10))
    assert made.delivered == (3,) * 10


@pytest.fixture(scope="module")
def digits(parts: Split) -> Gate:
    return Gate(read_judge(shipped_for(parts.public)), parts.public)


class TestAcrossRequests:
    def test_small_ones_are_served_until_enough_was_seen(self, digits: Gate) -> None:
        service = BatchService(noise(digits.public), gate=digits)
        errors = []
        for number in range(40):
            try:
                errors.append(service.make(request((2,) * 10, device=f"d{number}")).error)
            except RequestRefusedError as error:
                errors.append(str(error))
        refused = ["is of no use" in error for error in errors]
        assert refused == [False] * 9 + [True] * 31

    def test_batches_wait_for_the_trial(self, digits: Gate) -> None:
        """A request that is complete first is not served before the others tell the same."""
        service = BatchService(noise(digits.public), gate=digits)
        service.submit(request((1, *(0,) * 9)))
        service.submit(request((60,) * 10, device="device-2"))
        made = []
        while service.busy:
            made += service.work()
        assert [sum(each.delivered) for each in made] == [0, 0]

    def test_one_class_alone(self, digits: Gate) -> None:
        rest = (0,) * 9
        good = BatchService(BootstrapGenerator(digits.public), gate=digits)
        assert sum(good.make(request((300, *rest))).delivered) > 250
        wrong = BatchService(one_class(digits.public), gate=digits)
        assert "is of no use" in wrong.make(request((300, *rest))).error

    def test_a_node_that_starts_again_knows(self, digits: Gate, tmp_path: Path) -> None:
        generator = noise(digits.public)

        def service() -> BatchService:
            pool = Pool(tmp_path, generator.image_shape, made_by(generator, digits))
            return BatchService(generator, gate=digits, pool=pool)

        first = service()
        assert "is of no use" in first.make(request((60,) * 10)).error
        first.close()
        again = service()
        with pytest.raises(RequestRefusedError, match="is of no use"):
            again.submit(request((1,) * 10))
        again.close()

    def test_what_was_seen_is_damaged(
        self, digits: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        generator = BootstrapGenerator(digits.public)
        pool = Pool(tmp_path, generator.image_shape, made_by(generator, digits))
        pool.remember(b'{"ordered": 3')
        service = BatchService(generator, gate=digits, pool=pool)
        assert "it begins again" in caplog.text
        assert sum(service.make(request((2,) * 10)).delivered) == 20
        service.close()


def test_without_a_gate_or_by_choice_there_is_none(digits: Gate) -> None:
    counts = (60,) * 10
    free = BatchService(noise(digits.public)).make(request(counts))
    assert free.delivered == counts
    measured = BatchService(noise(digits.public), gate=digits, trial=False).make(request(counts))
    assert 0 < sum(measured.delivered) < 600
    assert "no use" not in measured.error
    assert decode(measured.data, classes=10).labels.size == sum(measured.delivered)


def test_a_judge_that_knows_nothing_judges_no_generator(
    parts: Split, caplog: pytest.LogCaptureFixture
) -> None:
    few = parts.public.subset(np.arange(12), "few")
    gate = Gate(Judge(train_judge(few, steps=1)), few)
    service = BatchService(noise(few), gate=gate)
    assert "the judge knows not even public images" in caplog.text
    assert "no use" not in service.make(request((60,) * 10)).error


class TestStatistics:
    def test_tail(self) -> None:
        """Sums of exact binomial probabilities."""
        exact = sum(comb(20, k) * 3**k * 7 ** (20 - k) for k in range(9, 21)) / 10**20
        assert tail(9, 20, 0.3) == pytest.approx(exact, rel=1e-12)
        assert tail(0, 20, 0.3) == 1
        assert tail(20, 20, 0.5) == pytest.approx(2**-20)
        assert tail(1, 20, 0) == 0

    def test_interval(self) -> None:
        """R 4.3, prop.test(15, 50, correct = FALSE)."""
        assert wilson(15, 50) == pytest.approx((0.1910, 0.4375), abs=1e-4)

    def test_chance_of_a_judge_that_sees_one_class_in_everything(self) -> None:
        ordered, taken = np.array([0, 0, 0, 1]), np.zeros(4, np.int64)
        assert ClassesSeen.of(ordered, taken, 3).chance == pytest.approx(0.75)
        assert ClassesSeen.of(ordered[:3], taken[:3], 3).chance == pytest.approx(1 / 3)

    @pytest.mark.parametrize("classes", [2, 10, 43, 100])
    def test_errors_of_a_trial_to_its_end(self, classes: int) -> None:
        """At its end three times chance (80 % of 2 classes) passes nearly always, chance hardly."""
        rng = np.random.default_rng(classes)
        count, trials = most(classes), 300
        ordered = np.arange(count) % classes

        def passed(share: float) -> float:
            found = 0
            for _ in range(trials):
                any_class = rng.integers(0, classes, count)
                extra = (share - 1 / classes) / (1 - 1 / classes)
                taken = np.where(rng.random(count) < extra, ordered, any_class)
                found += ClassesSeen.of(ordered, taken, classes).shows
            return found / trials

        assert passed(min(3 / classes, 0.8)) > 0.9
        assert passed(1 / classes) < 0.02
