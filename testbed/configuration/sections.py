"""The sections of a configuration: every key with its type, its default and its description.

The text in the annotation of a key is its description, which ``fimi init`` writes above it.
:mod:`fimi.testbed.configuration.rules` checks conditions on several keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.coordinator.settings import (
    DeploymentSettings,
    PlanSettings,
    RoundSettings,
    StrategySettings,
    TransferSettings,
)
from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import InputError
from fimi.generator_node.generators.prompts import NEGATIVE, TEMPLATES
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.images import ImageMode
from fimi.learning.data.registry import DATASETS
from fimi.learning.training.trainer import TrainingSettings
from fimi.monitor.metrics.settings import OtlpSettings
from fimi.monitor.trackers.settings import TrackerSettings
from fimi.record.carbon_settings import CarbonSettings

STRATEGY_NAMES = tuple(STRATEGIES)
GENERATOR_KINDS = ("trained", "gan", "bootstrap", "public", "text")
OWN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""Pattern of ``module:name``, a part of the user's own."""


class ConfigError(InputError, ValueError):
    """A configuration cannot be used; the message says which key of which file, and what to do."""

    code = "C004"


class RunConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The run: strategy, seed, name, and the folder of its results."""

    strategy: Annotated[
        str,
        Meta(pattern=rf"^({'|'.join(STRATEGY_NAMES)}|{OWN})$"),
        f"One of {', '.join(STRATEGY_NAMES)}, or module:NAME; docs/strategies.md says what they "
        "are. All of them keep the same deadlines.",
    ] = "fimi"
    seed: Annotated[int, Meta(ge=0, lt=2**31), "Seed of everything that is drawn."] = 0
    name: Annotated[
        str,
        Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$"),
        "Folder of this run below run.directory; empty: strategy, seed and time.",
    ] = ""
    directory: Annotated[str, Meta(min_length=1), "Where runs are kept."] = "runs"


class FleetConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The devices; emulated ones in a dry run."""

    name: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
        "Name of the fleet: processes find each other by it on a broker.",
    ] = "desk"
    devices: Annotated[int, Meta(ge=1, le=1000), "Number of devices."] = 10
    members: Annotated[
        tuple[Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")], ...],
        "Ids of the devices, in the order of their shares; others are not asked. Empty: whoever "
        "comes. Emulated devices of a dry run are named so.",
    ] = ()
    boards: Annotated[
        tuple[str, ...], Meta(min_length=1), "Boards of the emulated devices, taken in turn."
    ] = ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "raspberry-pi-4", "mini-pc")
    reference_cycles_per_sample: Annotated[
        float,
        Meta(ge=0, le=1e13),
        "CPU cycles to train on one sample on a Raspberry Pi 4. 0: from the "
        "network's multiply-accumulates forward and backward, a quarter per cycle (our "
        "estimate), in two figures; 4.0e6 for the small CNN on the digits.",
    ] = 0.0
    profile_error: Annotated[
        float,
        Meta(ge=0, le=0.5),
        "Relative standard deviation between an emulated board and its profile.",
    ] = 0.03
    emulation: Annotated[
        Literal["model", "physical"],
        'How boards are emulated. "model": the cost model with other parameters, '
        'load and fading; "physical": voltage, leakage, heat and throttling, other programs, '
        "radio tails, a meter that only sees what it reads.",
    ] = "model"
    radio: Annotated[
        Literal["wifi", "paper"],
        'Radios of emulated boards. "wifi": the one of each make, which sends with a power that no '
        'plan can set, up to a rate, and takes more watts than it radiates; "paper": a plan sets '
        "the power, and that is all that sending costs.",
    ] = "wifi"
    meter: Annotated[
        Literal["preset", "counter", "chip", "averaging", "plug", "battery"],
        'Meters of emulated boards. "preset": the one of each make, which sees every step of '
        'power; "counter": of energy, new every 1 ms; "chip": the power of an instant, ten times '
        'a second; "averaging": means of 0.1 s; "plug": means of 1 s, up to 3 s late, in steps of '
        '0.1 W; "battery": new every 2 s, in steps of 0.1 W.',
    ] = "preset"


class DataConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data set, its split into parts, and its partition over devices."""

    dataset: Annotated[
        str,
        Meta(pattern=rf"^({'|'.join(DATASETS)}|[A-Za-z_][\w.]*:\w+)$"),
        '"digits": 1,797 real 8×8 images, bundled; cifar-10, cifar-100, mnist, '
        "fashion-mnist and gtsrb as torchvision reads them under data.root; image-folder: "
        "data.root/CLASS/FILE or data.root/train|test/CLASS/FILE; data-file: data.root is an "
        "NPZ file; module:factory for one of your own.",
    ] = "digits"
    root: Annotated[
        str, "Folder of the data set's files, or the data file; the digits need none."
    ] = ""
    download: Annotated[bool, "Fetch a missing data set into data.root, through torchvision."] = (
        False
    )
    limit: Annotated[
        int,
        Meta(ge=0),
        "Use at most so many samples of the data set, drawn from every class in "
        "proportion by the split's seed (of test samples of its own, the same share); 0: all.",
    ] = 0
    image_size: Annotated[
        int,
        Meta(ge=0, le=1024),
        "Scale images to this height and width; 0: as they are (gtsrb: 32).",
    ] = 0
    image_mode: Annotated[ImageMode, 'Convert images to "rgb" or "grey"; "auto": as they are.'] = (
        "auto"
    )
    split: Annotated[
        Literal["auto", "writers", "random"],
        '"writers": the public part was written by other people than the rest, a '
        'real domain gap (digits only); "random": no gap (the shipped generator knows '
        'the one of seed 0); "auto": writers for the digits, else random.',
    ] = "auto"
    split_seed: Annotated[
        int,
        Meta(ge=-1, lt=2**31),
        "Seed of the division into public, private and test part; -1: run.seed. "
        "Set it where runs of several seeds share one trained generator.",
    ] = -1
    public_fraction: Annotated[
        float, Meta(gt=0, lt=1), "Share of the samples that is public: the generator sees them."
    ] = 0.4
    validation_fraction: Annotated[
        float,
        Meta(gt=0, lt=1),
        "Share of these that is held apart: nobody trains on it, and what is fitted or chosen (the "
        "learning curve, the errors of devices, accuracies to reach) is judged on it.",
    ] = 0.2
    test_fraction: Annotated[
        float,
        Meta(gt=0, lt=1),
        "Share of the samples held out for evaluation; not used where the data "
        "set has a test part of its own.",
    ] = 0.2
    partition: Annotated[
        Literal["dirichlet", "balanced", "shards", "iid", "quantity", "file"],
        'Who holds what. "dirichlet": class by class; "balanced": as many samples '
        'each, mixtures Dirichlet; "shards": sorted by class and cut; "iid": at random; '
        '"quantity": at random, sizes Dirichlet; "file": data.partition_file.',
    ] = "dirichlet"
    alpha: Annotated[float, Meta(gt=0, le=1e6), "Dirichlet α: small is uneven, large is alike."] = (
        0.05
    )
    shards: Annotated[int, Meta(ge=1, le=1000), 'Pieces per device with partition = "shards".'] = 2
    partition_file: Annotated[str, "JSON file with a list of private samples for each device."] = ""
    min_samples: Annotated[int, Meta(ge=1), "Every device gets at least this many samples."] = 5
    shares: Annotated[
        Literal["auto", "indices", "shipped", "file"],
        'How devices get their samples. "indices": into the data set, which lies on each of '
        'them; "shipped": the coordinator sends them (public data only); "file": they bring '
        'images of their own, which nobody else sees. "auto": indices where nothing has to be '
        "put on the boards (the digits, and every dry run), else shipped.",
    ] = "auto"
    overlap_max: Annotated[
        float,
        Meta(ge=0, le=1),
        "Largest share of a device's own images that may also be test or public images, with "
        'shares = "file"; in a division by the coordinator it counts the duplicates itself.',
    ] = 0.0

    def options(self) -> DatasetOptions:
        """The options of the data set."""
        return DatasetOptions(
            root=self.root,
            download=self.download,
            image_size=self.image_size,
            image_mode=self.image_mode,
        )


class GeneratorConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How synthetic samples are made."""

    kind: Annotated[
        str,
        Meta(pattern=rf"^({'|'.join(GENERATOR_KINDS)}|{OWN})$"),
        '"trained": the diffusion model, or what generator.weights names, trained '
        'on the public part; "gan": a conditional GAN, likewise; "bootstrap": public images, '
        'slightly changed; "public": public images as they are, none twice for a device; '
        '"text": a text-to-image model; module:factory: a function of your own.',
    ] = "trained"
    weights: Annotated[
        str,
        "Folder of a trained generator; empty: the diffusion model or the GAN that "
        "ships with fimi.",
    ] = ""
    engine: Annotated[
        Literal["auto", "onnx", "torch", "cuda"],
        'What draws: "onnx" (ONNX Runtime), "torch", both on the CPU; "cuda"; '
        '"auto": ONNX Runtime where the folder holds a graph, for text CUDA where there is one.',
    ] = "auto"
    solver: Annotated[Literal["dpm++", "ddim"], "Sampler of a diffusion model."] = "dpm++"
    steps: Annotated[int, Meta(ge=1, le=1000), "Denoising steps."] = 20
    guidance: Annotated[
        float, Meta(ge=0, le=50), "Classifier-free guidance; above 1 looks better, trains worse."
    ] = 1.0
    text_model: Annotated[
        str, Meta(min_length=1), "Text-to-image model: an id, or a local folder."
    ] = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    text_guidance: Annotated[
        float, Meta(ge=0, le=50), "Guidance of the text; 0 for turbo models."
    ] = 7.0
    text_templates: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\{\}")], ...],
        Meta(min_length=1),
        "Prompts, one chosen for each image by its seed; {} stands for the class.",
    ] = TEMPLATES
    class_meanings: Annotated[
        str,
        'What class names mean, for text: a TOML file with lines name = "meaning", or the name of '
        "a built-in one (digits, mnist, cifar-10, cifar-100, gtsrb); empty: that of data.dataset.",
    ] = ""
    text_negative: Annotated[
        str, "What is not wanted; without effect where text_guidance is 0."
    ] = NEGATIVE
    text_size: Annotated[
        int, Meta(ge=0, le=4096), "Pixels a side as the model draws them; 0: what it was made for."
    ] = 0
    text_batch_size: Annotated[
        int, Meta(ge=1), "Images made together; halved while memory is short."
    ] = 8
    text_dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        'Of the computation; "auto": half precision on CUDA, else single.',
    ] = "auto"
    gate: Annotated[bool, "Judge every image; draw again what is refused."] = True
    confidence_min: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...],
        "Least confidence of the judge in an image's class, one value or one per "
        "class; empty: that of a guess. Strictness hurts.",
    ] = ()
    copy_quantile: Annotated[
        float,
        Meta(ge=0, le=0.5),
        "An image closer to a public one than this share of public images are to "
        "each other is a copy; 0 lets copies pass.",
    ] = 0.01
    redraws: Annotated[int, Meta(ge=0, le=100), "How often a refused image is drawn again."] = 3
    share_images: Annotated[bool, "Give all devices the same images, not images of their own."] = (
        False
    )
    pool: Annotated[
        str,
        "Folder that keeps what was drawn, so that nothing is drawn twice and a "
        'node goes on after a crash; empty: "pool" below run.directory, in a dry run memory.',
    ] = ""
    images_max: Annotated[
        int,
        Meta(ge=1),
        "Most images in one request: as many as one device may be given. What a "
        "server trains on is asked for in as many requests as it takes.",
    ] = 10_000
    threads: Annotated[int, Meta(ge=1, le=256), "CPU threads of the generator."] = 1


class BrokerConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The MQTT broker."""

    kind: Annotated[
        Literal["auto", "mosquitto", "amqtt"],
        "Embedded broker; auto: mosquitto where it is installed, else amqtt.",
    ] = "auto"
    port: Annotated[int, Meta(ge=0, le=65535), "Port of the embedded broker; 0: a free one."] = 0


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole configuration; each field is a section."""

    run: RunConfig = RunConfig()
    fleet: FleetConfig = FleetConfig()
    data: DataConfig = DataConfig()
    training: TrainingSettings = TrainingSettings()
    plan: PlanSettings = PlanSettings()
    rounds: RoundSettings = RoundSettings()
    transfer: TransferSettings = TransferSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    strategy: StrategySettings = StrategySettings()
    generator: GeneratorConfig = GeneratorConfig()
    carbon: CarbonSettings = CarbonSettings()
    broker: BrokerConfig = BrokerConfig()
    trackers: TrackerSettings = TrackerSettings()
    otlp: OtlpSettings = OtlpSettings()
