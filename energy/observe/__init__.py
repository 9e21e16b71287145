"""What the board did: observations besides its energy.

* :mod:`fimi.energy.observe.cycles`      CPU cycles of this process, where the kernel counts them
* :mod:`fimi.energy.observe.frequency`   the achieved frequency, and the processor's temperature
* :mod:`fimi.energy.observe.throttling`  how often the processor was throttled, and by what
* :mod:`fimi.energy.observe.link`        rate and signal of the network interface
"""
