"""The process that makes synthetic images for the devices.

* :mod:`~fimi.generator_node.generators`  what draws: diffusion models, GANs, text-to-image models,
  public images
* :mod:`~fimi.generator_node.training`    training and measuring generators on public data
* :mod:`~fimi.generator_node.service`  the node on the network, its queue, its pool and its quality
  gate

What crosses the network: the number of images per class that a device lacks comes in, batches go
out. No data of a device ever reaches this process, and what it was trained on is public.
"""
