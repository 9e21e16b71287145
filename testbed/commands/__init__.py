"""The commands of ``fimi``, a module per subject; :mod:`fimi.testbed.cli` puts them together."""
