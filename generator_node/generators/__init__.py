"""What draws images: class ids and seeds in, images and their provenance out.

* :mod:`~fimi.generator_node.generators.base`            what a generator is
* :mod:`~fimi.generator_node.generators.onnx_diffusion`  class-conditional diffusion with ONNX
  Runtime
* :mod:`~fimi.generator_node.generators.diffusion`       the same with PyTorch, for GPUs
* :mod:`~fimi.generator_node.generators.solver`          the reverse process as numbers
* :mod:`~fimi.generator_node.generators.gan`             a conditional GAN's generator
* :mod:`~fimi.generator_node.generators.text_to_image`   any text-to-image pipeline of diffusers
* :mod:`~fimi.generator_node.generators.prompts`         its prompts
* :mod:`~fimi.generator_node.generators.bootstrap`       public images, slightly changed
* :mod:`~fimi.generator_node.generators.public_samples`  public images as they are
* :mod:`~fimi.generator_node.generators.card`  what a trained generator makes and what it was made
  from
* :mod:`~fimi.generator_node.generators.folder`          a trained generator on disk
* :mod:`~fimi.generator_node.generators.open`            which generator serves a public part
"""
