"""The process that makes synthetic samples for the devices.

* :mod:`~fimi.generator_node.generators`  generators: diffusion models, GANs, text-to-image models,
  public images
* :mod:`~fimi.generator_node.training`    training and measuring generators on public data
* :mod:`~fimi.generator_node.service`     the node on the network, its queue, pool and quality gate

The node receives the number of images per class that a device is to get, and sends batches. No data
of a device ever reaches this process, and its generators were trained on public data.
"""
