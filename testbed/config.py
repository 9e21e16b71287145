"""The configuration: every key, its default, where its effective value came from.

A configuration is TOML with one table per section. The sections are frozen types whose fields
carry their own documentation, so ``fimi init`` (the commented template), ``fimi check`` (every
effective value with its origin) and validation cannot drift apart. Unknown keys are refused.
"""

from __future__ import annotations

import difflib
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from coordinator.settings import FederationSettings, PlanSettings, RoundSettings
from energy.boards import PRESETS
from learning.datasets_images import ImageMode
from learning.datasets_registry import DATASETS, DatasetOptions
from learning.training import TrainingSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LEAST_BAND_HZ = 1000.0
"""A band below this was probably meant in another unit, Hz."""

StrategyName = Literal["fimi", "tfl"]


class RunConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is run, and where its results go."""

    strategy: Annotated[
        StrategyName,
        Meta(description='"fimi", or "tfl": local data only, at the same deadlines.'),
    ] = "fimi"
    seed: Annotated[int, Meta(ge=0, lt=2**31, description="Seed of everything that is drawn.")] = 0
    name: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
            description="Folder of this run below run.directory; empty: strategy, seed and time.",
        ),
    ] = ""
    directory: Annotated[str, Meta(min_length=1, description="Where runs are kept.")] = "runs"


class FleetConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The devices; emulated ones in a dry run."""

    name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
            description="Name of the fleet: processes find each other by it on a broker.",
        ),
    ] = "desk"
    devices: Annotated[int, Meta(ge=1, le=1000, description="Number of devices.")] = 10
    boards: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="Boards of the emulated devices, taken in turn."),
    ] = ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "raspberry-pi-4", "mini-pc")
    reference_cycles_per_sample: Annotated[
        float,
        Meta(
            ge=0,
            le=1e13,
            description="CPU cycles to train on one sample on a Raspberry Pi 4. 0: from the "
            "network's multiply-accumulates forward and backward, a quarter per cycle (our "
            "estimate), in two figures; 4.0e6 for the small CNN on the digits.",
        ),
    ] = 0.0
    profile_error: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="Relative standard deviation between an emulated board and its profile.",
        ),
    ] = 0.03
    emulation: Annotated[
        Literal["model", "physical"],
        Meta(
            description='How boards are emulated. "model": the cost model with other parameters, '
            'load and fading; "physical": voltage, leakage, heat and throttling, other programs, '
            "radio tails, a meter that only sees what it reads."
        ),
    ] = "model"


class DataConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which images, and who holds what."""

    dataset: Annotated[
        str,
        Meta(
            pattern=rf"^({'|'.join(DATASETS)}|[A-Za-z_][\w.]*:\w+)$",
            description='"digits": 1,797 real 8×8 images, bundled; cifar-10, cifar-100, '
            "fashion-mnist and gtsrb as torchvision reads them under data.root; image-folder: "
            "data.root/CLASS/FILE or data.root/train|test/CLASS/FILE; module:factory for one of "
            "your own.",
        ),
    ] = "digits"
    root: Annotated[
        str, Meta(description="Folder of the data set's files; the digits need none.")
    ] = ""
    download: Annotated[
        bool, Meta(description="Fetch a missing data set into data.root, through torchvision.")
    ] = False
    image_size: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Scale images to this height and width; 0: as they are (gtsrb: 32).",
        ),
    ] = 0
    image_mode: Annotated[
        ImageMode, Meta(description='Convert images to "rgb" or "grey"; "auto": as they are.')
    ] = "auto"
    split: Annotated[
        Literal["auto", "writers", "random"],
        Meta(
            description='"writers": the public part was written by other people than the rest, a '
            'real domain gap (digits only); "random": no gap (needs generator weights of its '
            'own); "auto": writers for the digits, else random.'
        ),
    ] = "auto"
    public_fraction: Annotated[
        float, Meta(gt=0, lt=1, description="Share of the samples that the generator may see.")
    ] = 0.4
    test_fraction: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="Share of the samples held out for evaluation; not used where the data "
            "set has a test part of its own.",
        ),
    ] = 0.2
    partition: Annotated[
        Literal["dirichlet", "balanced", "shards", "iid", "quantity", "file"],
        Meta(
            description='Who holds what. "dirichlet": class by class; "balanced": as many samples '
            'each, mixtures Dirichlet; "shards": sorted by class and cut; "iid": at random; '
            '"quantity": at random, sizes Dirichlet; "file": data.partition_file.'
        ),
    ] = "dirichlet"
    alpha: Annotated[
        float,
        Meta(gt=0, le=1e6, description="Dirichlet α: small is uneven, large is alike."),
    ] = 0.05
    shards: Annotated[
        int, Meta(ge=1, le=1000, description='Pieces per device with partition = "shards".')
    ] = 2
    partition_file: Annotated[
        str, Meta(description="JSON file with a list of private samples for each device.")
    ] = ""
    min_samples: Annotated[
        int, Meta(ge=1, description="Every device gets at least this many samples.")
    ] = 5

    def options(self) -> DatasetOptions:
        """What the data set is asked for."""
        return DatasetOptions(
            root=self.root,
            download=self.download,
            image_size=self.image_size,
            image_mode=self.image_mode,
        )


class GeneratorConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How synthetic images are made."""

    kind: Annotated[
        Literal["trained", "bootstrap", "text"],
        Meta(
            description='"trained": a diffusion model or GAN trained on the public part; '
            '"bootstrap": public images, slightly changed; "text": a text-to-image model.'
        ),
    ] = "trained"
    weights: Annotated[
        str,
        Meta(description="Folder of a trained generator; empty: the one that ships with fimi."),
    ] = ""
    engine: Annotated[
        Literal["auto", "onnx", "torch", "cuda"],
        Meta(
            description='What draws: "onnx" (ONNX Runtime), "torch", both on the CPU; "cuda"; '
            '"auto": ONNX Runtime where the folder holds a graph, for text CUDA where there is one.'
        ),
    ] = "auto"
    solver: Annotated[
        Literal["dpm++", "ddim"], Meta(description="Sampler of a diffusion model.")
    ] = "dpm++"
    steps: Annotated[int, Meta(ge=1, le=1000, description="Denoising steps.")] = 20
    guidance: Annotated[
        float,
        Meta(
            ge=0, le=50, description="Classifier-free guidance; above 1 looks better, trains worse."
        ),
    ] = 1.0
    text_model: Annotated[
        str, Meta(min_length=1, description="Text-to-image model: an id, or a local folder.")
    ] = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    text_guidance: Annotated[
        float, Meta(ge=0, le=50, description="Guidance of the text; 0 for turbo models.")
    ] = 7.0
    gate: Annotated[bool, Meta(description="Judge every image; draw again what is refused.")] = True
    confidence_min: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...],
        Meta(
            description="Least confidence of the judge in an image's class, one value or one per "
            "class; empty: that of a guess. Strictness hurts."
        ),
    ] = ()
    copy_quantile: Annotated[
        float,
        Meta(
            ge=0,
            le=0.5,
            description="An image closer to a public one than this share of public images are to "
            "each other is a copy; 0 lets copies pass.",
        ),
    ] = 0.01
    redraws: Annotated[
        int, Meta(ge=0, le=100, description="How often a refused image is drawn again.")
    ] = 3
    share_images: Annotated[
        bool, Meta(description="Give all devices the same images, not images of their own.")
    ] = False
    pool: Annotated[
        str,
        Meta(
            description="Folder that keeps what was drawn, so that nothing is drawn twice and a "
            'node goes on after a crash; empty: "pool" below run.directory, in a dry run memory.'
        ),
    ] = ""
    images_max: Annotated[
        int, Meta(ge=1, description="Most images that one device may be given in one request.")
    ] = 10_000
    threads: Annotated[int, Meta(ge=1, le=256, description="CPU threads of the generator.")] = 1


class BrokerConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The MQTT broker."""

    kind: Annotated[
        Literal["auto", "mosquitto", "amqtt"],
        Meta(description="Embedded broker; auto: mosquitto where it is installed, else amqtt."),
    ] = "auto"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the embedded broker; 0: a free one.")
    ] = 0


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole configuration, one section each."""

    run: RunConfig = RunConfig()
    fleet: FleetConfig = FleetConfig()
    data: DataConfig = DataConfig()
    training: TrainingSettings = TrainingSettings()
    plan: PlanSettings = PlanSettings()
    rounds: RoundSettings = RoundSettings()
    generator: GeneratorConfig = GeneratorConfig()
    broker: BrokerConfig = BrokerConfig()

    def federation(self, run: str) -> FederationSettings:
        """The coordinator's share of the configuration."""
        return FederationSettings(
            run=run,
            strategy=self.run.strategy,
            seed=self.run.seed,
            devices=self.fleet.devices,
            training=self.training,
            plan=self.plan,
            rounds=self.rounds,
        )


class ConfigError(ValueError):
    """A configuration cannot be used; the message says which key of which file, and what to do."""


class Effective(Struct, frozen=True, kw_only=True):
    """A configuration and the origin of every value in it.

    Attributes:
        config: the values.
        origins: dotted key to ``"default"``, the file's name, or the command-line option.
    """

    config: Config
    origins: dict[str, str]


def load(
    path: Path | None = None, overrides: Mapping[str, tuple[Any, str]] | None = None
) -> Effective:
    """Read a configuration file and lay the command line over it.

    Args:
        path: TOML file, or ``None`` for the defaults.
        overrides: dotted key to (value, option name), from the command line.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, impossible value.
    """
    origins = {key: "default" for key, _ in fields()}
    tree: dict[str, dict[str, Any]] = {}
    if path is not None:
        for section, table in _read(path).items():
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{path}: {section} = {table!r} stands outside any table; keys belong to a "
                    f"section: {', '.join(f'[{name}]' for name in Config.__struct_fields__)}"
                )
            for key, value in table.items():
                _refuse_unknown(f"{section}.{key}", origins, str(path))
                tree.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = str(path)
    for dotted, (value, option) in (overrides or {}).items():
        section, key = dotted.split(".")
        tree.setdefault(section, {})[key] = value
        origins[dotted] = option
    try:
        config = msgspec.convert(tree, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error, tree, origins)) from error
    _check_together(config, origins)
    return Effective(config=config, origins=origins)


def parse_setting(text: str) -> tuple[str, Any]:
    """Take ``section.key=value`` apart; the value is TOML, or a bare word.

    Raises:
        ConfigError: no such key, or not of this form.
    """
    dotted, equals, raw = text.partition("=")
    dotted = dotted.strip()
    if not equals or dotted.count(".") != 1:
        raise ConfigError(
            f"--set {text!r}: write section.key=value, for example plan.deadline_s=20"
        )
    _refuse_unknown(dotted, dict(fields()), "--set")
    try:
        return dotted, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return dotted, raw.strip()


def fields() -> Iterator[tuple[str, msgspec.inspect.Field]]:
    """Every key of the configuration, dotted, with its type and default."""
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            yield f"{section.name}.{field.name}", typing.cast("msgspec.inspect.Field", field)


def template() -> str:
    """A commented configuration with every key at its default."""
    lines = ["# Configuration of a FIMI federation. Every key is shown with its default.", ""]
    for section in msgspec.structs.fields(Config):
        lines += [f"# {_summary(section.type)}", f"[{section.name}]"]
        for field in msgspec.structs.fields(section.type):
            lines += [f"# {line}" for line in _wrap(_description(field.type))]
            lines += [f"{field.name} = {to_toml(field.default)}", ""]
    return "\n".join(lines)


def to_toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value) if abs(value) < 1e6 else f"{value:.6g}".replace("e+0", "e")
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def values(config: Config) -> dict[str, Any]:
    """Dotted key to value, in the order of the template."""
    return {
        f"{section}.{field}": getattr(getattr(config, section), field)
        for section in config.__struct_fields__
        for field in getattr(config, section).__struct_fields__
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            loaded: dict[str, Any] = tomllib.load(file)
            return loaded
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; 'fimi init' writes one") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _refuse_unknown(dotted: str, known: Mapping[str, object], where: str) -> None:
    if dotted in known:
        return
    section, key = dotted.split(".", 1)
    sections = Config.__struct_fields__
    if section not in sections:
        raise ConfigError(
            f"{where}: unknown section [{section}]; there are "
            f"{', '.join(f'[{name}]' for name in sections)}"
        )
    same = [name.split(".")[1] for name in known if name.startswith(f"{section}.")]
    elsewhere = [name for name in known if name.endswith(f".{key}")]
    close = difflib.get_close_matches(key, same, n=1)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else f"it belongs to [{elsewhere[0].split('.')[0]}]"
        if elsewhere
        else f"[{section}] has {', '.join(same)}"
    )
    raise ConfigError(f"{where}: unknown key {key!r} in [{section}]; {hint}")


def _explain(
    error: msgspec.ValidationError, tree: dict[str, dict[str, Any]], origins: Mapping[str, str]
) -> str:
    text, _, place = str(error).partition(" - at `$.")
    dotted = place.rstrip("`").split("[")[0]
    section, _, key = dotted.partition(".")
    value = tree.get(section, {}).get(key)
    what = text.replace("Expected", "expected").replace("Object", "object").strip()
    message = f"{origins.get(dotted, dotted)}: {dotted} = {value!r}: {what}"
    for name, field in fields():
        if name == dotted:
            message += f"\n  {dotted}: {_description(field.type)} Default: {to_toml(field.default)}"
    if isinstance(value, str) and any(c.isdigit() for c in value):
        message += "\n  Write a number without a unit; the key's name says the unit."
    return message


def _check_together(config: Config, origins: Mapping[str, str]) -> None:
    data, plan = config.data, config.plan
    if unknown := [name for name in config.fleet.boards if name not in PRESETS]:
        raise ConfigError(
            f"fleet.boards ({origins['fleet.boards']}) names {', '.join(map(repr, unknown))}; "
            f"there are {', '.join(PRESETS)}"
        )
    if data.public_fraction + data.test_fraction >= 1:
        raise ConfigError(
            f"data.public_fraction {data.public_fraction} ({origins['data.public_fraction']}) and "
            f"data.test_fraction {data.test_fraction} ({origins['data.test_fraction']}) leave no "
            "private samples for the devices; their sum must be below 1"
        )
    if (data.partition == "file") != bool(data.partition_file):
        raise ConfigError(
            f"data.partition is {data.partition!r} ({origins['data.partition']}) and "
            f"data.partition_file {data.partition_file!r} ({origins['data.partition_file']}); a "
            'file is read with data.partition = "file", and only then'
        )
    if plan.curve_delta0 >= plan.error_max and config.run.strategy == "fimi":
        raise ConfigError(
            f"plan.error_max {plan.error_max} ({origins['plan.error_max']}) is not above "
            f"plan.curve_delta0 {plan.curve_delta0} ({origins['plan.curve_delta0']}), the error "
            "that no amount of data removes; raise error_max"
        )
    if 0 < plan.bandwidth_hz < LEAST_BAND_HZ:
        raise ConfigError(
            f"plan.bandwidth_hz {plan.bandwidth_hz:g} ({origins['plan.bandwidth_hz']}) is in Hz; "
            f"less than {LEAST_BAND_HZ:g} Hz for a whole fleet looks like kHz or MHz"
        )
    if config.run.strategy == "fimi" and config.generator.images_max < plan.synthetic_max:
        raise ConfigError(
            f"generator.images_max {config.generator.images_max} "
            f"({origins['generator.images_max']}) is below plan.synthetic_max "
            f"{plan.synthetic_max} ({origins['plan.synthetic_max']}), so a plan may ask for more "
            "images than the generator node gives; raise the one or lower the other"
        )
    if config.rounds.min_devices > config.fleet.devices:
        raise ConfigError(
            f"rounds.min_devices {config.rounds.min_devices} "
            f"({origins['rounds.min_devices']}) is above fleet.devices {config.fleet.devices} "
            f"({origins['fleet.devices']})"
        )


def _description(annotation: Any) -> str:
    for meta in typing.get_args(annotation)[1:]:
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    raise TypeError(f"a configuration key has no description: {annotation}")


def _summary(section: type) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _wrap(text: str, width: int = 96) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
