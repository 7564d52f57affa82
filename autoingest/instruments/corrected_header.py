"""A header as the translation needs it: corrected, then repaired, once."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from . import cards
from .identity import Rules

log = structlog.get_logger(__name__)


def prepared(rules: type[Rules], header: Mapping[str, object], corrections: Mapping[str, object]) -> dict[str, object]:
    """Return a header with the corrections of its exposure, and the repairs of its camera.

    Repairs are made to the corrected header: they win. A repair that raises is logged, and those that come after it
    are not done; what was changed before it stays.

    Parameters
    ----------
    rules
        The camera's.
    header
        Cards of the file; they stay as they are.
    corrections
        Cards that replace the header's.
    """
    result = {**header, **corrections}
    try:
        rules.repair(result)
    except Exception as err:
        log.warning(
            "repairs of a header ended early", instrument=rules.camera.name, obs_id=header.get("OBSID"), error=repr(err)
        )
    result[cards.REPAIRED] = True
    return result
