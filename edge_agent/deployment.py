"""Tries the trained model on this device, one image at a time.

Accuracy, latency and joules come from the same inferences, after a few for warming up. The images
are the device's own and never leave it; only the share of right answers does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger
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
    be open. When ``cancelled`` returns true, the trial ends after the running inference.

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
    with ledger.phase("inference"):
        began_s = now_s = now()
        while len(latencies) < order.images or now_s - began_s < order.seconds:
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
    seen = min(count, len(latencies))
    return Trial(
        variant=file.variant,
        inferences=len(latencies),
        images=seen,
        accuracy=right / seen,
        latency_median_s=float(np.median(latencies)),
        latency_p95_s=float(np.percentile(latencies, 95)),
        latency_kind="emulated" if hardware.describe().kind == "emulated" else "measured",
        metered=ledger.take()[-1],
    )
