# ruff: noqa: D102  (the library says what each property means)
"""Header translation of the simulated commissioning camera, LSSTComCamSim."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
from astro_metadata_translator import cache_translation
from astropy import units as u
from astropy.coordinates import AltAz
from astropy.time import Time, TimeDelta

from .. import cards
from .rubin import RubinTranslator
from .simonyi import TELESCOPES, SimonyiTranslator

_ALTITUDE_OFF_SKY = 45.0
"""Degrees, where no airmass tells the altitude."""


class ComCamSimTranslator(SimonyiTranslator, instrument="LSSTComCamSim"):
    """Translates the headers of LSSTComCamSim, whose telescope is simulated, too."""

    _const_map: dict[str, Any] = {"has_simulated_content": True}  # noqa: RUF012

    @classmethod
    def accepts(cls, header: Mapping[str, object]) -> bool:
        """Tell whether a header is this camera's."""
        return super().accepts(header) and header.get("TELESCOP") in TELESCOPES

    @classmethod
    def repair(cls, header: MutableMapping[str, Any]) -> None:
        """Take the pointing that was asked for as the one that was reached, where only that is told."""
        for axis in ("RA", "DEC"):
            for card in (f"{axis}START", f"{axis}END"):
                if not header.get(card) and header.get(axis):
                    header[card] = header[axis]
        if not header.get("RADESYS") and header.get("RA") and header.get("DEC"):
            header["RADESYS"] = "ICRS"
        if not header.get("TELCODE"):
            header["TELCODE"] = header.get("CAMCODE") or str(header["OBSID"]).partition("_")[0]

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return the hours after midnight at which an observing day begins: always twelve."""
        return RubinTranslator.observing_date_to_offset(observing_date)

    def _is_installed(self) -> bool:
        return True

    def _sees_sky_by_type(self) -> bool | None:
        return RubinTranslator._sees_sky_by_type(self)

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return the altitude as the airmass tells it, in the north, where the simulation told no more."""
        if self._first("ELSTART") and self._first("AZSTART"):
            return super().to_altaz_begin()
        if not (self._first("RA") and self._first("DEC")):
            return None
        altitude = _ALTITUDE_OFF_SKY
        if self._is_on_sky():
            airmass = self._number("AMSTART")
            if airmass < 1:
                raise cards.unusable(self._header, "AMSTART", self.filename, "is no airmass")
            altitude = float(np.degrees(np.arcsin(1 / airmass)))
        return AltAz(0 * u.deg, altitude * u.deg, obstime=self.to_datetime_begin(), location=self.to_location())

    @cache_translation
    def to_altaz_end(self) -> AltAz | None:
        return super().to_altaz_end() if self._first("ELEND") and self._first("AZEND") else None
