"""The agent as a service of its machine: installed in one step, watched, updated with a way back.

* :mod:`~fimi.edge_agent.service.install`    makes a machine a board, and takes that away again
* :mod:`~fimi.edge_agent.service.placing`    files that are written, and those changed by hand
* :mod:`~fimi.edge_agent.service.roots`      files of root's: nobody else gets in their way
* :mod:`~fimi.edge_agent.service.needs`      what the agent of a board needs beyond a user's rights
* :mod:`~fimi.edge_agent.service.unit`       its systemd unit
* :mod:`~fimi.edge_agent.service.rules`      its rules for kernel files, and its configuration
* :mod:`~fimi.edge_agent.service.notify`     what it tells the service manager
* :mod:`~fimi.edge_agent.service.release`    a signed wheel, checked
* :mod:`~fimi.edge_agent.service.receiving`  how a board receives one
* :mod:`~fimi.edge_agent.service.versions`   versions that are tried, kept, or left again
"""
