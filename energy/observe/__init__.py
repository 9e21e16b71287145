"""What the board really did.

* :mod:`fimi.energy.observe.cycles`  CPU cycles of this process, where the kernel lets it count them
* :mod:`fimi.energy.observe.frequency`   the clock it really ran at
* :mod:`fimi.energy.observe.frequency` how warm the processor is
* :mod:`fimi.energy.observe.throttling`  how often it was slowed down, and by what
* :mod:`fimi.energy.observe.link`        rate and signal of the network interface
"""
