"""Generators, which draw images: from class ids and seeds to images with their provenance.

* :mod:`~fimi.generator_node.generators.base`            the interface of a generator
* :mod:`~fimi.generator_node.generators.onnx_diffusion`  class-conditional diffusion with ONNX
  Runtime
* :mod:`~fimi.generator_node.generators.diffusion`       the same with PyTorch, for GPUs
* :mod:`~fimi.generator_node.generators.solver`          the coefficients of the denoising steps
* :mod:`~fimi.generator_node.generators.gan`             a conditional GAN's generator
* :mod:`~fimi.generator_node.generators.text_to_image`   any text-to-image pipeline of diffusers
* :mod:`~fimi.generator_node.generators.prompts`         its prompts
* :mod:`~fimi.generator_node.generators.class_meanings`  what class names mean, for prompts
* :mod:`~fimi.generator_node.generators.bootstrap`       public images, slightly changed
* :mod:`~fimi.generator_node.generators.public_samples`  public images as they are
* :mod:`~fimi.generator_node.generators.own`             a function of the user's own
* :mod:`~fimi.generator_node.generators.card`            the card of a trained generator: its
  images, its training data and its files
* :mod:`~fimi.generator_node.generators.folder`          a trained generator on disk
* :mod:`~fimi.generator_node.generators.open`            opens the generator for a public part
"""
