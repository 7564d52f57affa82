"""Whether a header is that of the object under whose key it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..model.objects import ExposureObject

OBS_ID = re.compile(r"([A-Z]{2}_[A-Z]_[0-9]{8})_([0-9]{1,6})")
_RAFT_SENSOR = re.compile(r"R[0-9]{2}_S[0-9GW][0-9]")


def contradiction(header: Mapping[str, object], obj: ExposureObject) -> str | None:
    """Tell in words in what a header contradicts the key; None if it is the object's own as far as it tells.

    Parameters
    ----------
    header
        Cards as they are in the file. Only ``OBSID``, ``RAFTBAY`` and ``CCDSLOT`` are looked at, and only where they
        have the form that keys have: some old headers name exposures and detectors otherwise.
    obj
        What the key tells.
    """
    told, named = OBS_ID.fullmatch(str(header.get("OBSID")).strip()), OBS_ID.fullmatch(obj.obs_id)
    if told and named and (told[1], int(told[2])) != (named[1], int(named[2])):
        return f"OBSID = {told[0]!r} is not the exposure of its key"
    raft_sensor = f"{header.get('RAFTBAY')}_{header.get('CCDSLOT')}"
    if _RAFT_SENSOR.fullmatch(raft_sensor) and obj.raft_sensor not in (None, raft_sensor):
        return f"RAFTBAY_CCDSLOT = {raft_sensor!r} is not the detector of its key"
    return None
