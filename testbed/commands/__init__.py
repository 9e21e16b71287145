"""The commands of ``fimi``, a module per subject; :mod:`testbed.cli` puts them together."""
