"""Defaults of rounds(Δ, a) = r ln(1/(1 − a)) e^(cΔ), docs/model.md (34).

They are for the small CNN on the digits, fitted where error limits are chosen
(docs/decisions/0066-rounds-where-plans-are-chosen.md) and brought to the errors of the built-in
learning curve (docs/decisions/0078-a-curve-has-a-provenance.md). The model itself is
:class:`fimi.optim.target.RoundsModel`; a problem file and a configuration have keys for both.

* :data:`ROUNDS_SCALE`        r
* :data:`ROUNDS_SENSITIVITY`  c
"""

ROUNDS_SCALE = 0.304
ROUNDS_SENSITIVITY = 15.3
