"""A run as one file that can be given away, and whether such a file holds.

* :mod:`~fimi.record.bundle.contents`  the files of a bundle: store, tables, readings, environment
* :mod:`~fimi.record.bundle.privacy`   what is taken out of them: secrets, folders, names
* :mod:`~fimi.record.bundle.names`     which names a store has, and what stands for them
* :mod:`~fimi.record.bundle.crate`     their description, ``ro-crate-metadata.json``
* :mod:`~fimi.record.bundle.archive`   a zip of the same bytes each time, read without trust
* :mod:`~fimi.record.bundle.making`    all of this together
* :mod:`~fimi.record.bundle.findings`  what looking at a bundle finds
* :mod:`~fimi.record.bundle.files`     files against manifest, description and store
* :mod:`~fimi.record.bundle.consequences`  tables and figures, from the phases once more
* :mod:`~fimi.record.bundle.verify`    digests, completeness, and every joule once more

The format is documented in ``docs/bundle.md``.
"""
