"""Data sets, their partition over devices, the contract of a run, and all of them as bytes.

* :mod:`~fimi.learning.data.dataset`  labelled images and their split into public, validation,
  private and test part
* :mod:`~fimi.learning.data.contract`           what the data of a run are, with one digest
* :mod:`~fimi.learning.data.coverage`           exchanges until no part lacks a class
* :mod:`~fimi.learning.data.collection`         the interface for a data set of the user's own
* :mod:`~fimi.learning.data.registry`           data sets by name
* :mod:`~fimi.learning.data.torchvision`  published sets: CIFAR, Fashion-MNIST, GTSRB (torchvision
  is imported on demand)
* :mod:`~fimi.learning.data.folder`             images in a folder per class
* :mod:`~fimi.learning.data.images`             decoding, size and mode of image files
* :mod:`~fimi.learning.data.partition`          Dirichlet partitions over devices
* :mod:`~fimi.learning.data.partition_schemes`  all ways to divide data: Dirichlet, shards, IID,
  quantity skew
* :mod:`~fimi.learning.data.partition_file`     a partition as a file
* :mod:`~fimi.learning.data.partition_summary`  how uneven a partition is
* :mod:`~fimi.learning.data.image_coding`  images as differences, which compress better
* :mod:`~fimi.learning.data.changes`            small random changes of images
* :mod:`~fimi.learning.data.batches`            labelled images as bytes
* :mod:`~fimi.learning.data.use`                a share of a batch
* :mod:`~fimi.learning.data.packing`            named arrays as bytes with a note
* :mod:`~fimi.learning.data.tensor_header`      the header of such bytes, checked first
* :mod:`~fimi.learning.data.data_file`          labelled images as a file, with their contract
* :mod:`~fimi.learning.data.shares`             a device's share as bytes: indices or samples
* :mod:`~fimi.learning.data.leak`               whether a device holds test or public images
"""
