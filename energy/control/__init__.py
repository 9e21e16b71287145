"""Setting what a plan asks for, reading it back, and restoring the previous state.

* :mod:`fimi.energy.control.journal`    previous states, on disk before a change is made
* :mod:`fimi.energy.control.cpufreq`    the kernel's frequency caps
* :mod:`fimi.energy.control.refusals`  why a file could not be written, and what helps
* :mod:`fimi.energy.control.clamps`     what holds a clock below the cap that was set
* :mod:`fimi.energy.control.nvpmodel`   the power modes of NVIDIA Jetson
* :mod:`fimi.energy.control.cpu_quota`  a share of the processor's time: a duty cycle, no frequency
* :mod:`fimi.energy.control.frequency`  chooses one of these three
* :mod:`fimi.energy.control.devfreq`    the clock of a GPU
* :mod:`fimi.energy.control.affinity`   the cores that this process may run on
* :mod:`fimi.energy.control.setting`    a whole measured operating point, by one call
* :mod:`fimi.energy.control.rate`       limits the uplink
* :mod:`fimi.energy.control.traffic`    a rate cap on a network interface
* :mod:`fimi.energy.control.programs`   runs the programs that some of them need
"""
