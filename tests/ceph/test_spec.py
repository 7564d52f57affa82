from pathlib import Path
from typing import Any

import pytest
import yaml

from autoingest.ceph.spec import Spec
from autoingest.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "autoingest/data/config" / "ceph-summit.yaml"
TOPIC = {"name": "summit", "pushEndpoint": "http://host:8080/notify"}
USER = "arn:aws:iam:::user/reader"


def load(tmp_path: Path, bucket: dict[str, Any] | None = None, topic: dict[str, Any] | None = None, **top: Any) -> Spec:
    bucket = {"name": "rubin-summit", "notifications": [{"topic": "summit"}], **(bucket or {})}
    file = tmp_path / "ceph.yaml"
    file.write_text(yaml.safe_dump({"topics": [TOPIC | (topic or {})], "buckets": [bucket], **top}))
    return Spec.from_file(file)


def test_example_is_valid() -> None:
    spec = Spec.from_file(EXAMPLE)
    assert spec.topics[1].name_of(8) == "rubin-summit-notification-8"


def events(*names: str) -> dict[str, Any]:
    return {"notifications": [{"topic": "summit", "events": list(names)}]}


@pytest.mark.parametrize(
    ("bucket", "topic", "message"),
    [
        ({"colour": "red"}, {}, "buckets.0.colour"),
        (events("s3:ObjectCreated:*", "s3:ObjectRemoved:*"), {}, "crashes Ceph's gateway"),
        (events("s3:ObjectCreated:Put"), {}, "missed"),
        ({"notifications": [{"topic": "nowhere"}]}, {}, "not a declared topic"),
        ({"policy": [{"grant": "read", "principals": ["arn:aws:iam::123456789012:user/x"]}]}, {}, "without granting"),
        ({"policy": [{"grant": "read", "principals": ["reader"]}]}, {}, "neither arn"),
        ({"policy": [{"grant": "read", "principals": ["*"]}]}, {}, "public"),
        ({"policy": [{"principals": [USER]}]}, {}, "either grant or deny"),
        ({"policy": [{"grant": "read", "principals": ["arn:aws:iam:::user/anonymous"]}]}, {}, "everybody without keys"),
        ({"policy": [{"grant": "read", "principals": ["arn:aws:iam:::user/?"]}]}, {}, "neither arn"),
        ({"policy": [{"deny": ["s3:DeleteObjects"], "principals": [USER]}]}, {}, "did you mean s3:DeleteObject?"),
        ({"policy": [{"deny": ["PutObject"], "principals": [USER]}]}, {}, "did you mean s3:PutObject?"),
        ({"policy": [{"deny": ["s3:*"], "principals": [USER]}]}, {}, "not an action"),
        ({"policy": [{"deny": ["s3:ListAllMyBuckets"], "principals": [USER]}]}, {}, "not an action"),
        ({"policy": [{"deny": [""], "principals": [USER]}]}, {}, "not an action"),
        ({"leave": ["autoingest.rubin-summit.x"]}, {}, "this file's prefix"),
        ({}, {"pushEndpoint": "ftp://host/"}, "must be http:"),
        ({}, {"pushEndpoint": "http://user:word@host/"}, "credentials"),
        ({}, {"pushEndpoint": "kafka://host"}, "port"),
    ],
)
def test_mistake_is_refused_and_names_the_file(
    tmp_path: Path, bucket: dict[str, Any], topic: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(tmp_path, bucket, topic)
    assert "ceph.yaml" in str(caught.value)


def test_topics_that_could_be_generations_of_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="generation"):
        load(tmp_path, topics=[TOPIC, {**TOPIC, "name": "summit-12"}])


def test_tenant_is_accepted(tmp_path: Path) -> None:
    load(tmp_path, {"policy": [{"grant": "read", "principals": ["arn:aws:iam::rubin:user/reader"]}]})


def test_secrets_come_from_the_environment_and_stay_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load(tmp_path, topic={"opaqueDataVariable": "SUMMIT_SECRET"})
    with pytest.raises(ConfigurationError, match="SUMMIT_SECRET is not set"):
        spec.secrets()
    monkeypatch.setenv("SUMMIT_SECRET", "two words")
    with pytest.raises(ConfigurationError, match="white space") as caught:
        spec.secrets()
    assert "two words" not in str(caught.value)
    monkeypatch.setenv("SUMMIT_SECRET", "word")
    assert "word" not in repr(spec.secrets())
