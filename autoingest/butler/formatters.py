"""Formatters by name.

The datastore records the name of the class that reads a dataset, and derives it from a class. Importing the Science
Pipelines' classes needs the whole stack; a subclass with their module and name leaves the same row.
"""

from __future__ import annotations

from functools import cache

from lsst.daf.butler import FormatterV2

GUIDER_FORMATTER = "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
"""Formatter of ``guider_raw``."""


@cache
def named_formatter(name: str) -> type[FormatterV2]:
    """Return a class that the datastore records as the formatter `name`.

    Parameters
    ----------
    name
        Module and class, such as ``lsst.obs.lsst.rawFormatter.LsstCamRawFormatter``.
    """
    module, _, qualname = name.rpartition(".")
    return type(qualname, (FormatterV2,), {"__module__": module})
