"""The process that makes synthetic images for the devices.

What draws:

* :mod:`generator_node.generators`      what a generator is: class ids and seeds in, images out
* :mod:`generator_node.onnx_diffusion`  class-conditional diffusion with ONNX Runtime
* :mod:`generator_node.diffusion`       the same with PyTorch, for GPUs
* :mod:`generator_node.solver`          the reverse process as numbers
* :mod:`generator_node.gan`             a conditional GAN's generator
* :mod:`generator_node.text_to_image`   any text-to-image pipeline of diffusers
* :mod:`generator_node.prompts`         what it is asked for
* :mod:`generator_node.bootstrap`       public images, slightly changed
* :mod:`generator_node.public_samples`  public images as they are
* :mod:`generator_node.card`            what a trained generator makes and was made from
* :mod:`generator_node.folder`          a trained generator at rest
* :mod:`generator_node.opening`         which generator serves a public part

What trains and measures:

* :mod:`generator_node.network`       the U-Net, its noise schedule and its solver
* :mod:`generator_node.training`      training it on public data
* :mod:`generator_node.gan_training`  training a GAN on public data
* :mod:`generator_node.augmentation`  small random changes of training images
* :mod:`generator_node.checkpoint`    a training in the middle, on disk
* :mod:`generator_node.course`    a training on its way: watched, previewed, gone on with
* :mod:`generator_node.onnx_export`   networks as ONNX graphs
* :mod:`generator_node.judge`         the classifier that judges images
* :mod:`generator_node.quality`       the class accuracy score
* :mod:`generator_node.evaluation`    a generator in numbers, next to real images

What serves:

* :mod:`generator_node.seeds`     a seed for every image of every device
* :mod:`generator_node.gate`      what of the images is good enough
* :mod:`generator_node.pool`      every draw, on disk, once
* :mod:`generator_node.drawing`   from addresses of images to judged draws in the pool
* :mod:`generator_node.making`    a device's batch in the making
* :mod:`generator_node.service`   from devices' requests to their batches
* :mod:`generator_node.node`      the service on the network

What crosses the network: the number of images per class that a device lacks comes in, batches go
out. No data of a device ever reaches this process, and what it was trained on is public.
"""
