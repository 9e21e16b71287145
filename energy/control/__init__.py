"""Setting what a plan asks for, reading it back, and putting back what was there.

* :mod:`energy.control.journal`    what has been changed, on disk before it is changed
* :mod:`energy.control.cpufreq`    the kernel's frequency caps
* :mod:`energy.control.nvpmodel`   the power modes of NVIDIA Jetson
* :mod:`energy.control.cpu_quota`  a share of the processor's time: a duty cycle, no frequency
* :mod:`energy.control.frequency`  which of these three is used
* :mod:`energy.control.rate`       what limits the uplink
* :mod:`energy.control.traffic`    a rate cap on a network interface
* :mod:`energy.control.programs`   running the programs that some of them need
"""
