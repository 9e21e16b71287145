"""What the board really did.

* :mod:`energy.observe.cycles`      CPU cycles of this process, where the kernel lets it count them
* :mod:`energy.observe.frequency`   the clock it really ran at
* :mod:`energy.observe.temperature` how warm the processor is
* :mod:`energy.observe.throttling`  how often it was slowed down, and by what
* :mod:`energy.observe.link`        rate and signal of the network interface
"""
