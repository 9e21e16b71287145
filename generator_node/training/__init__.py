"""Training generators on public data, and measuring their images.

* :mod:`~fimi.generator_node.training.network`  the U-Net, its noise schedule and its solver
* :mod:`~fimi.generator_node.training.diffusion_training`  training a diffusion model
* :mod:`~fimi.generator_node.training.gan_training`        training a GAN
* :mod:`~fimi.generator_node.training.loop`                the loop of both: progress, previews,
  checkpoints, resuming
* :mod:`~fimi.generator_node.training.augmentation`        small random changes of training images
* :mod:`~fimi.generator_node.training.checkpoint`          the state of a training on disk
* :mod:`~fimi.generator_node.training.onnx_export`         networks as ONNX graphs for inference
* :mod:`~fimi.generator_node.training.judge`  training the classifier that judges images
* :mod:`~fimi.generator_node.training.quality`             the class accuracy score
* :mod:`~fimi.generator_node.training.evaluation`          scores of a generator and of real images
"""
