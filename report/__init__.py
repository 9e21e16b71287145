"""The report of a run, made from its record alone.

* :mod:`~fimi.report.page`            one self-contained page, ``report.html``
* :mod:`~fimi.report.sections`        its texts: title, notices, headline, method
* :mod:`~fimi.report.page_tables`     its tables
* :mod:`~fimi.report.figures`         its pictures, but for those of the next two modules
* :mod:`~fimi.report.energy_figures`  joules and seconds, measured beside predicted
* :mod:`~fimi.report.error_figures`  planned and measured errors of devices' models
* :mod:`~fimi.report.learning_figures`  what updates say of learning, round by round
* :mod:`~fimi.report.planned`         both energies of a plan, and how they held
* :mod:`~fimi.report.prediction`      predictions against measurements, round by round
* :mod:`~fimi.report.resolution`      how figures of phases were made, and resting powers
* :mod:`~fimi.report.observed`        table and words of :mod:`fimi.record.observed`
* :mod:`~fimi.report.coding`          the same of :mod:`fimi.record.codings`
* :mod:`~fimi.report.second`          the same of :mod:`fimi.record.second`
* :mod:`~fimi.report.labels`  how uneven the devices' labels are, before and after the plan fills
  them
* :mod:`~fimi.report.attendance`      who took part: absent, late, not used; and resumes
* :mod:`~fimi.report.interventions`   what people asked of the run while it went on
* :mod:`~fimi.report.screened`        updates that were clipped, devices set aside, models kept
* :mod:`~fimi.report.besides`         generation, training on the server, pseudo-labels
* :mod:`~fimi.report.carbon`          emissions by ISO/IEC 21031, in words and as a table
* :mod:`~fimi.report.deployment`      the trained model as files, and how devices ran it
* :mod:`~fimi.report.terminal`        the report in a terminal, and as plain text
* :mod:`~fimi.report.layout`          text for a terminal of 80 columns
* :mod:`~fimi.report.document`        a run in numbers, as ``--format json`` prints it
* :mod:`~fimi.report.comparison`      runs of an experiment compared
* :mod:`~fimi.report.collection`      runs as a collection: listed, compared
* :mod:`~fimi.report.latex`           tables for a paper
* :mod:`~fimi.report.latex_letters`   text as LaTeX, and how wide it is
* :mod:`~fimi.report.run_latex`       those of a run
* :mod:`~fimi.report.plots`           figures for a paper, of runs and experiments
* :mod:`~fimi.report.skeleton`        one page, and the frames that all pages share
* :mod:`~fimi.report.words`           numbers and kinds of joules as text
* :mod:`~fimi.report.markup`          HTML that cannot be injected into
* :mod:`~fimi.report.tokens`          colours of pages and pictures, light and dark
* :mod:`~fimi.report.plot_style`      one palette, shapes beside colours, axes with units

Imports :mod:`fimi.record` and the rooms below it.
"""
