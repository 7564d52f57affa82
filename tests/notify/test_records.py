from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from pydantic import SecretStr

from autoingest.model.objects import ExposureObject, LfaObject
from autoingest.notify.records import MAX_RECORDS, MalformedMessageError, RecordParser, TooLongError
from testing.messages import EXPOSURE, body, key, record, trigger

BUCKET = "embargo@rubin-summit"
OPAQUE = 'opaque+"x"+é'

# What each of Ceph's bodies is about, if every key passes the filter: bucket as configured, and key or "ignored".
REAL = {
    "001-put": ("p@cap-p", "plain.txt"),
    "002-put-overwrite": ("p@cap-p", "plain.txt"),
    "003-put-empty": ("p@cap-p", "empty"),
    "004-put-metadata": ("p@cap-p", "meta.txt"),
    "005-put-space": ("p@cap-p", "a b c.txt"),
    "006-put-plus": ("p@cap-p", "a+b+c.txt"),
    "007-put-space-and-plus": ("p@cap-p", "dir one/a +b.txt"),
    "008-put-percent": ("p@cap-p", "100%.txt"),
    "009-put-percent-2B-literal": ("p@cap-p", "a+b c.txt"),  # nothing tells that it isn't encoded
    "010-put-unicode": ("p@cap-p", "räksmörgås/日本語-😀.txt"),
    "011-put-quote-amp-etc": ("p@cap-p", "q\"uo'te&a=b?c#d;e,f@g:h!(i)*~.txt"),
    "012-put-backslash-tab": ("p@cap-p", "back\\slash\ttab.txt"),
    "013-put-guider": ("p@cap-p", "LSSTCam/MC_C_20261120_000123/MC_C_20261120_000123_R00_SG0_guider.fits"),
    "014-put-guider2": ("p@cap-p", "guider/2026-11-20T09:20:45.168+00:00/GUIDE_R44-SG1#0007.fits.fz"),
    "015-put-long-key": ("p@cap-p", "k" * 900),
    "016-copy": ("p@cap-p", "copied from plain.txt"),
    "017-copy-self-replace": ("p@cap-p", "plain.txt"),
    "018-multipart": ("p@cap-p", "mp+dir/multi part.bin"),
    "019-post-form": ("p@cap-p", "posted+by form.txt"),
    "020-put-presigned": ("p@cap-p", "pre signed+.txt"),
    "021-delete": ("p@cap-p", None),
    "022-delete-nonexistent": ("p@cap-p", None),
    "023-put-versioned": ("p@cap-p", "ver.txt"),
    "024-delete-marker": ("p@cap-p", None),
    "049-put-no-opaque-attr": ("cap-n", "plain.txt"),
    "101-tenant-user-put": ("q@ten1:x9bucket", "tk"),
}


def parser(
    pattern: str = r"\.fits$",
    encoding: Literal["auto", "raw", "url"] = "auto",
    secrets: tuple[str, ...] = (),
    buckets: tuple[str, ...] = (BUCKET,),
) -> RecordParser:
    return RecordParser(buckets, pattern, encoding, [SecretStr(secret) for secret in secrets])


def real_bodies(shared_data: Path) -> dict[str, bytes]:
    files = (shared_data / "notifications" / "ceph-16.2.15").glob("*.json")
    return {file.stem: file.read_bytes() for file in files}


async def test_every_real_body(shared_data: Path) -> None:
    # None of the captured keys is an exposure's, so the record itself tells what was understood.
    parse = parser("", buckets=("p@cap-p", "cap-n", "q@ten1:x9bucket")).parse
    bodies = real_bodies(shared_data)
    assert set(bodies) == set(REAL)
    for name, (bucket, decoded) in REAL.items():
        message = await parse(bodies[name])
        if decoded is None:
            assert [item[0] for item in message.ignored] == [bucket], name
        else:
            assert [(item.bucket, item.key) for item in message.rejected] == [
                (bucket, orjson.loads(bodies[name])["Records"][0]["s3"]["object"]["key"])
            ], name
            message = await parser("no such key", buckets=("p@cap-p", "cap-n", "q@ten1:x9bucket")).parse(bodies[name])
            assert message.ignored == [(bucket, f"{bucket}/{decoded}")], name


async def test_real_fields_of_an_exposure(shared_data: Path) -> None:
    sent = orjson.loads(real_bodies(shared_data)["001-put"])
    sent["Records"][0]["s3"]["object"]["key"] = key()
    message = await parser(secrets=("another", OPAQUE), buckets=("p@cap-p",)).parse(orjson.dumps(sent))
    ((notice, obj),) = message.notices
    assert notice.path == f"p@cap-p/{key()}"
    assert notice.event_id == "1795166820.697119.336311a016184326ddbdd61edd4eeb52"
    assert notice.etag == "336311a016184326ddbdd61edd4eeb52"
    assert notice.size == 10
    assert notice.created == 1795166820.696242
    assert isinstance(obj, ExposureObject)
    assert (obj.obs_id, obj.seq_num, obj.raft_sensor) == ("MC_O_20251231_000010", 10, "R22_S11")


@pytest.mark.parametrize(
    ("encoding", "source", "sent", "meant"),
    [
        ("raw", "aws:s3", "a%2Bb+c", "a%2Bb+c"),
        ("url", "ceph:s3", "a%2Bb+c", "a+b c"),
        ("url", "ceph:s3", "a b%2B", "a b+"),
        ("auto", "aws:s3", "a%2Bb+c", "a+b c"),
        ("auto", "minio:s3", "a%2Fb+c%3A", "a/b c:"),
        ("auto", None, "a+b", "a b"),
        ("auto", "ceph:s3", "a+b", "a+b"),
        ("auto", "ceph:s3", "a%2Bb", "a+b"),
        ("auto", "ceph:s3", "a:%2Bb", "a:%2Bb"),
        ("auto", "ceph:s3", "a %2Bb", "a %2Bb"),
        ("auto", "ceph:s3", "100%/%2B", "100%/%2B"),
        ("auto", "ceph:s3", "é%2B", "é%2B"),
        ("auto", "ceph:s3", "%FF", "%FF"),
    ],
)
async def test_key_encoding(encoding: Literal["auto", "raw", "url"], source: str | None, sent: str, meant: str) -> None:
    message = await parser("no such key", encoding).parse(body(record(sent, eventSource=source)))
    assert message.ignored == [(BUCKET, f"{BUCKET}/{meant}")]


async def test_trigger_needs_only_bucket_and_key() -> None:
    ((notice, _),) = (await parser().parse(body(trigger(key())))).notices
    assert notice.path == f"{BUCKET}/{key()}"
    assert (notice.event_id, notice.etag, notice.size, notice.created) == (None,) * 4


@pytest.mark.parametrize(
    ("field", "value"),
    [("eventTime", "0.000000"), ("eventTime", 5), ("eventTime", "1970-01-01T00:00:00.000Z"), ("eventTime", "2026")],
)
async def test_time_that_is_none(field: str, value: object) -> None:
    ((notice, _),) = (await parser().parse(body(record(**dict[str, Any]({field: value}))))).notices
    assert notice.created is None


async def test_optional_fields_of_wrong_type_are_as_absent() -> None:
    bad = record(eventId=["x"], eventSource=5)
    bad["s3"]["object"].update(size="10", eTag=5, sequencer={})
    ((notice, _),) = (await parser().parse(body(bad))).notices
    assert (notice.event_id, notice.size, notice.etag) == (None,) * 3


def _without(*path: str) -> dict[str, Any]:
    result = record()
    inner = result
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return result


@pytest.mark.parametrize(
    ("bad", "bucket", "where", "reason"),
    [
        (5, "-", "-", "record is not an object"),
        (_without("s3"), "-", "-/-", "no bucket name or object key"),
        (record(s3=[]), "-", "-/-", "no bucket name or object key"),
        (_without("s3", "bucket", "name"), "-", f"-/{key()}", "no bucket name or object key"),
        (_without("s3", "object", "key"), BUCKET, "-", "no bucket name or object key"),
        (record(eventName=5), BUCKET, key(), "eventName is not a text"),
        (record(bucket="other"), "-", f"other/{key()}", "bucket is not configured"),
        (record("a.fits"), BUCKET, "a.fits", "components"),
        (record(key(exposure="LSSTCam/20251231/MC_O_20251231_x")), BUCKET, None, "obs_id"),
        (record("%FF.fits", eventSource="aws:s3"), BUCKET, "%FF.fits", "URL-encoded"),
        (record("k" * 2000 + ".fits"), BUCKET, "k" * 1024, "longer than 1024 bytes"),
    ],
)
async def test_bad_record_is_rejected_and_its_neighbours_are_not(
    bad: object, bucket: str, where: str | None, reason: str
) -> None:
    message = await parser().parse(body(record(key("R01_S00")), bad, record(key("R01_S01"))))
    assert [obj.path.rpartition("_R01_")[2] for _, obj in message.notices] == ["S00.fits", "S01.fits"]
    (rejection,) = message.rejected
    assert reason in rejection.reason
    assert rejection.bucket == bucket
    assert where in (None, rejection.key)


async def test_ignored() -> None:
    gone = record(eventName="ObjectRemoved:Delete")
    message = await parser().parse(body(gone, record(f"{EXPOSURE}/x.json"), record(eventName="s3:ObjectCreated:Put")))
    assert [path for _, path in message.ignored] == [f"{BUCKET}/{key()}", f"{BUCKET}/{EXPOSURE}/x.json"]
    assert len(message.notices) == 1


async def test_large_file_annex() -> None:
    pattern = r"(FiberSpectrograph:.*\.fits$|GenericCamera/.*_\d{6}\.fits$)"
    path = "FiberSpectrograph:Broad/fiberSpecBroad/2024/01/09/Broad_fiberSpecBroad_2024-01-09T17:41:34.996.fits"
    message = await parser(pattern, buckets=("lfa@rubinobs-lfa-cp",)).parse(
        body(record(path, bucket="rubinobs-lfa-cp"))
    )
    ((notice, obj),) = message.notices
    assert notice.path == f"lfa@rubinobs-lfa-cp/{path}"
    assert isinstance(obj, LfaObject)
    assert obj.obs_day == "20240109"


async def test_bucket_of_a_tenant() -> None:
    parse = parser(buckets=("q@ten1:b", "c")).parse
    for arn, name, expected in [
        ("arn:aws:s3:zone:ten1:b", "b", "q@ten1:b"),
        (None, "ten1:b", "q@ten1:b"),
        (None, "q@ten1:b", "q@ten1:b"),
        ("arn:aws:s3::ten1:c", "c", "c"),
        ("arn:aws:s3::ten2:b", "b", None),
        ("arn:aws:s3:::b", "b", None),
    ]:
        sent = record()
        sent["s3"]["bucket"] = {"name": name, "arn": arn}
        message = await parse(body(sent))
        assert [notice.bucket for notice, _ in message.notices] == ([expected] if expected else [])


async def test_secrets() -> None:
    parse = parser(secrets=("old", "nëw")).parse
    wrong_secrets: list[Any] = [None, "", "ol", "older", 5, ["old"]]
    wrong = [record(secret=secret) for secret in wrong_secrets] + [7]
    message = await parse(body(*wrong, record(secret="old"), record(secret="nëw")))
    assert message.unauthentic == len(wrong)
    assert len(message.notices) == 2
    assert not message.rejected


async def test_metadata_in_another_encoding_costs_nothing() -> None:
    sent = record()
    sent["s3"]["object"]["metadata"] = [{"key": "x-amz-meta-observer", "val": "Jos#"}]
    content = body(sent).replace(b"#", b"\xe9")
    assert [notice.key for notice, _ in (await parser().parse(content)).notices] == [key()]


async def test_half_a_surrogate_pair_costs_nothing() -> None:
    sent = record(eventName="#")
    content = body(sent, record("odd-@.fits"), record()).replace(b"#", b"\\udce9").replace(b"@", b"\\uDCE9")
    message = await parser().parse(content)
    assert [notice.key for notice, _ in message.notices] == [key()]
    assert [item.key for item in message.rejected] == ["odd-\ufffd.fits"]


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'"\\ud800' + b"[" * 100_000, b'{"\\ud800": ' + b"9" * 5000 + b"}"]
)
async def test_malformed_at_length(content: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        await parser().parse(content)


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b"{}", b'{"Records": {}}', b'{"Records": null}', b"\xff"])
async def test_malformed(content: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        await parser().parse(content)


async def test_byte_order_mark_is_no_part_of_the_message() -> None:
    message = await parser().parse(b"\xef\xbb\xbf" + body(record()))
    assert [notice.key for notice, _ in message.notices] == [key()]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    content = body(record()).decode().encode(encoding)
    with pytest.raises(MalformedMessageError) as caught:
        await parser().parse(content)
    if encoding in ("utf-16", "utf-32"):  # those with a byte order mark
        assert "must be UTF-8" in str(caught.value)


async def test_messages_beyond_the_limits() -> None:
    limited = RecordParser([BUCKET], "x", max_body=5000)
    with pytest.raises(TooLongError, match="longer than 5000 bytes"):
        await limited.parse(body(record()).ljust(5001))
    await limited.parse(body(record()).ljust(5000))
    for content in (body(*[{}] * (MAX_RECORDS + 1)), b'{"Records":[' + b"0," * MAX_RECORDS + b"0]}"):
        with pytest.raises(TooLongError, match="1001 records, more than 1000"):
            await parser().parse(content)
    assert len((await parser().parse(body(*[{}] * MAX_RECORDS))).rejected) == MAX_RECORDS
    with pytest.raises(TooLongError, match="more than 100000 values"):
        await parser().parse(b'{"Records":[{' + b'"a":0,' * 60_000 + b'"a":0}]}')


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (rb"\ud83d\udd2d", "\U0001f52d"),
        (rb"\ud83d", "\ufffd"),
        (rb"\udd2d", "\ufffd"),
        (rb"\udd2d\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\udd2d", "\ufffd\U0001f52d"),
        (rb"\\ud83d\udce9", "\\ud83d\ufffd"),
        (rb"\\\udce9", "\\\ufffd"),
        (rb"\\\\ud83d \udce9", "\\\\ud83d \ufffd"),
    ],
)
async def test_surrogates(written: bytes, meant: str) -> None:
    content = body(record("odd-@.fits", note="#")).replace(b"@", written).replace(b"#", rb"\udce9")
    message = await parser().parse(content)
    assert [item.key for item in message.rejected] == [f"odd-{meant}.fits"]
