"""Header translation of the simulated commissioning camera, LSSTComCamSim."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astro_metadata_translator import cache_translation
from astropy import units as u
from astropy.coordinates import AltAz

from . import cards
from .simonyi import SimonyiTranslator


class ComCamSimTranslator(SimonyiTranslator, instrument="LSSTComCamSim"):
    """Translates the headers of LSSTComCamSim, whose telescope is simulated, too."""

    on_telescope = in_chile = 0.0  # always

    @classmethod
    def repairs(cls, header: Mapping[str, object]) -> dict[str, object]:
        """Return the pointing that was asked for as the one that was reached, where only that is told."""
        return {
            f"{card}START": header[card]
            for card in ("RA", "DEC")
            if cards.defined(header, card) is not None and not header.get(f"{card}START")
        }

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return the altitude as the airmass tells it, in the north, where the simulation told no more."""
        if self._first("ELSTART") and self._first("AZSTART"):
            return super().to_altaz_begin()
        airmass = self._optional("AMSTART")
        if airmass is None or airmass < 1:
            return None
        altitude = np.arcsin(1 / airmass) * u.rad
        return AltAz(0 * u.deg, altitude, obstime=self.to_datetime_begin(), location=self.to_location())
