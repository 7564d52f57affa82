"""Images of the Large File Annex, from their notifications to the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis
import yaml
from lsst.daf.butler import Butler
from lsst.resources import ResourcePath

from autoingest.butler.create import create_repository
from autoingest.butler.private import file_records
from autoingest.dev.simulator.fitsfile import format_cards, header_unit, image_extension
from autoingest.store.fits import BLOCK
from testing.annex import CARDS, description_file
from testing.redis import text
from testing.repository import contents
from testing.site import Site
from testing.waiting import wait_for

LFA_CONFIG = yaml.safe_load((Path(__file__).parents[2] / "autoingest/data/config/lfa.yaml").read_text())
FIBER_HEADER = "lfa-Broad_fiberSpecBroad_2024-01-09T174134.996"
FIBER_KEY = (
    "FiberSpectrograph:Broad/fiberSpecBroad/2024/01/09/"
    "FiberSpectrograph:Broad_fiberSpecBroad_2024-01-09T17:41:34.996.fits"
)
KEYS = {FIBER_HEADER: FIBER_KEY} | {
    f"lfa-GC{index}_O_20221208_000211": f"GenericCamera/{index}/2022/12/08/GC{index}_O_20221208_000211.fits"
    for index in (101, 102, 103)
}
"""Key of the object that has each header."""

STATISTICS = {
    FIBER_HEADER: ("FiberSpectrograph:Broad/fiberSpecBroad", "20240109"),
    **{f"lfa-GC{index}_O_20221208_000211": (f"GenericCamera/{index}", "20221208") for index in (101, 102, 103)},
}
"""Instrument and day under which each is counted."""


@pytest.fixture
def annex(s3_client: Any) -> str:
    """Name of a new bucket of the annex."""
    name = f"rubinobs-lfa-{uuid4().hex[:8]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, client: redis.Redis, annex: str, s3_bucket: str) -> Iterator[Site]:
    repo = str(tmp_path / "repo")
    create_repository(repo)
    site = Site(tmp_path, valkey_url, repo, buckets=[annex, s3_bucket])
    with closing(site):
        yield site


def use_filter(site: Site, pattern: str) -> None:
    listen = {"host": "127.0.0.1", "port": site.notify_port}
    site.settings = {"enqueue": {"listen": listen, "filter": pattern}}


def fits_file(cards: dict[str, Any]) -> bytes:
    """Return a small file that has these cards: those from XTENSION on in an image extension."""
    names = list(cards)
    if "XTENSION" not in cards:
        data = bytes(8 * cards.get("NAXIS1", 0))
        return header_unit(format_cards(cards)) + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")
    first = names.index("XTENSION")
    primary = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, **{name: cards[name] for name in names[1:first]}}
    structure = {"XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "INHERIT"}
    more = {name: cards[name] for name in names[first:] if name not in structure}
    return header_unit(format_cards(primary)) + image_extension(16, more)


def put(s3_client: Any, site: Site, bucket: str, key: str, body: bytes, source: str = "ceph:s3") -> dict[str, Any]:
    """Store an object and announce it as a Ceph does, or as AWS does, which encodes keys; return the answer."""
    etag = s3_client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')
    record = {
        "eventVersion": "2.2", "eventSource": source, "eventTime": "2026-11-20T09:27:00.696242Z",
        "eventName": "ObjectCreated:Put", "eventId": f"1795166820.697119.{uuid4().hex}",
        "s3": {
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key if source == "ceph:s3" else quote(key, safe="/"), "size": len(body), "eTag": etag,
                       "sequencer": "6412006BD3318D29"},
        },
    }  # fmt: skip
    request = urllib.request.Request(site.notify_url, json.dumps({"Records": [record]}).encode(), method="POST")
    with urllib.request.urlopen(request) as response:
        return dict(json.load(response))


def example(shared_data: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((shared_data / f"headers/{name}.json").read_text()))


def counted(client: redis.Redis, bucket: str) -> int:
    return sum(int(n) for key in client.keys(f"INGEST:{bucket}:*") for n in client.hvals(key))


def test_the_annex_configuration(
    site: Site, client: redis.Redis, annex: str, s3_client: Any, shared_data: Path
) -> None:
    use_filter(site, LFA_CONFIG["enqueue"]["filter"])
    site.ingest = {"visits": LFA_CONFIG["ingest"]["visits"], "maxAttempts": 1}
    site.start(",".join(LFA_CONFIG["roles"]))
    examples = {name: example(shared_data, name) for name in KEYS}
    sizes = {}
    for name, key in KEYS.items():
        body = fits_file(examples[name]["header"])
        sizes[name] = len(body)
        assert put(s3_client, site, annex, key, body)["queued"] == [f"{annex}/{key}"]
    assert put(s3_client, site, annex, "Other/1/2022/12/08/a_000211.fits", b"x")["queued"] == []
    stranger = KEYS["lfa-GC101_O_20221208_000211"].replace("101", "104")
    header = examples["lfa-GC101_O_20221208_000211"]["header"] | {"OBSID": "GC104_O_20221208_000211"}
    put(s3_client, site, annex, stranger, fits_file(header))
    wait_for(lambda: counted(client, annex) == 4 and client.hlen(f"DEAD:{annex}") == 1, site.logs()[-3000:])

    for name, (instrument, day) in STATISTICS.items():
        for key in (f"RECINSTR:{annex}:{instrument}", f"INGEST:{annex}:{instrument}"):
            assert client.hgetall(key) == {day: "1"}, name
    assert client.keys("GROUP:*") == client.keys("MAXSEQ:*") == []
    letter = json.loads(text(client.hget(f"DEAD:{annex}", f"{annex}/{stranger}")))
    assert letter["reason"] == "metadata"
    assert "OBSID = 'GC104_O_20221208_000211'" in letter["exception"]

    with Butler.from_config(site.repo) as butler:
        for name, key in KEYS.items():
            expected = examples[name]["exposure_record"]
            check_dataset(butler, expected["instrument"], expected["id"], f"s3://{annex}/{key}", sizes[name])
            check_exposure(butler, expected)
        assert butler.query_dimension_records("visit", limit=None, explain=False) == []


def check_dataset(butler: Butler, instrument: str, exposure: int, url: str, size: int) -> None:
    kind = "rawSpectrum" if instrument == "FiberSpec" else "raw"
    formatter = {
        "raw": f"lsst.obs.rubinGenericCamera.rawFormatter.{instrument}RawFormatter",
        "rawSpectrum": "lsst.obs.fiberspectrograph.rawFormatter.FiberSpectrographRawFormatter",
    }[kind]
    [ref] = butler.query_datasets(kind, collections=f"{instrument}/raw/all", instrument=instrument)
    assert dict(ref.dataId.required) == {"instrument": instrument, "detector": 0, "exposure": exposure}
    [(_, _, stored)] = file_records(butler, [ref])
    assert (stored.path, stored.file_size, stored.checksum, stored.formatter) == (url, size, None, formatter)
    assert stored.storageClass.name == {"raw": "Exposure", "rawSpectrum": "FiberSpectrum"}[kind]
    assert ResourcePath(stored.path).exists()
    assert str(ResourcePath(url)) == stored.path
    [detector] = butler.query_dimension_records("detector", instrument=instrument)
    assert detector.toDict() == {
        "instrument": instrument, "id": 0, "full_name": "ccd0" if instrument == "FiberSpec" else "CCD0",
        "name_in_raft": None, "raft": None, "purpose": "SCIENCE",
    }  # fmt: skip
    [physical_filter] = butler.query_dimension_records("physical_filter", instrument=instrument)
    assert (physical_filter.name, physical_filter.band) == ("empty", "white")


def check_exposure(butler: Butler, expected: dict[str, Any]) -> None:
    [record] = butler.query_dimension_records("exposure", instrument=expected["instrument"])
    found, wanted = record.toDict(), dict(expected)
    assert found.pop("timespan").nsec == tuple(wanted.pop("timespan").values())
    assert found == {key: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                     for key, value in wanted.items()}  # fmt: skip


def test_beside_a_camera_with_a_generator_of_the_site(
    site: Site, client: redis.Redis, annex: str, s3_client: Any, s3_bucket: str, shared_data: Path, tmp_path: Path
) -> None:
    """One process for both; exposures of the camera become visits, those of the annex don't."""
    description = description_file(tmp_path)
    command = [sys.executable, "-m", "autoingest", "repo", "create", site.repo, "--describe", str(description)]
    subprocess.run(command, check=True, timeout=60)
    use_filter(site, r"\.fits$")
    site.ingest = {"instruments": [str(description)]}
    site.start("enqueue,ingest,idle,presence")
    name, key = "lfa-GC102_O_20221208_000211", "AllSky:2/2025/07/14/AS_20250714_00042.fits"
    put(s3_client, site, annex, KEYS[name], fits_file(example(shared_data, name)["header"]))
    put(s3_client, site, annex, key, fits_file(CARDS), source="aws:s3")
    command = [sys.executable, "-m", "autoingest", "simulate", "--bucket", s3_bucket, "--notify", site.notify_url]
    subprocess.run(command, check=True, timeout=60)
    wait_for(lambda: (counted(client, annex), counted(client, s3_bucket)) == (2, 205), site.logs()[-3000:])

    assert len(contents(site.repo).raws) == 197
    with Butler.from_config(site.repo) as butler:
        [visit] = butler.query_dimension_records("visit")
        assert visit.instrument == "LSSTCam"
        assert {item.instrument for item in butler.query_dimension_records("visit_system")} == {"LSSTCam"}
        [ref] = butler.query_datasets("allSkyRaw", collections="AllSky/night")
        assert str(butler.getURI(ref)) == f"s3://{annex}/{key}"
    assert client.hgetall(f"INGEST:{annex}:AllSky:2") == {"20250714": "1"}
    assert site.stop(site.processes[0]) == 0


@pytest.mark.parametrize("change", ["name", "storageClass"])
def test_a_bad_description_ends_the_start(site: Site, tmp_path: Path, change: str) -> None:
    file = description_file(tmp_path)
    text = file.read_text()
    file.write_text(text.replace("detector: chip", "detectors: chip" if change == "name" else
                                 "detector: chip\n    storageClass: Imaginary"))  # fmt: skip
    site.ingest = {"instruments": [str(file)]}
    assert site.start("ingest", ready=False).wait(60) == 2
    expected = f"{file}: AllSky.detector: Field required" if change == "name" else "storageClass 'Imaginary' is not"
    assert expected in site.logs()
