"""Formatters by name.

The datastore keeps the name of the class that reads a dataset, and takes it from a class. The Science Pipelines'
classes need the whole stack to be imported; a subclass that carries their module and name leaves the same row.
"""

from __future__ import annotations

from functools import cache

from lsst.daf.butler import FormatterV2

GUIDER_FORMATTER = "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
"""What reads a ``guider_raw``."""


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
