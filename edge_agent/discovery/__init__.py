"""Plugs and meters that announce themselves at a broker, as lines for a board's profile.

* :mod:`~fimi.edge_agent.discovery.listening`      hears, asks, and puts all findings together
* :mod:`~fimi.edge_agent.discovery.announced`      a finding, and its lines
* :mod:`~fimi.edge_agent.discovery.tasmota`        ``tasmota/discovery/<MAC>/config``
* :mod:`~fimi.edge_agent.discovery.shelly`         Shelly of all generations
* :mod:`~fimi.edge_agent.discovery.zigbee`         ``zigbee2mqtt/bridge/devices``
* :mod:`~fimi.edge_agent.discovery.homeassistant`  ``homeassistant/sensor/…/config`` of any maker
* :mod:`~fimi.edge_agent.discovery.published`      senders of ``fimi meter publish``
"""
