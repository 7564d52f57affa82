"""A real Ceph is set up by ``autoingest ceph`` alone, is broken in the ways that happen, and is mended by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from autoingest.cli.ceph import ceph as command
from autoingest.dev.embedded import free_port
from testing.ceph import TICK, Ceph
from testing.command import run as run_command
from testing.site import Site

BUCKET = "rubin-tts"
PREFIX = f"autoingest.{BUCKET}."
SECRET = "V4riable&Star=%2B"
CREATED = ["s3:ObjectCreated:*"]


@dataclass
class Administration:
    """The commands, the file that they read, and both users."""

    owner: Ceph
    reader: Ceph
    site: Site
    spec: Path
    elsewhere: str

    def declare(self, persistent: bool = True, **changes: Any) -> None:
        """Write the file; `changes` are those of the bucket."""
        topic = {
            "pushEndpoint": self.site.notify_url,
            "opaqueDataVariable": "TTS_SECRET",
            "persistent": persistent,
        }
        bucket = {
            "name": f"owner@{BUCKET}",
            "create": True,
            "notifications": [{"topic": "tts"}],
            "policy": [
                {"grant": "read", "principals": ["arn:aws:iam:::user/reader"]},
                {"deny": ["s3:GetObject"], "objects": "hidden/*", "principals": ["arn:aws:iam:::user/reader"]},
            ],
        }
        # Persistent notifications to nobody would be repeated as fast as Ceph can.
        other = {"name": "other", "pushEndpoint": self.elsewhere, "persistent": False}
        spec = {"profile": "owner", "topics": [{"name": "tts", **topic}, other], "buckets": [{**bucket, **changes}]}
        self.spec.write_text(yaml.safe_dump(spec))

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(command, [arguments[0], "--spec", str(self.spec), *arguments[1:]])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert SECRET not in result.output
        return result

    def wrong(self) -> dict[str, str]:
        """What verify finds, by place."""
        result = self.run("verify", "--json")
        found = {item["where"]: item["wrong"] for item in json.loads(result.output) if not item["note"]}
        assert result.exit_code == (1 if found else 0)
        return found

    def canary(self, timeout: float) -> tuple[int, list[dict[str, Any]]]:
        config = self.site.folder / "process-0.yaml"
        result = self.run("canary", "--config", str(config), "--timeout", str(timeout), "--json")
        return result.exit_code, json.loads(result.output)

    def ids(self) -> list[str]:
        found = self.owner.client("s3").get_bucket_notification_configuration(Bucket=BUCKET)
        return sorted(item["Id"] for item in found.get("TopicConfigurations", ()))

    def arn(self, topic: str) -> str:
        return f"arn:aws:sns:default::{topic}"

    def overwrite(self, **attributes: str) -> None:
        """Write the topic as somebody else would."""
        usual = {"push-endpoint": self.site.notify_url, "OpaqueData": SECRET, "persistent": "true"}
        self.owner.client("sns").create_topic(Name="tts", Attributes=usual | attributes)

    def subscribe(self, identifier: str, topic: str) -> None:
        entry = {"Id": identifier, "TopicArn": self.arn(topic), "Events": CREATED}
        self.owner.client("s3").put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"TopicConfigurations": [entry]}
        )


class _Deaf(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def admin(ceph: Ceph, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administration]:
    """Role enqueue at work, a receiver that takes everything and does nothing, and a Ceph that knows of neither."""
    folder = tmp_path_factory.mktemp("tts")
    reader = ceph.create_user("reader")
    # Enqueue has the bucket by the profile of those who read it.
    site = Site(folder, valkey_url, str(folder / "repo"), [f"reader@{BUCKET}"],
                {"AUTOINGEST_NOTIFICATION_SECRETS": f"{SECRET} next"})  # fmt: skip
    with closing(site), HTTPServer(("127.0.0.1", 0), _Deaf) as deaf, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=deaf.serve_forever, daemon=True).start()
        patch.setenv("LSST_RESOURCES_S3_PROFILE_owner", ceph.profile)
        patch.setenv("TTS_SECRET", SECRET)
        site.start("enqueue")
        admin = Administration(
            ceph, reader, site, folder / "ceph.yaml", f"http://127.0.0.1:{deaf.server_address[1]}/notify"
        )
        admin.declare()
        yield admin
        deaf.shutdown()


def test_from_nothing_to_notifications(admin: Administration) -> None:
    plan = admin.run("plan", "--detailed-exitcode")
    assert plan.exit_code == 3, plan.output
    assert "create bucket" in plan.output
    assert admin.run("apply").exit_code == 0
    assert admin.wrong() == {}
    assert admin.run("plan", "--detailed-exitcode").exit_code == 0
    assert "nothing to change" in admin.run("apply").output
    code, (result,) = admin.canary(TICK + 5)
    assert code == 0, result
    assert 0 < result["arrivals"][PREFIX + "tts"] < TICK + 5
    listing = admin.owner.client("s3").list_objects_v2(Bucket=BUCKET)
    assert listing["KeyCount"] == 0, "canaries are left"
    assert admin.site.metric("autoingest_rejected_total") == 0


def test_doctor_looks_at_ceph(admin: Administration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> dict[str, str]:
        result = run_command("doctor", "--config", str(file), "--spec", str(admin.spec), "--json")
        return {check["name"]: check["state"] for check in json.loads(result.stdout)}

    file = tmp_path / "site.yaml"
    file.write_text(
        yaml.safe_dump({
            "buckets": [f"other@{BUCKET}"], "redis": {"url": admin.site.redis_url}, "ingest": {"repo": str(tmp_path)},
        })
    )  # fmt: skip
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_other", admin.owner.profile)
    states = look()
    assert {states["Ceph"], states[f"store other@{BUCKET} list"], states[f"clock of store other@{BUCKET}"]} == {"ok"}
    monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_other", admin.owner.profile.replace("://", "://no", 1))
    admin.overwrite(**{"push-endpoint": admin.elsewhere})
    states = look()
    assert states["Ceph topic tts"] == "fail"
    assert states[f"store other@{BUCKET} list"] == "fail"
    assert admin.run("apply").exit_code == 0
    assert look()["Ceph"] == "ok"


def test_the_reader_may_read_and_nothing_more(admin: Administration) -> None:
    owner, reader = admin.owner.client("s3"), admin.reader.client("s3")
    for key in ("seen/a", "hidden/a"):
        owner.put_object(Bucket=BUCKET, Key=key, Body=b"")
    assert reader.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 2
    reader.get_object(Bucket=BUCKET, Key="seen/a")["Body"].close()
    with pytest.raises(ClientError):
        reader.get_object(Bucket=BUCKET, Key="hidden/a")
    with pytest.raises(ClientError):
        reader.put_object(Bucket=BUCKET, Key="seen/b", Body=b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSST_RESOURCES_S3_PROFILE_owner", admin.reader.profile)
        result = CliRunner().invoke(command, ["verify", "--spec", str(admin.spec)])
    assert "owner" in str(result.exception)
    assert "denied" in str(result.exception)


def _delete_topic(admin: Administration) -> None:
    admin.owner.client("sns").delete_topic(TopicArn=admin.arn("tts"))


def _add_stale(admin: Administration) -> None:
    admin.owner.client("sns").create_topic(Name="former", Attributes={"push-endpoint": admin.elsewhere})
    admin.subscribe(PREFIX + "former", "former")


def _change_secret_everywhere(admin: Administration) -> None:
    admin.overwrite(OpaqueData="next")
    admin.subscribe(PREFIX + "tts", "tts")


def _old_secret_in_bucket(admin: Administration) -> None:
    _change_secret_everywhere(admin)
    admin.overwrite()


def _remove_policy(admin: Administration) -> None:
    admin.owner.client("s3").delete_bucket_policy(Bucket=BUCKET)


@pytest.mark.parametrize(
    ("damage", "where", "words"),
    [
        (_add_stale, f"bucket owner@{BUCKET}, notification {PREFIX}former", "stale"),
        (lambda a: a.overwrite(**{"push-endpoint": a.elsewhere}), "topic tts", "notifications go to"),
        (_change_secret_everywhere, "topic tts", "not the secret that TTS_SECRET holds"),
        (_old_secret_in_bucket, f"bucket owner@{BUCKET}, notification {PREFIX}tts", "former settings"),
        (lambda a: a.overwrite(persistent="false"), "topic tts", "not persistent"),
        (_delete_topic, "topic tts", "deleted"),
        (_remove_policy, f"bucket owner@{BUCKET}, policy", "missing"),
    ],
    ids=["stale id", "endpoint", "secret", "secret in bucket", "persistence", "deleted topic", "policy"],
)
def test_damage_is_found_and_mended(
    admin: Administration, damage: Callable[[Administration], None], where: str, words: str
) -> None:
    damage(admin)
    found = admin.wrong()
    assert list(found) == [where]
    assert words in found[where]
    if damage is _delete_topic:
        assert admin.run("diff").exit_code == 1
        code, (result,) = admin.canary(1)
        assert (code, result["verdict"]) == (5, "refused"), result
    assert admin.run("apply").exit_code == 0
    assert admin.wrong() == {}
    assert admin.ids() == [PREFIX + "tts"]


def test_what_nobody_declares_stays_without_force(admin: Administration) -> None:
    admin.owner.client("sns").create_topic(Name="foreign", Attributes={"push-endpoint": admin.elsewhere})
    admin.subscribe("by-hand", "foreign")
    assert "unknown" in "".join(admin.wrong().values())
    assert admin.run("apply").exit_code == 1
    assert "by-hand" in admin.ids()
    admin.declare(leave=["by-hand"])
    assert admin.wrong() == {}
    admin.declare()
    assert admin.run("apply", "--force").exit_code == 0
    assert admin.ids() == [PREFIX + "tts"]


def test_endpoint_that_does_not_answer_is_found(admin: Administration) -> None:
    endpoint, admin.elsewhere = admin.elsewhere, f"http://127.0.0.1:{free_port()}/notify"
    admin.declare()
    try:
        assert admin.run("apply").exit_code == 0
        assert "does not answer" in "".join(admin.wrong().values())
        assert admin.run("verify", "--no-endpoints").exit_code == 0
    finally:
        admin.elsewhere = endpoint
        admin.declare()
    assert admin.run("apply").exit_code == 0


def test_rotation_and_silence(admin: Administration) -> None:
    # A persistent topic would deliver only after half a minute.
    admin.declare(persistent=False)
    assert admin.run("apply", "--rotate", "tts").exit_code == 0
    assert admin.ids() == [PREFIX + "tts-2"]
    listed = {topic["TopicArn"] for topic in admin.owner.client("sns").list_topics()["Topics"]}
    assert admin.arn("tts") not in listed
    assert admin.canary(5)[0] == 0
    # Of two notifications one leads where canaries are swallowed.
    admin.declare(persistent=False, notifications=[{"topic": "tts"}, {"topic": "other", "suffix": ".fits"}])
    assert admin.run("apply").exit_code == 0
    code, (result,) = admin.canary(2)
    assert (code, result["verdict"]) == (3, "stalled"), result
    assert result["arrivals"][PREFIX + "tts-2"] is not None
    assert result["arrivals"][PREFIX + "other"] is None
    admin.declare(persistent=False, notifications=[{"topic": "other"}])
    assert admin.run("apply").exit_code == 0
    code, (result,) = admin.canary(1)
    assert (code, result["verdict"]) == (4, "silent"), result
