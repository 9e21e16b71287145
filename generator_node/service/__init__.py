"""The service of the generator node: from requests to the devices' batches.

* :mod:`~fimi.generator_node.service.node`          the node: receives requests, offers batches
* :mod:`~fimi.generator_node.service.service`       one queue, drawn in chunks across devices
* :mod:`~fimi.generator_node.service.device_batch`  one device's batch while it is made
* :mod:`~fimi.generator_node.service.drawing`       draws, judges and keeps images
* :mod:`~fimi.generator_node.service.pool`          every draw, on disk, once
* :mod:`~fimi.generator_node.service.gate`          the quality gate: accepts or refuses images
* :mod:`~fimi.generator_node.service.showcase`      a few images for people to look at
* :mod:`~fimi.generator_node.service.trial`         whether a generator is of any use
* :mod:`~fimi.generator_node.service.seeds`         a seed for every image of every device
"""
