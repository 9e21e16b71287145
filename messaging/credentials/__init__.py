"""Who may be what in a fleet: its authority, its broker's rules, and the bundles of its peers.

All of it lies in one folder, on the machine of the broker or of whoever looks after the fleet:

* :mod:`~fimi.messaging.credentials.folder`     the folder: begins a fleet, enrols, rotates, revokes
* :mod:`~fimi.messaging.credentials.decided`    what was decided and issued: ``fleet.json``
* :mod:`~fimi.messaging.credentials.ownership`  whose the files are, and as whom the broker runs
* :mod:`~fimi.messaging.credentials.authority`  keys and certificates (needs ``cryptography``)
* :mod:`~fimi.messaging.credentials.rules`      who may write and read which topic, for Mosquitto
* :mod:`~fimi.messaging.credentials.settings`   Mosquitto's configuration

A peer needs none of them: it has its bundle (:mod:`fimi.messaging.bundle`).
"""
