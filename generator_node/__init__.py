"""The process that makes synthetic images for the devices.

* :mod:`generator_node.generators`  what a generator is: class ids and seeds in, images out
* :mod:`generator_node.network`     the U-Net, its noise schedule and its solver
* :mod:`generator_node.card`        what a trained generator makes and was made from
* :mod:`generator_node.folder`      a trained generator at rest
* :mod:`generator_node.diffusion`   sampling from it
* :mod:`generator_node.training`    training it on public data
* :mod:`generator_node.quality`     how good its images are
* :mod:`generator_node.service`     from a device's request to its batch
* :mod:`generator_node.node`        the service on the network

What crosses the network: the number of images per class that a device lacks comes in, batches go
out. No data of a device ever reaches this process, and what it was trained on is public.
"""
