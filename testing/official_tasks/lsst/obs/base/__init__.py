"""A test double of `lsst.obs.base`: `RawIngestTask` and `DefineVisitsTask`.

What it is: classes with the signatures that the Science Pipelines' package had in June 2026, and with its documented
behaviour as far as a caller can tell: which callback is called when and with what, which errors end a run and which
are raised at its end, what is one transaction, that a new exposure's record is made from one of its files. They write
through a real Butler, so that what a caller makes of them can be read back from a repository.

What it is not: the Science Pipelines. Headers are translated by `autoingest.instruments`, and so are regions; files
are read by astropy; index files are not looked for, and nothing is done in parallel. Equal repositories here say
nothing of the values that the genuine tasks write: for these there are the conformance tests of translation and
geometry. And that the genuine tasks behave as described is shown only where they are installed and the same tests run.
"""

from .raws import RawExposureData, RawFileData, RawIngestConfig, RawIngestTask
from .visits import DefineVisitsConfig, DefineVisitsTask

__all__ = [
    "DefineVisitsConfig",
    "DefineVisitsTask",
    "RawExposureData",
    "RawFileData",
    "RawIngestConfig",
    "RawIngestTask",
]
