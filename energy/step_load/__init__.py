"""What a meter's response is, found out with a load of known edges.

* :mod:`fimi.energy.step_load.load`     all cores busy and at rest by turns, in child processes
* :mod:`fimi.energy.step_load.busy`     one of these processes
* :mod:`fimi.energy.step_load.looks`    meters that are read as fast as they may be meanwhile
* :mod:`fimi.energy.step_load.steps`    refresh period and smallest step of what a meter showed
* :mod:`fimi.energy.step_load.fit`      delay and window, and their uncertainty
* :mod:`fimi.energy.step_load.compare`  two meters that saw the same load
* :mod:`fimi.energy.step_load.kept`     what was learned, as a table of the board's profile
* :mod:`fimi.energy.step_load.trying`   all of it: the load, the meters, what is learned
"""
