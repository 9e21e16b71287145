"""Training the judge of the quality gate: a classifier on public data, as an ONNX graph.

It is the small CNN, trained on images with the same random changes as in the generator's training,
and served by :class:`fimi.generator_node.service.gate.Judge`. Fréchet distances are computed on its
features, the values before the last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimi.generator_node.training.network import torch_threads
from fimi.generator_node.training.onnx_export import to_onnx
from fimi.generator_node.training.quality import CLASSIFIER_STEPS, fit
from fimi.learning.data.dataset import Dataset
from fimi.learning.networks import models


class _Looks(nn.Module):
    """From images as stored to logits and features."""

    def __init__(self, network: models.SmallCNN) -> None:
        super().__init__()
        self.head = network.head
        self.body = network
        self.body.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.body(images.float() / 255.0))
        return self.head(features), features


def train_judge(
    public: Dataset, *, seed: int = 0, steps: int = CLASSIFIER_STEPS, threads: int = 1
) -> bytes:
    """A judge trained on public data: a graph for :class:`fimi.generator_node.service.gate.Judge`.

    The seed determines weights, batches and changes.
    """
    with torch_threads(threads):
        network = models.build("small-cnn", public.classes, public.image_shape, seed=seed)
        fit(network, public, seed, steps, augmented=True)
        assert isinstance(network, models.SmallCNN)
        example = torch.from_numpy(public.images[:2])
        return to_onnx(
            _Looks(network), {"images": example}, ("logits", "features"), batched={"images"}
        )
