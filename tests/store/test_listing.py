"""Listings of a real S3 server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autoingest.errors import ConfigurationError, TransientError
from autoingest.store.listing import day_prefixes, exposure_prefixes, open_listing


async def test_more_than_one_page_and_unusual_keys(s3_client: Any, s3_bucket: str) -> None:
    keys = [f"LSSTCam/20251231/x/{number:05d}" for number in range(1200)]
    keys += ["LSSTCam/20251231/x//y", "LSSTCam/20251231/x/./z", "LSSTCam/20251231/x/ä +%20&", "LSSTCam/20260101/q"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3_client.put_object(Bucket=s3_bucket, Key=key, Body=b"12"), keys))
    async with open_listing(s3_bucket) as listing:
        pages = [page async for page in listing.objects("LSSTCam/2025")]
        assert [len(page) for page in pages] == [1000, 203]
        found = [item for page in pages for item in page]
        assert [item.path for item in found] == [f"{s3_bucket}/{key}" for key in sorted(keys[:-1])]
        assert {item.size for item in found} == {2}
        assert found[0].etag == s3_client.head_object(Bucket=s3_bucket, Key=keys[0])["ETag"].strip('"')
        assert await listing.folders("LSSTCam/") == ["LSSTCam/20251231/", "LSSTCam/20260101/"]
        assert await listing.read(keys[0]) == b"12"
        assert await listing.read("nothing") is None
        s3_client.put_object(Bucket=s3_bucket, Key="large", Body=bytes(2**20 + 1))
        assert await listing.read("large") is None


async def test_the_store_is_away_or_has_no_such_bucket(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_listing("rubin-nowhere") as listing:
        with pytest.raises(ConfigurationError, match="rubin-nowhere"):
            await anext(aiter(listing.objects("")))
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    async with open_listing("rubin-nowhere") as listing:
        with pytest.raises(TransientError, match="is away"):
            await anext(aiter(listing.objects("")))


async def test_days_of_the_large_file_annex(s3_client: Any, s3_environment: str) -> None:
    bucket = "rubinobs-lfa-test"
    s3_client.create_bucket(Bucket=bucket)
    for key in ("ATMCS/2025/12/31/a.fits", "Cam:1/gen/2025/12/31/d/b.fits", "Cam:1/gen/2025/12/30/c.fits"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"")
    async with open_listing(bucket) as listing:
        prefixes = await day_prefixes(listing, "20251231")
        found = [item.path async for prefix in _each(prefixes) async for item in _all(listing, prefix)]
    assert found == [f"{bucket}/ATMCS/2025/12/31/a.fits", f"{bucket}/Cam:1/gen/2025/12/31/d/b.fits"]


async def _each(items: list[str]) -> Any:
    for item in items:
        yield item


async def _all(listing: Any, prefix: str) -> Any:
    async for page in listing.objects(prefix):
        for item in page:
            yield item


def test_an_exposure_may_be_in_several_folders() -> None:
    assert exposure_prefixes("MC", "20251231/") == ["LSSTCam/20251231/", "LSSTCamSim/20251231/"]
    assert exposure_prefixes("CC", "") == ["LSSTComCam/", "LSSTComCamSim/", "ComCam/"]
