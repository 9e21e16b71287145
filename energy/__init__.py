"""What a joule is.

* :mod:`energy.joules`       a joule with its kind, source, scope and uncertainty
* :mod:`energy.cost_model`   seconds and joules of a round as formulas (docs/model.md)
* :mod:`energy.clock`        monotonic and virtual time
* :mod:`energy.meters`       things that can be read: counters, power meters, declared constants
* :mod:`energy.integration`  readings to joules, with uncertainty
* :mod:`energy.ledger`       every joule of a device, phase by phase
* :mod:`energy.work_meter`   joules of work on this machine that is no device's
* :mod:`energy.hardware`     the one interface between an agent and the board it runs on
* :mod:`energy.host`         the physical board: meter, what is set and observed; what its user
  knows of it: :mod:`energy.host_profile`
* :mod:`energy.control`      setting the frequency and the sending rate, and putting them back
* :mod:`energy.observe`      what the board really did: clock, heat, throttling, link
* :mod:`energy.sysfs`        reading numbers out of the kernel's files
* :mod:`energy.emulated`     emulated boards in virtual time, declared in :mod:`energy.boards`,
  makes in :mod:`energy.presets`, their meter in :mod:`energy.emulated_meter`
* :mod:`energy.emulated_physics`  the same with heat, leakage, throttling (:mod:`energy.silicon`)
  and a meter that only sees what it reads (:mod:`energy.sampled_meter`)
* :mod:`energy.sweep`        frequencies, load and traffic of a board, each metered for a while
* :mod:`energy.calibration`  what a sweep says of its cost: fits in :mod:`energy.calibration_fit`
  and :mod:`energy.radio_fit` (quantiles in :mod:`energy.student`), how well they predict in
  :mod:`energy.held_out`, emulated boards in :mod:`energy.calibration_emulated`

Imports none of the other packages.
"""
