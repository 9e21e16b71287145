"""Tries the trained model on this device, one image at a time.

Accuracy, latency and joules come from the same inferences, after a few for warming up. The images
are the device's own and never leave it; only the share of right answers does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fimi.energy.hardware import Hardware
from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.resting import When, above, enough_s, fit
from fimi.learning.data.dataset import Dataset
from fimi.learning.training.classifier import Classifier
from fimi.messaging.messages.facts import Trial
from fimi.messaging.messages.orders import DeploymentTest, ModelFile

WARM_UP = 5
"""Number of inferences for warming up, which are not counted."""

LONGEST_S = 60.0
"""A meter that cannot tell the power of inferences in this time is not asked again, s."""


def try_file(
    file: ModelFile,
    payload: bytes,
    data: Dataset,
    order: DeploymentTest,
    *,
    hardware: Hardware,
    ledger: Ledger,
    cancelled: Callable[[], bool],
) -> Trial:
    """Run a file on the device's own images.

    Every inference is reported to the hardware. The ledger meters them as one phase; no phase may
    be open. The board rests before and after them, so that the energy above resting is known as
    well. On a physical board, and where the meter is late, inferences last as long as the meter
    needs; where it cannot tell their power, they are made anew for twice as long, up to
    :data:`LONGEST_S`. When ``cancelled`` returns true, the trial ends after the running inference.

    Raises:
        fimi.learning.onnx.graphs.GraphError: the file cannot be used, or is for other images.
        RuntimeError: ONNX Runtime failed.
    """
    classifier = Classifier(payload, data.classes, data.image_shape)
    count = min(order.images, len(data))
    for i in range(WARM_UP):
        classifier.logits(data.images[i % count : i % count + 1])
    described = hardware.describe()
    least_s = rest_s = enough_s(described.meter)
    if described.kind == "emulated" and not described.meter.response.settling_s:
        least_s = 0.0
    seconds = max(order.seconds, least_s)
    ledger.drop()
    ledger.take_evidence()
    _rest(hardware, ledger, "before", rest_s, cancelled)
    while True:
        answers, latencies = _inferences(
            classifier, data, order, seconds, hardware=hardware, ledger=ledger, cancelled=cancelled
        )
        if not latencies:
            return Trial(variant=file.variant, error="the agent was asked to stop")
        _rest(hardware, ledger, "after", rest_s, cancelled)
        metered = ledger.take()[-1]
        if metered.resolved or metered.duration_s >= LONGEST_S or cancelled():
            break
        seconds = 2.0 * metered.duration_s
    seen = min(count, len(latencies))
    return Trial(
        variant=file.variant,
        inferences=len(latencies),
        images=seen,
        accuracy=float(np.mean(answers[:seen] == data.labels[:seen])),
        latency_median_s=float(np.median(latencies)),
        latency_p95_s=float(np.percentile(latencies, 95)),
        latency_kind="emulated" if described.kind == "emulated" else "measured",
        metered=metered,
        above=_above_rest(metered, ledger.take_evidence()),
    )


def _rest(
    hardware: Hardware, ledger: Ledger, when: When, seconds: float, cancelled: Callable[[], bool]
) -> None:
    if seconds and not cancelled():
        with ledger.resting(when):
            hardware.rest(seconds, cancelled)


def _inferences(
    classifier: Classifier,
    data: Dataset,
    order: DeploymentTest,
    seconds: float,
    *,
    hardware: Hardware,
    ledger: Ledger,
    cancelled: Callable[[], bool],
) -> tuple[NDArray[np.int64], list[float]]:
    """Answers and latencies, s, of as many inferences as fit ``seconds``, one phase."""
    now = hardware.clock.now_s
    count = min(order.images, len(data))
    answers: list[int] = []
    latencies: list[float] = []
    with ledger.phase("inference"):
        began_s = now_s = now()
        while len(latencies) < order.images or now_s - began_s < seconds:
            if cancelled():
                break
            at = len(latencies) % count
            before_s = now()
            answers.append(int(classifier.logits(data.images[at : at + 1]).argmax()))
            hardware.has_computed(order.training_share)
            now_s = now()
            latencies.append(now_s - before_s)
    return np.array(answers, np.int64), latencies


def _above_rest(metered: PhaseRecord, evidence: Evidence | None) -> Energy | None:
    """The energy of all inferences above resting; ``None`` where one of both is unknown."""
    resting = fit(evidence.rests) if evidence is not None else None
    if resting is None or metered.energy is None or not metered.resolved:
        return None
    middle_s = metered.start_s + metered.duration_s / 2.0
    return above(metered.energy, metered.duration_s, middle_s, resting)
