"""Check that a header belongs to the object under whose key it is stored."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.objects import RAFT_SENSOR, ExposureObject, parse_obs_id


def contradiction(header: Mapping[str, object], obj: ExposureObject) -> str | None:
    """Describe how a header contradicts the key of its object; None if it does not.

    Parameters
    ----------
    header
        Cards as they are in the file. Only ``OBSID``, ``RAFTBAY`` and ``CCDSLOT`` are looked at, and only where they
        have the form that keys have: some old headers name exposures and detectors otherwise.
    obj
        The object, as parsed from its key.
    """
    obs_id = str(header.get("OBSID")).strip()
    in_header, in_key = parse_obs_id(obs_id), parse_obs_id(obj.obs_id)
    if in_header and in_key and in_header != in_key:
        return f"OBSID = {obs_id!r} is not the exposure of its key"
    raft_sensor = f"{header.get('RAFTBAY')}_{header.get('CCDSLOT')}"
    if RAFT_SENSOR.fullmatch(raft_sensor) and obj.raft_sensor not in (None, raft_sensor):
        return f"RAFTBAY_CCDSLOT = {raft_sensor!r} is not the detector of its key"
    return None
