"""The reader against a server that checks signatures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from autoingest.dev.simulator import BucketSink, Exposure, sensors
from autoingest.errors import MissingObjectError, TransientError
from autoingest.model.objects import parse
from autoingest.store.profiles import open_client
from autoingest.store.reader import HeaderReader
from testing.ceph import Ceph

EXPOSURE = Exposure(20300101, 1, datetime(2030, 1, 2, tzinfo=UTC))
KEY = "FiberSpectrograph:Broad/fits/2030/01/02/a b+c%ü.fits"


async def test_signed_requests_and_their_failures(ceph: Ceph, monkeypatch: pytest.MonkeyPatch) -> None:
    host = f"127.0.0.1:{ceph.port}"
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_annex", f"http://{ceph.access_key}:{ceph.secret_key}@{host}")
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_wrong", f"http://{ceph.access_key}:wrong@{host}")
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_nobody", f"http://nobody:{ceph.secret_key}@{host}")
    bucket = "rubinobs-lfa-cp"
    async with open_client(f"annex@{bucket}") as client:
        await client.create_bucket(Bucket=bucket)
    image = EXPOSURE.image(sensors()[0])
    sent = await BucketSink(f"annex@{bucket}").put(KEY, image)
    reader = HeaderReader(4)
    found = await reader.read(parse(sent.path), None)
    assert (found.size, found.header["OBSID"]) == (len(image), EXPOSURE.obs_id)
    with pytest.raises(MissingObjectError):
        await reader.read(parse(sent.path.replace("%", "%25")), None)
    for profile, told in (("wrong", "403 SignatureDoesNotMatch .check the secret key"), ("nobody", "access key")):
        with pytest.raises(TransientError, match=told):
            await reader.read(parse(sent.path.replace("annex@", f"{profile}@")), None)
    with pytest.raises(TransientError, match="no such bucket"):
        await reader.read(parse(sent.path.replace("-cp", "-nope")), None)
