"""What a person decides about strategies: section ``strategy`` of a configuration.

The descriptions are the documentation that ``fimi init`` writes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

WeightPolicy = Literal["constant", "scheduled", "performance"]


class StrategySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Training on the server (genfl, fimi-genfl, aigc-only, sst) and pseudo-labels (semi)."""

    images_per_round: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="genfl, fimi-genfl, aigc-only: images of each class by which the server's "
            "set grows every round.",
        ),
    ] = 10
    images_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="The same: most images of each class in that set."),
    ] = 300
    server_epochs: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="Passes over its images in each training of the server; 0: "
            "training.epochs.",
        ),
    ] = 0
    weights: Annotated[
        WeightPolicy,
        Meta(
            description='genfl, fimi-genfl: weight κ2 of the server\'s model. "constant": '
            'server_weight; "scheduled": from there in equal steps to server_weight_end in the '
            'last round; "performance": by the errors of both models on public images.'
        ),
    ] = "constant"
    server_weight: Annotated[
        float, Meta(ge=0, le=1, description="κ2, of the first round where it is scheduled.")
    ] = 0.3
    server_weight_end: Annotated[
        float, Meta(ge=0, le=1, description='κ2 of the last round with weights = "scheduled".')
    ] = 0.0
    validation_images: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most public images that both models are judged by with weights = "
            '"performance".',
        ),
    ] = 1000
    unlabelled: Annotated[
        Literal["public", "synthetic"],
        Meta(
            description='semi: which images devices get without labels: "public", or "synthetic" '
            "ones of the configured generator."
        ),
    ] = "public"
    confidence_min: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="semi: an image is trained on in a round in which the global model is at "
            "least this sure of its label.",
        ),
    ] = 0.9
