"""Setting what a plan asks for, reading it back, and putting back what was there.

* :mod:`fimi.energy.control.journal`    what has been changed, on disk before it is changed
* :mod:`fimi.energy.control.cpufreq`    the kernel's frequency caps
* :mod:`fimi.energy.control.nvpmodel`   the power modes of NVIDIA Jetson
* :mod:`fimi.energy.control.cpu_quota`  a share of the processor's time: a duty cycle, no frequency
* :mod:`fimi.energy.control.frequency`  which of these three is used
* :mod:`fimi.energy.control.rate`       what limits the uplink
* :mod:`fimi.energy.control.traffic`    a rate cap on a network interface
* :mod:`fimi.energy.control.programs`   running the programs that some of them need
"""
