"""Meters that another machine reads and publishes over MQTT.

* :mod:`~fimi.energy.meters.elsewhere.topic`     a meter read from any topic
* :mod:`~fimi.energy.meters.elsewhere.payload`   the number in a message: JSON pointer and unit
* :mod:`~fimi.energy.meters.elsewhere.wire`      what ``fimi meter publish`` sends, and its topics
* :mod:`~fimi.energy.meters.elsewhere.arrivals`  how often messages come
* :mod:`~fimi.energy.meters.elsewhere.clocks`    the difference between two machines' clocks
* :mod:`~fimi.energy.meters.elsewhere.listener`  a connection to a home's broker
"""
