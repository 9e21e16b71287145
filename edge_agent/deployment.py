"""Tries the trained model on this device, one image at a time.

Accuracy, latency and joules come from the same inferences, after a few for warming up. The images
are the device's own and never leave it; only the share of right answers does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fimi.energy.hardware import Hardware
from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.resting import above, enough_s, fit
from fimi.learning.data.dataset import Dataset
from fimi.learning.training.classifier import Classifier
from fimi.messaging.messages import DeploymentTest, ModelFile, Trial

WARM_UP = 5
"""Number of inferences for warming up, which are not counted."""


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
    be open. On a physical board, and where the meter is late, inferences are repeated until the
    meter can tell their power, and the board rests before and after them, so that the energy above
    resting is known as well. When ``cancelled`` returns true, the trial ends after the running
    inference.

    Raises:
        fimi.learning.onnx.graphs.GraphError: the file cannot be used, or is for other images.
        RuntimeError: ONNX Runtime failed.
    """
    classifier = Classifier(payload, data.classes, data.image_shape)
    count = min(order.images, len(data))
    for i in range(WARM_UP):
        classifier.logits(data.images[i % count : i % count + 1])
    now = hardware.clock.now_s
    latencies: list[float] = []
    right = 0
    described = hardware.describe()
    slow = described.kind == "physical" or described.meter.response.settling_s > 0.0
    least_s = enough_s(described.meter) if slow else 0.0
    ledger.take()
    ledger.take_evidence()
    if least_s:
        with ledger.resting("before"):
            hardware.rest(least_s, cancelled)
    with ledger.phase("inference"):
        began_s = now_s = now()
        while len(latencies) < order.images or now_s - began_s < max(order.seconds, least_s):
            if cancelled():
                break
            at = len(latencies) % count
            before_s = now()
            answer = int(classifier.logits(data.images[at : at + 1]).argmax())
            hardware.has_computed(order.training_share)
            now_s = now()
            if len(latencies) < count:
                right += answer == int(data.labels[at])
            latencies.append(now_s - before_s)
    if not latencies:
        return Trial(variant=file.variant, error="the agent was asked to stop")
    if least_s:
        with ledger.resting("after"):
            hardware.rest(least_s, cancelled)
    seen = min(count, len(latencies))
    metered = ledger.take()[-1]
    return Trial(
        variant=file.variant,
        inferences=len(latencies),
        images=seen,
        accuracy=right / seen,
        latency_median_s=float(np.median(latencies)),
        latency_p95_s=float(np.percentile(latencies, 95)),
        latency_kind="emulated" if described.kind == "emulated" else "measured",
        metered=metered,
        above=_above_rest(metered, ledger.take_evidence()),
    )


def _above_rest(metered: PhaseRecord, evidence: Evidence | None) -> Energy | None:
    """The energy of all inferences above resting; ``None`` where one of both is unknown."""
    resting = fit(evidence.rests) if evidence is not None else None
    if resting is None or metered.energy is None or not metered.resolved:
        return None
    middle_s = metered.start_s + metered.duration_s / 2.0
    return above(metered.energy, metered.duration_s, middle_s, resting)
