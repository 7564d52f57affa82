from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from autoingest.dev import embedded
from autoingest.errors import ConfigurationError


@contextmanager
def killed_at_the_end(folder: Path) -> Iterator[Any]:
    """A client of an S3 server that ends by SIGKILL."""
    port = embedded.free_port()
    command = [
        sys.executable,
        "-m",
        "autoingest.dev.embedded_s3",
        str(port),
        str(folder / "objects.sqlite"),
        "rubin-summit",
    ]
    with embedded.child("S3 server", command, folder / "log", lambda: embedded.listens(port)) as process:
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id="a", aws_secret_access_key="b",
        )  # fmt: skip
        yield client
        process.kill()
        client.close()


def keys(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_objects_survive_a_kill(tmp_path: Path) -> None:
    with killed_at_the_end(tmp_path) as client:
        client.create_bucket(Bucket="other")
        client.create_bucket(Bucket="gone")
        for key in ("a", "a/b", "c d+é%2F.fits", "deleted", "deleted-together"):
            client.put_object(Bucket="rubin-summit", Key=key, Body=b"first")
        client.put_object(Bucket="rubin-summit", Key="a", Body=b"second")
        client.copy_object(Bucket="other", Key="copy", CopySource={"Bucket": "rubin-summit", "Key": "a"})
        upload = client.create_multipart_upload(Bucket="other", Key="parts")["UploadId"]
        part = client.upload_part(Bucket="other", Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
        client.complete_multipart_upload(
            Bucket="other", Key="parts", UploadId=upload,
            MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
        )  # fmt: skip
        client.delete_object(Bucket="rubin-summit", Key="deleted")
        client.delete_objects(Bucket="rubin-summit", Delete={"Objects": [{"Key": "deleted-together"}]})
        client.delete_bucket(Bucket="gone")
        before = client.head_object(Bucket="rubin-summit", Key="a")
        parts = client.head_object(Bucket="other", Key="parts")
    with killed_at_the_end(tmp_path) as client:
        assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} == {"rubin-summit", "other"}
        assert keys(client, "rubin-summit") == ["a", "a/b", "c d+é%2F.fits"]
        assert keys(client, "other") == ["copy", "parts"]
        found = client.get_object(Bucket="rubin-summit", Key="a", Range="bytes=0-2")
        assert found["Body"].read() == b"sec"
        after = client.head_object(Bucket="rubin-summit", Key="a")
        assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
        assert client.head_object(Bucket="other", Key="parts")["ETag"] == parts["ETag"]


def test_url_is_told_while_it_runs(tmp_path: Path) -> None:
    with embedded.s3(tmp_path, buckets=["rubin-summit"], persist=False) as url:
        assert (tmp_path / "url").read_text() == url
    assert not (tmp_path / "url").exists()
    assert not (tmp_path / "objects.sqlite").exists()


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="InvalidBucketName"),
        embedded.s3(tmp_path, buckets=["x"], persist=False),
    ):
        pass


DEVELOPMENT = """
import os, pathlib, stat, sys
from autoingest.dev.setup import development

os.umask(0)
data = pathlib.Path(sys.argv[1])
with development(data, first_port=None, quiet=True):
    for path in (data, *data.rglob("*")):
        print(f"mode {stat.S_IMODE(path.stat().st_mode):o}", path.relative_to(data))
assert os.umask(0) == 0
"""


def test_development_data_belongs_to_its_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", DEVELOPMENT, str(data)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("mode ")]
    modes = {path: mode for _, mode, path in told}
    assert {"lock", "repo/butler.yaml", "repo/gen3.sqlite3", "s3/objects.sqlite", "valkey/valkey.log"} <= modes.keys()
    assert {path: mode for path, mode in modes.items() if int(mode, 8) & 0o077} == {}


def test_development_data_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        embedded.keep_private(tmp_path)
