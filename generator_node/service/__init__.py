"""Serving devices: from the images they lack to their batches.

* :mod:`~fimi.generator_node.service.node`  requests from the coordinator in, offers of batches out
* :mod:`~fimi.generator_node.service.service`       one queue, drawn in chunks across devices
* :mod:`~fimi.generator_node.service.device_batch`  one device's batch while it is made
* :mod:`~fimi.generator_node.service.drawing`  from addresses of images to judged draws in the pool
* :mod:`~fimi.generator_node.service.pool`          every draw, on disk, once
* :mod:`~fimi.generator_node.service.gate`          which images are good enough
* :mod:`~fimi.generator_node.service.seeds`         a seed for every image of every device
"""
