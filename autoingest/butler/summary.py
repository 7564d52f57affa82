"""Summaries of stored exposures."""

from __future__ import annotations

from typing import Any

from lsst.daf.butler import DimensionRecord

from .. import instruments
from ..model.exposures import ExposureSummary, Span, VisitState
from .register import GUIDER_RAW, run_name
from .visits import Visits


def summary(record: DimensionRecord, visits: Visits, repo: str, visit: VisitState) -> ExposureSummary:
    """Return the summary of a stored exposure.

    Parameters
    ----------
    record
        Its record.
    visits
        How exposures are grouped into visits.
    repo
        The repository, as it is configured.
    visit
        State of its visit.
    """
    instrument = record.instrument
    camera = instruments.get(instrument)
    kinds = (camera.raw_type, GUIDER_RAW) if camera.guiders else (camera.raw_type,)
    span = record.timespan
    return ExposureSummary(
        instrument=instrument,
        obs_id=record.obs_id,
        exposure=record.id,
        day_obs=record.day_obs,
        seq_num=record.seq_num,
        group=record.group,
        snap=max(0, (record.seq_num or 0) - (record.seq_start or 0)),
        observation_type=record.observation_type,
        observation_reason=record.observation_reason,
        science_program=record.science_program,
        target_name=record.target_name,
        physical_filter=record.physical_filter,
        can_see_sky=record.can_see_sky,
        timespan=Span(_isot(span.begin), _isot(span.end)),
        visits=tuple(visits.ids(record)),
        repo=repo,
        collections=tuple(run_name(kind, instrument) for kind in kinds),
        visit=visit,
    )


def _isot(time: Any) -> str | None:
    """Return a time of astropy in TAI, to a millisecond."""
    if time is None:
        return None
    rounded = time.tai.copy()
    rounded.precision = 3
    return str(rounded.isot)
