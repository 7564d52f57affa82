"""Header translation of the simulated LSSTCam, LSSTCamSim: LSSTCam's, without repairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astropy.time import Time, TimeDelta

from ..dates import utc
from .rubin import RubinTranslator
from .simonyi import TELESCOPES, SimonyiTranslator


class LsstCamSimTranslator(SimonyiTranslator, instrument="LSSTCamSim"):
    """Translates the headers of LSSTCamSim."""

    on_telescope_after = utc("2025-03-01")

    _const_map: dict[str, Any] = {"has_simulated_content": True}  # noqa: RUF012

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is this camera's."""
        return super().accepts(header) and header.get("TELESCOP") in TELESCOPES

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins: always twelve."""
        return RubinTranslator.observing_date_to_offset(observing_date)
