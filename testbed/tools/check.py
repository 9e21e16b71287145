"""``fimi check``: a configuration's values, its data, and whether the fleet has a plan.

* :func:`value_lines`  every value, its origin, and whether it is the default
* :func:`differing`    the values that differ from their defaults
* :func:`idle_words`   those that were set and change nothing
* :func:`data_words`   the parts of the data and their partition
* :func:`network_words`  the cost of the network
* :func:`curve_words`  the learning curve that the run is planned with
* :func:`plan_words`   the plan of the emulated fleet, as in a dry run
* :func:`make_plan`    the plan of any fleet
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fimi.coordinator import curves
from fimi.coordinator.strategies import STRATEGIES
from fimi.learning.data.batches import packed_bytes
from fimi.messaging.messages.facts import Profile
from fimi.messaging.topics import device_names
from fimi.monitor.sentences import describe
from fimi.optim.known_curve import KnownCurve
from fimi.optim.plans import Plan
from fimi.report.besides import expected_words
from fimi.report.layout import Paper, fitted
from fimi.report.planned import energies
from fimi.report.words import seconds
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.effects import idle
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.processes.devices import emulated_board

_VALUE_WIDTH = 22


def value_lines(scenario: Scenario, paper: Paper, *, whole: bool) -> Iterator[str]:
    """Every value with its origin; ``*`` marks what differs from the default.

    Args:
        scenario: configuration and origins.
        paper: layout of the output.
        whole: whether lines may be longer than the output is wide, so that nothing is cut.
    """
    changed = configuration.changed(scenario.config)
    rows = configuration.values(scenario.config)
    width = max(map(len, rows))
    for key, value in rows.items():
        shown, origin, mark = configuration.to_toml(value), scenario.origins[key], " "
        if key in changed:
            mark, origin = "*", f"{origin}, default {configuration.to_toml(changed[key])}"
        if not whole:
            shown = fitted(shown, _VALUE_WIDTH)
        line = f"{mark} {key:<{width}}  {shown:<{_VALUE_WIDTH}}  {origin}"
        line = line if whole else fitted(line, paper.width)
        yield paper.ink(line, "title") if key in changed else line


def differing(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """The values that differ from their defaults, with default and origin; nothing is cut."""
    changed, rows = configuration.changed(scenario.config), configuration.values(scenario.config)
    said = f"{len(changed)} of {len(rows)} values (*)" if changed else "no value differs"
    yield "differing", f"{said} from {'their defaults' if changed else 'its default'}"
    for key, default in changed.items():
        value, usual = configuration.to_toml(rows[key]), configuration.to_toml(default)
        yield "", f"{key} {value} (default {usual}, {scenario.origins[key]})"


def idle_words(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Values that were set and have no effect, each with the reason."""
    for number, sentence in enumerate(idle(scenario.config, scenario.origins).values()):
        yield "" if number else "unused", sentence


def data_words(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """The parts of the data, and their partition over the devices."""
    split = scenario.split
    test = split.test
    size = "×".join(map(str, test.image_shape))
    yield (
        "data",
        f"{test.name.split('/')[0]}: {size} images of {test.classes} classes; "
        f"{len(split.public)} public ({split.kind}), {len(split.validation)} for validation, "
        f"{len(split.private)} private, {len(test)} for tests",
    )
    if scenario.own_images:
        yield (
            "devices",
            "bring images of their own; how many of which class they say when they join",
        )
        return
    skew = scenario.skew
    known = [bits for bits in skew.entropy_bits if bits is not None]
    words = [
        f"{len(skew.samples)} devices with {min(skew.samples)} to {max(skew.samples)} samples each",
        f"label entropy {min(known):.2f} to {max(known):.2f} bits" if known else None,
        f"mean distance to the population {skew.mean_emd:.2f} (0 alike, 2 nothing in common)"
        if skew.mean_emd is not None
        else None,
    ]
    yield "devices", "; ".join(word for word in words if word)


def curve_words(scenario: Scenario) -> str:
    """The learning curve of a run with its provenance, or that it will be measured.

    Raises:
        fimi.optim.known_curve.CurveError: that of ``plan.curve`` is for another run.
    """
    known = _curve(scenario)
    if known is not None:
        return f"{known.law}, {known.provenance}"
    config = scenario.config
    if not STRATEGIES[config.run.strategy].plans_data:
        return f"none is needed: strategy {config.run.strategy} plans no data"
    what = f"{config.training.model} on {config.data.dataset}"
    why = f"none is built in for {what} with these settings: it"
    return (
        f"{'that of ' + what if config.plan.curve == 'fit' else why} is measured on the public "
        f"part when the run starts, within plan.curve_seconds {config.plan.curve_seconds:g}, or "
        "now by 'fimi learning-curve --write FILE', with plan.curve the file"
    )


def _curve(scenario: Scenario) -> KnownCurve | None:
    """The curve of a run, as far as it is there already."""
    config, subject = scenario.config, scenario.subject
    known = curves.chosen(config.plan, subject)
    if known is None:
        known = curves.kept(subject, scenario.split, curves.folder_of(config.run.directory))
    return known


class Unplanned(str):
    """Why there is no plan, in words."""


def plan_words(scenario: Scenario, say: Callable[[str], None] = lambda text: None) -> str:
    """The plan of the emulated fleet in one sentence, or why none was tried.

    Args:
        scenario: the configuration.
        say: called with what is planned for, where a target or budgets may make it take minutes.

    Raises:
        fimi.optim.problem.InfeasibleError: no plan meets the limits; says why, and what would help.
    """
    if scenario.own_images:
        return "not tried, for devices bring images of their own (data.shares)"
    config, profiles = scenario.config, {}
    names = device_names(config.fleet.devices, config.fleet.members)
    for index, (device, held) in enumerate(zip(names, scenario.shares, strict=True)):
        board = emulated_board(config, index, held)
        profiles[device] = Profile(
            device=device,
            boot_id="check",
            dataset=held.name,
            label_counts=held.label_counts(),
            hardware=board.describe(),
            board=board.model(),
            backend="",
        )
    plan = make_plan(scenario, profiles, say)
    if isinstance(plan, Unplanned):
        return plan
    known = _curve(scenario)
    synthetic = sum(sum(device.synthetic_counts) for device in plan.devices)
    most = max(device.samples for device in plan.devices)
    beyond = known.beyond(most) if known is not None and plan.error is not None else ""
    passes = "" if plan.epochs is None else f"{plan.epochs} local epochs, "
    expected = "" if plan.expected is None else f"; expected: {expected_words(plan.expected)}"
    return (
        f"there is one for the {len(profiles)} emulated boards: {passes}{synthetic} synthetic "
        f"samples, rounds of {seconds(plan.round_s)}, {energies(plan)}, found by "
        f"{plan.search}{expected}{'; ' if beyond else ''}{beyond}"
    )


def make_plan(
    scenario: Scenario,
    profiles: Mapping[str, Profile],
    say: Callable[[str], None] = lambda text: None,
) -> Plan | Unplanned:
    """The plan of a fleet before its run, or why none was tried.

    Args:
        scenario: the configuration.
        profiles: of the devices, by id.
        say: as of :func:`plan_words`.

    Raises:
        fimi.optim.problem.InfeasibleError: no plan meets the limits; says why, and what would help.
    """
    try:
        from fimi.coordinator.fleet_planner import FleetPlanner
        from fimi.coordinator.payloads import PayloadSizes
        from fimi.learning.training.torch_trainer import initial_parameters
    except ImportError as error:
        return Unplanned(f"not tried, for it needs the packages of the coordinator ({error})")
    config, test = scenario.config, scenario.split.test
    model = initial_parameters(
        config.training.model, test.classes, test.image_shape, seed=config.run.seed
    )
    known = _curve(scenario)
    if known is None and STRATEGIES[config.run.strategy].plans_data:
        return Unplanned("not tried, for its learning curve is measured first")
    planner = FleetPlanner(
        config,
        PayloadSizes.of(model, config.transfer),
        sample_bytes=packed_bytes(test.image_shape),
        curve=known.curve if known is not None else None,
    )
    planning = planner.planned_for(len(profiles))
    if planning is not None and (planning.target_accuracy or planning.budgets):
        say(describe(planning))
    plan = planner.plan(profiles).plan
    if plan is None:
        strategy = config.run.strategy
        return Unplanned(f"none is needed: devices do not train under strategy {strategy}")
    return plan


def network_words(scenario: Scenario) -> str:
    """The cost of the configured network, in one line; a network of the user's own is built."""
    cost = scenario.network
    return (
        f"{scenario.config.training.model}: {cost.parameters:,} parameters, "
        f"{cost.size_bytes:,} bytes a model, "
        f"{cost.forward_macs / 1e6:.3g} million multiply-accumulates an inference, "
        f"{cost.training_macs / 1e6:.3g} million a training sample "
        f"({cost.cycles_per_sample():.2g} cycles on the reference board)"
    )
