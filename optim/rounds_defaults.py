"""Defaults of rounds(Δ, E, a) = r ln(1/(1 − a)) e^(cΔ) (E/5)^(−κ), docs/model.md (34).

They are for the small CNN on the digits, fitted where error limits are chosen
(docs/decisions/0066-rounds-where-plans-are-chosen.md, 0079-local-epochs-are-planned.md). The model
itself is :class:`fimi.optim.rounds_model.RoundsModel`; a problem file and a configuration have keys
for all three.

* :data:`ROUNDS_SCALE`        r, with :data:`EPOCHS` local epochs
* :data:`ROUNDS_SENSITIVITY`  c
* :data:`EPOCHS_EXPONENT`     κ
* :data:`ROUNDS_OF`           what they were fitted to
"""

ROUNDS_SCALE = 0.23
ROUNDS_SENSITIVITY = 19.3
EPOCHS_EXPONENT = 0.73
EPOCHS = 5
"""The local epochs for which r is given."""
ROUNDS_OF = ("digits", "small-cnn")
"""Data set and network."""
