from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoingest import instruments
from autoingest.dev.simulator import Exposure, sensors
from autoingest.errors import (
    AutoingestError,
    MetadataError,
    MissingObjectError,
    TransientError,
    UnreadableObjectError,
)
from autoingest.model.objects import ExposureObject, LfaObject, parse
from autoingest.store import profiles
from autoingest.store import reader as reader_module
from autoingest.store.fits import BLOCK, parse_header, parse_headers
from autoingest.store.key_check import contradiction
from autoingest.store.reader import FIRST_RANGE, HeaderReader, ObjectHeader
from testing.examples import number
from testing.s3server import Fault, S3Server

from .conftest import BUCKET, store

EXPOSURE = Exposure(20300101, 7, datetime(2030, 1, 2, 3, tzinfo=UTC))
SENSOR = sensors()[94]
PATH = f"{BUCKET}/{EXPOSURE.key(SENSOR)}"
SIDECAR = f"{BUCKET}/{EXPOSURE.sidecar_key(SENSOR)}"
IMAGE = EXPOSURE.image(SENSOR)


def exposure_object(path: str = PATH) -> ExposureObject:
    obj = parse(path)
    assert isinstance(obj, ExposureObject)
    return obj


async def test_one_request_with_sidecar(server: S3Server) -> None:
    store(server, PATH, IMAGE)
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    found = await HeaderReader(4).read(exposure_object(), 18_000_000)
    assert found == ObjectHeader(PATH, EXPOSURE.header(SENSOR), 18_000_000, "sidecar", None)
    assert {method: server.counts[method] for method in ("GET", "HEAD")} == {"GET": 1, "HEAD": 0}


async def test_one_more_for_an_unknown_size(server: S3Server) -> None:
    store(server, PATH, IMAGE)
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    found = await HeaderReader(4).read(exposure_object(), None)
    assert (found.size, found.source, found.etag) == (len(IMAGE), "sidecar", "etag")
    assert {method: server.counts[method] for method in ("GET", "HEAD")} == {"GET": 1, "HEAD": 1}


async def test_size_of_zero_is_not_believed(server: S3Server) -> None:
    """Senders write it for multipart uploads and copies."""
    store(server, PATH, IMAGE)
    found = await HeaderReader(4).read(exposure_object(), 0)
    assert (found.size, found.source, found.etag) == (len(IMAGE), "fits", "etag")
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    found = await HeaderReader(4).read(exposure_object(), 0)
    assert (found.size, found.source, found.etag) == (len(IMAGE), "sidecar", "etag")
    store(server, PATH, b"")
    with pytest.raises(MetadataError, match="is empty"):
        await HeaderReader(4).read(exposure_object(), 0)


@pytest.mark.parametrize("size", [None, 18_000_000])
async def test_first_range_of_a_large_image(server: S3Server, size: int | None) -> None:
    store(server, PATH, IMAGE.ljust(18_000_000, b"\0"))
    found = await HeaderReader(4).read(exposure_object(), size)
    assert (found.size, found.source, found.etag) == (18_000_000, "fits", "etag")
    assert found.header.items() >= EXPOSURE.header(SENSOR).items() - {("NAXIS", 0), ("BITPIX", 8)}
    assert found.header["EXTNAME"] == "Segment10"
    assert server.counts["GET"] == 2
    assert server.counts["bytes"] < FIRST_RANGE + 1000


async def test_long_header_is_read_to_its_end_and_no_further(server: S3Server) -> None:
    extra = b"".join(f"KEY{number:05d}= {number:>20}".ljust(80).encode() for number in range(1000))
    primary = parse_header(IMAGE)
    assert primary
    header = IMAGE[: IMAGE.index(b"END" + b" " * 77)] + extra + b"END".ljust(80)
    image = header.ljust(-(-len(header) // BLOCK) * BLOCK) + IMAGE[primary[1] :]
    store(server, PATH, image.ljust(18_000_000, b"\0"))
    found = await HeaderReader(4).read(exposure_object(), None)
    assert found.header["KEY00999"] == 999
    assert found.header["EXTNAME"] == "Segment10"
    assert server.counts["bytes"] < 4 * len(header)


HEADER = json.loads(EXPOSURE.sidecar(SENSOR))


@pytest.mark.parametrize(
    "sidecar",
    [
        b"",
        b'{"OBSID": "x',
        b"[1]",
        b"1",
        b"{}",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"__CONTENT__": "translated", "instrument": "LSSTCam"}',
        b'{"__CONTENT__": ["metadata"], "OBSID": "x"}',
        b'{"PASSWORD": "x"}',
        json.dumps({"header": HEADER}).encode(),
        json.dumps({name: {"value": value, "comment": ""} for name, value in HEADER.items()}).encode(),
        json.dumps(HEADER | {"EXPTIME": [30.0]}).encode(),
        json.dumps(HEADER | {"EXPTIME": float("nan")}).encode(),
        json.dumps({name.lower(): value for name, value in HEADER.items()}).encode(),
        json.dumps(HEADER | {"exptime": 30.0}).encode(),
        json.dumps(HEADER | {"EXTRA": "x" * 2**20}).encode(),
    ],
    ids=lambda value: repr(value[:20]),
)
@pytest.mark.parametrize("size", [None, len(IMAGE)])
async def test_unusable_sidecar_falls_back_to_the_image(server: S3Server, sidecar: bytes, size: int | None) -> None:
    store(server, PATH, IMAGE)
    store(server, SIDECAR, sidecar)
    found = await HeaderReader(4).read(exposure_object(), size)
    assert (found.source, found.header["OBSID"], found.size) == ("fits", EXPOSURE.obs_id, len(IMAGE))


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(status=status) for status in (301, 307, 400, 401, 403, 404, 408, 412, 416, 429, 500, 503)),
        Fault(status=403, code="AccessDenied"),
        Fault(status=404, code=""),
        Fault(status=403, code="InvalidObjectState"),
        Fault(cut=99),
        Fault(cut=0),
        Fault(delay=30),
        Fault(drip=0.1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("size", [None, len(IMAGE)])
async def test_sidecar_that_is_not_served(
    server: S3Server, fault: Fault, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "RETRIES", 1)
    monkeypatch.setattr(reader_module, "SIDECAR_TIMEOUT", timedelta(seconds=1))
    store(server, PATH, IMAGE)
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    server.fault = lambda method, bucket, key: fault if key.endswith(".json") else None
    found = await HeaderReader(4).read(exposure_object(), size)
    assert (found.source, found.header["OBSID"], found.size) == ("fits", EXPOSURE.obs_id, len(IMAGE))


async def test_sidecar_may_be_left_out(server: S3Server) -> None:
    store(server, PATH, IMAGE)
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    assert (await HeaderReader(4).read(exposure_object(), 1, use_sidecar=False)).source == "fits"
    assert server.counts["GET"] == 1


async def test_head_that_fails_is_no_reason_to_give_up(server: S3Server) -> None:
    store(server, PATH, IMAGE)
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    server.fault = lambda method, bucket, key: Fault(status=403) if method == "HEAD" else None
    found = await HeaderReader(4).read(exposure_object(), None)
    assert (found.source, found.size) == ("fits", len(IMAGE))


async def test_annex_has_no_sidecars(server: S3Server) -> None:
    path = "rubinobs-lfa-cp/FiberSpectrograph:Broad/fits/2030/01/02/a b.fits"
    server.buckets["rubinobs-lfa-cp"] = {}
    store(server, path, IMAGE)
    obj = parse(path)
    assert isinstance(obj, LfaObject)
    assert (await HeaderReader(4).read(obj, None)).source == "fits"
    assert server.counts["GET"] == 1


@pytest.mark.parametrize("size", [None, len(IMAGE)])
async def test_missing(server: S3Server, size: int | None) -> None:
    with pytest.raises(MissingObjectError, match=PATH):
        await HeaderReader(4).read(exposure_object(), size)


async def test_missing_bucket_is_no_missing_object(server: S3Server) -> None:
    with pytest.raises(TransientError, match="bucket"):
        await HeaderReader(4).read(exposure_object(PATH.replace(BUCKET, "rubin-sumit")), 10)


@pytest.mark.parametrize(
    ("body", "size"), [(b"", None), (b"", 0), (b"", 18_000_000), (b"no FITS", None), (IMAGE[:5000], None)]
)
async def test_unreadable_names_the_file(server: S3Server, body: bytes, size: int | None) -> None:
    store(server, PATH, body)
    with pytest.raises(MetadataError, match=PATH):
        await HeaderReader(4).read(exposure_object(), size)


async def test_store_that_hangs_is_given_up(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch learns of it in the time of one request, although only four are under way at once."""
    monkeypatch.setattr(profiles, "REQUEST_TIMEOUT", timedelta(seconds=0.3))
    server.fault = lambda method, bucket, key: Fault(delay=30)
    reader = HeaderReader(4)
    results = await asyncio.gather(*(reader.read(exposure_object(), 1) for _ in range(100)), return_exceptions=True)
    assert {type(result) for result in results} == {TransientError}
    assert server.counts["GET"] < 20


async def test_connection_refused(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    store(server, SIDECAR, EXPOSURE.sidecar(SENSOR))
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    reader = HeaderReader(4)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(TransientError):
            await reader.read(exposure_object(), 1)
    assert time.monotonic() - started < 10


async def test_one_bad_among_many(server: S3Server) -> None:
    objects = []
    for sensor in sensors():
        path = f"{BUCKET}/{EXPOSURE.key(sensor)}"
        store(server, path, EXPOSURE.image(sensor))
        objects.append(exposure_object(path))
    store(server, objects[50].path, b"no FITS")
    del server.buckets[BUCKET][objects[100].path.partition("/")[2]]
    server.fault = lambda method, bucket, key: Fault(status=503) if key and objects[150].path.endswith(key) else None
    reader = HeaderReader(8)

    async def read(obj: ExposureObject) -> ObjectHeader | AutoingestError:
        try:
            return await reader.read(obj, None)
        except AutoingestError as err:
            return err

    results = await asyncio.gather(*map(read, objects))
    wrong = {index: type(result) for index, result in enumerate(results) if not isinstance(result, ObjectHeader)}
    assert wrong == {50: MetadataError, 100: MissingObjectError, 150: UnreadableObjectError}
    right = [(result.path, result.header["FILENAME"]) for result in results if isinstance(result, ObjectHeader)]
    assert all(path.endswith(f"/{name}") for path, name in right)


async def test_real_guider_says_the_same_in_both(server: S3Server, shared_data: Path) -> None:
    folder = shared_data / "raws/LSSTCam/20240918/MC_C_20240918_000013"
    path = f"{BUCKET}/LSSTCam/20240918/MC_C_20240918_000013/MC_C_20240918_000013_R00_SG0_guider.fits"
    obj = exposure_object(path)
    store(server, path, (folder / obj.filename).read_bytes())
    fits = await HeaderReader(4).read(obj, None)
    store(server, obj.sidecar, (folder / obj.filename).with_suffix(".json").read_bytes())
    sidecar = await HeaderReader(4).read(obj, None)
    assert (fits.source, sidecar.source) == ("fits", "sidecar")
    assert fits.size == sidecar.size == 892800
    # The extension's structure and checksums lie over the primary's in the FITS file.
    extension = {"BITPIX", "NAXIS", "CHECKSUM", "DATASUM"}
    different = {name for name, value in sidecar.header.items() if fits.header.get(name, name) != value}
    assert different <= extension
    assert instruments.identify_guider(fits.header, obj.url) == instruments.identify_guider(sidecar.header, obj.url)


async def test_real_raws(server: S3Server, shared_data: Path) -> None:
    for file in shared_data.glob("raws/LSSTCam/20250415/*/*.fits"):
        path = f"{BUCKET}/{file.relative_to(shared_data / 'raws')}"
        store(server, path, file.read_bytes())
        found = await HeaderReader(4).read(exposure_object(path), None)
        assert found.header["FILENAME"] == file.name
        assert found.header["SEEING"] is None
        assert found.header["STUTTER ROWS"] == 0


@pytest.mark.parametrize("sidecars", [True, False])
async def test_another_server(s3_client: Any, s3_bucket: str, sidecars: bool) -> None:
    s3_client.put_object(Bucket=s3_bucket, Key=EXPOSURE.key(SENSOR), Body=IMAGE)
    if sidecars:
        s3_client.put_object(Bucket=s3_bucket, Key=EXPOSURE.sidecar_key(SENSOR), Body=EXPOSURE.sidecar(SENSOR))
    found = await HeaderReader(4).read(exposure_object(f"{s3_bucket}/{EXPOSURE.key(SENSOR)}"), None)
    assert (found.size, found.source) == (len(IMAGE), "sidecar" if sidecars else "fits")
    assert instruments.identify(found.header, "").detector == 94
    assert json.loads(EXPOSURE.sidecar(SENSOR))["OBSID"] == found.header["OBSID"]


@pytest.mark.parametrize("other", [(8, 94), (7, 95)], ids=["exposure", "detector"])
async def test_sidecar_of_another_image(server: S3Server, other: tuple[int, int]) -> None:
    """The image decides."""
    exposure = Exposure(EXPOSURE.day_obs, other[0], EXPOSURE.begin)
    store(server, PATH, IMAGE)
    store(server, SIDECAR, exposure.sidecar(sensors()[other[1]]))
    found = await HeaderReader(4).read(exposure_object(), len(IMAGE))
    assert (found.source, found.header["OBSID"], found.header["CCDSLOT"]) == (
        "fits",
        EXPOSURE.header(SENSOR)["OBSID"],
        EXPOSURE.header(SENSOR)["CCDSLOT"],
    )


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize(("other", "card"), [((8, 94), "OBSID"), ((7, 95), "RAFTBAY_CCDSLOT")])
async def test_image_under_the_key_of_another(
    server: S3Server, other: tuple[int, int], card: str, sidecar: bool
) -> None:
    """Nothing is ingested under an identity that the key contradicts."""
    exposure, sensor = Exposure(EXPOSURE.day_obs, other[0], EXPOSURE.begin), sensors()[other[1]]
    store(server, PATH, exposure.image(sensor))
    if sidecar:
        store(server, SIDECAR, exposure.sidecar(sensor))
    with pytest.raises(MetadataError, match=f"{card} = .* of its key"):
        await HeaderReader(4).read(exposure_object(), None)


@pytest.mark.parametrize(
    "cards",
    [
        {"OBSID": f"MC_O_{EXPOSURE.day_obs}_7"},
        {"OBSID": None},
        {"OBSID": "2018-09-20-05700065-det000", "RAFTBAY": None},
        {"RAFTBAY": "RTM-010", "CCDSLOT": "0"},
    ],
)
def test_what_has_another_form_is_no_contradiction(cards: dict[str, object]) -> None:
    assert contradiction(EXPOSURE.header(SENSOR) | cards, exposure_object()) is None


@settings(max_examples=number(200), deadline=None, database=None)
@given(st.data())
def test_damaged_image_has_a_header_or_an_error(data: st.DataObject) -> None:
    """However it is cut and overwritten; nothing else is raised."""
    content = bytearray(IMAGE[: data.draw(st.integers(0, len(IMAGE)))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + 8] = data.draw(st.binary(max_size=40))
    try:
        header = parse_headers(bytes(content), complete=True)
    except MetadataError:
        return
    assert header is not None
    assert all(isinstance(value, str | int | float | None) for value in header.values())
