"""The deployments of today, as the chart renders them, against what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from testing.command import run

from . import manifests as m
from .conftest import ENVIRONMENTS, KUBERNETES, Render

Balancer = tuple[str, str | None, str | None]

LIMITS = {"cpu": "1", "memory": "2Gi"}
KEYS = {"S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@dataclass(frozen=True)
class Deployed:
    """One deployment, column by column."""

    prefix: str
    input: Balancer | str
    """Service of the webhook, or topic of Kafka."""
    filter: str
    secret: bool
    replicas: int
    batch: int
    bucket: str
    repo: str
    credentials: frozenset[str]
    group: str | None = None
    ingest: str = "ingest"
    exposure_webhook: bool = False
    presence: tuple[Balancer, dict[str, str] | None] | None = None
    redis: Balancer = ("ClusterIP", None, None)
    limits: tuple[tuple[str, str], ...] = tuple(LIMITS.items())
    run_as_group: int = 1000
    volumes: int = 0
    sqlite: bool = False


def balancer(pool: str | None = None, ip: str | None = None) -> Balancer:
    return ("LoadBalancer", pool, ip)


SUMMIT = Deployed(
    prefix="embargo-butler",
    input=balancer("sdf-services"),
    filter="fits$",
    secret=True,
    replicas=1,
    batch=10,
    bucket="rubin-summit",
    repo="s3://rubin-summit-users/butler.yaml",
    credentials=frozenset(KEYS),
    exposure_webhook=True,
    presence=(balancer(), {"cpu": "250m", "memory": "100Mi"}),
)
TTS = replace(
    SUMMIT, prefix="tts-butler", bucket="rubin-tts", repo="s3://rubin-tts-users/butler.yaml", exposure_webhook=False,
    presence=None,
)  # fmt: skip

DEPLOYED = {
    "summit": SUMMIT,
    "summit-new": Deployed(
        prefix="embargo-butler",
        input="rubin-summit-notification-8",
        group="embargo-butler-enqueue-summit",
        filter=r"\.fits$",
        secret=False,
        replicas=8,
        batch=50,
        bucket="embargo@rubin-summit",
        repo="s3://embargo@rubin-summit-users/butler.yaml",
        credentials=frozenset({"LSST_RESOURCES_S3_PROFILE_embargo"}),
        exposure_webhook=True,
        presence=(balancer(ip="172.24.5.158"), {"cpu": "1", "memory": "1000Mi"}),
        redis=balancer("sdf-rubin-ingest"),
    ),
    "tts": TTS,
    "bts": replace(TTS, prefix="bts-butler", bucket="rubin-bts", repo="s3://rubin-bts-users/butler.yaml"),
    "sts": replace(
        TTS,
        prefix="sts-butler",
        bucket="rubin-sts",
        repo="s3://rubin-sts/butler-ingest.yaml",
        replicas=20,
        exposure_webhook=True,
    ),
    "pp-dev": Deployed(
        prefix="embargo-butler",
        input=balancer(ip="172.24.5.74"),
        filter=r"LSSTCam/\d{8}/\w*/[\w.]*\.fits$",
        secret=False,
        replicas=2,
        batch=10,
        bucket="prompt-processing-dev@rubin-pp-dev",
        repo="s3://prompt-processing-dev@rubin-pp-dev-users/central_repo_2/butler.yaml",
        credentials=frozenset({"LSST_RESOURCES_S3_PROFILE_prompt-processing-dev"}),
        presence=(balancer(), {"cpu": "250m", "memory": "500Mi"}),
    ),
    "lfa": replace(
        TTS,
        prefix="embargo-butler",
        ingest="ingest-lfa",
        input=balancer("sdf-rubin-ingest", "172.24.10.41"),
        filter=r"(FiberSpectrograph:.*\.fits$|GenericCamera/.*_\d{6}\.fits$)",
        bucket="rubinobs-lfa-cp",
        repo="/repo/main",
        limits=(("cpu", "500m"), ("memory", "1Gi")),
        run_as_group=4085,
        volumes=2,
    ),
    "test": Deployed(
        prefix="embargo-butler",
        input="prompt-processing-dev-20260114",
        group="embargo-butler-enqueue-test",
        filter=r"\.fits$",
        secret=False,
        replicas=1,
        batch=50,
        bucket="embargo@rubin-summit",
        repo="/repo/test",
        credentials=frozenset({"LSST_RESOURCES_S3_PROFILE_embargo"}),
        presence=(balancer(), None),
        sqlite=True,
    ),
}


def read(manifests: m.Manifests, expected: Deployed) -> Deployed:
    """What the manifests deploy. A limit that is not known of the deployment is not compared."""
    config = m.config(manifests)
    redis = m.get(manifests, "StatefulSet", "-redis")
    deployment = m.get(manifests, "Deployment", f"-{expected.ingest}")
    names = m.variables(manifests, "-enqueue") | m.variables(manifests, deployment["metadata"]["name"])
    kafka = config["enqueue"].get("kafka", {})
    listens = m.service(manifests, "-enqueue")
    presence = m.service(manifests, "-presence")
    limits = m.container(manifests, "-presence")["resources"]["limits"] if presence else None
    spec = deployment["spec"]["template"]["spec"]
    own = {"config", "tmp", "db-auth", "db-auth-secret", "repository"}
    assert (listens is None) == (config["enqueue"].get("listen", {}) is None)
    (topic,) = kafka.get("topics", [None])
    (bucket,) = config["buckets"]
    return Deployed(
        prefix=redis["metadata"]["name"].removesuffix("-redis"),
        input=listens or topic,
        group=kafka.get("groupId"),
        filter=config["enqueue"]["filter"],
        secret="AUTOINGEST_NOTIFICATION_SECRETS" in names,
        replicas=deployment["spec"]["replicas"],
        batch=config["ingest"]["batchSize"],
        bucket=bucket,
        repo=config["ingest"]["repo"],
        credentials=frozenset(name for name in names if name in KEYS or name.startswith("LSST_RESOURCES_S3_PROFILE_")),
        ingest=deployment["metadata"]["name"].removeprefix(f"{expected.prefix}-"),
        exposure_webhook=bool(config["ingest"].get("exposureWebhook")),
        presence=(presence, limits if expected.presence and expected.presence[1] else None) if presence else None,
        redis=m.service(manifests, "-redis"),  # type: ignore[arg-type]
        limits=tuple(m.container(manifests, deployment["metadata"]["name"])["resources"]["limits"].items()),
        run_as_group=spec["securityContext"]["runAsGroup"],
        volumes=len([volume for volume in spec["volumes"] if volume["name"] not in own]),
        sqlite=m.find(manifests, "PersistentVolumeClaim", "-repository") is not None
        and any(container["name"] == "repository" for container in spec.get("initContainers", ())),
    )


def test_all_are_there() -> None:
    assert set(ENVIRONMENTS) == set(DEPLOYED)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name: str, render: Render, tmp_path: Path) -> None:
    manifests = render(name)
    expected = DEPLOYED[name]
    assert read(manifests, expected) == expected

    validate(manifests)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(m.config(manifests)))
    result = run("config", "check", str(file))
    assert result.exit_code == 0, result.output

    # One Redis, as they all have.
    redis = m.get(manifests, "StatefulSet", "-redis")["spec"]
    spec = redis["template"]["spec"]
    user = {key: spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert set(user.values()) == {999}
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "redis", "key": "password"}
    assert redis["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert m.config(manifests)["redis"]["url"] == f"redis://{expected.prefix}-redis:6379/0"
    if service := m.find(manifests, "Service", "-enqueue"):
        (port,) = service["spec"]["ports"]
        (bound,) = [item for item in m.container(manifests, "-enqueue")["ports"] if item["name"] == port["targetPort"]]
        assert (port["port"], bound["containerPort"]) == (8080, 8000)


def validate(manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
