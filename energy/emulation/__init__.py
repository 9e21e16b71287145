"""Boards that are emulated in virtual time. All their joules are labelled ``emulated``.

* :mod:`~fimi.energy.emulation.presets`         makes of boards, each figure with its origin
* :mod:`~fimi.energy.emulation.radios`          their radios, each figure with its origin
* :mod:`~fimi.energy.emulation.boards`          declarations of boards, one by one or a fleet
* :mod:`~fimi.energy.emulation.board`           a board that costs what its cost model says
* :mod:`~fimi.energy.emulation.physical_board`  a board with heat, leakage, throttling and voltage
  steps
* :mod:`~fimi.energy.emulation.chip`            the physics of its processor
* :mod:`~fimi.energy.emulation.meter`           a power meter with gain error, noise and resolution
* :mod:`~fimi.energy.emulation.sampled_meter`   a power meter that misses what happens between its
  readings
* :mod:`~fimi.energy.emulation.late_meter`      a meter that shows a power late, seldom or as a
  mean, or counts
* :mod:`~fimi.energy.emulation.meter_families`  which late meters emulated boards may have
"""
