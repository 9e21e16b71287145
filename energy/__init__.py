"""What a joule is.

* :mod:`energy.joules`       a joule with its kind, source, scope and uncertainty
* :mod:`energy.cost_model`   seconds and joules of a round as formulas (docs/model.md)
* :mod:`energy.clock`        monotonic and virtual time
* :mod:`energy.meters`       things that can be read: counters, power meters, declared constants
* :mod:`energy.integration`  readings to joules, with uncertainty
* :mod:`energy.ledger`       every joule of a device, phase by phase
* :mod:`energy.hardware`     the one interface between an agent and the board it runs on
* :mod:`energy.host`         the physical board: profile file, meter, what is set and observed
* :mod:`energy.control`      setting the frequency and the sending rate, and putting them back
* :mod:`energy.observe`      what the board really did: clock, throttling, link
* :mod:`energy.sysfs`        reading numbers out of the kernel's files
* :mod:`energy.emulated`     emulated boards in virtual time, declared in :mod:`energy.boards`
* :mod:`energy.emulated_physics`  the same with heat, leakage, throttling (:mod:`energy.silicon`)
  and a meter that only sees what it reads (:mod:`energy.sampled_meter`)
* :mod:`energy.calibration`  a sweep over a board and what it found: fits in
  :mod:`energy.calibration_fit` (quantiles in :mod:`energy.student`), emulated boards in
  :mod:`energy.calibration_emulated`

Imports none of the other packages.
"""
