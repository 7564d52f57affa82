"""The chart: what it makes of values, and which it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_client
import yaml

from autoingest.app.config import Config
from autoingest.dev import embedded
from autoingest.dev.embedded import free_port
from testing.site import Site
from testing.waiting import wait_for

from . import manifests as m
from .conftest import CHART, ENVIRONMENTS, ROOT, RefusedError, Render
from .test_environments import validate

ROLES = ("enqueue", "ingest", "idle", "presence", "events", "status", "reconcile")

LEAST: dict[str, Any] = {
    "config": {"buckets": ["embargo@rubin-summit"], "ingest": {"repo": "/repo"}},
    "secrets": {
        "redisPassword": {"secret": "redis", "key": "password"},
        "notificationSecrets": {"secret": "notification", "key": "secret"},
        "s3": {"profiles": {"embargo": {"secret": "profile", "key": "embargo"}}},
    },
    "networkPolicy": {"notifyFrom": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
}
"""The least values that are accepted."""

KAFKA = {"bootstrapServers": ["kafka:9092"], "topics": ["summit"], "groupId": "autoingest"}


def over(base: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Values with others set, each named by its path with ``__`` for dots."""
    result = yaml.safe_load(yaml.safe_dump(base))
    for path, value in values.items():
        *above, last = path.split("__")
        block = result
        for key in above:
            block = block.setdefault(key, {})
        block[last] = value
    return result  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_lint(name: str, helm: Path) -> None:
    values = CHART / "environments" / f"{name}.yaml"
    subprocess.run([helm, "lint", "--strict", CHART, "--values", values], check=True, capture_output=True)


def test_lint_without_values(helm: Path) -> None:
    subprocess.run([helm, "lint", "--strict", CHART], check=True, capture_output=True)


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*-values.yaml")), ids=lambda file: file.stem)
def test_values_for_chart_testing(file: Path, helm: Path, render: Render) -> None:
    subprocess.run([helm, "lint", "--strict", CHART, "--values", file], check=True, capture_output=True)
    manifests = render(values=yaml.safe_load(file.read_text()))
    own = ("apps", "batch", "networking.k8s.io", "policy", "v1")
    validate([item for item in manifests if item["apiVersion"].partition("/")[0] in own])
    assert m.find(manifests, "Deployment", "-ingest")


def test_files_made_from_others_are_current() -> None:
    subprocess.run([sys.executable, ROOT / "helm" / "generate.py", "--check"], check=True)


def test_every_value_is_commented() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        if not re.match(r" *[\w-]+: *\S", line):
            continue
        above = number - 1
        while lines[above].strip().startswith("#") and not lines[above].strip().startswith("# --"):
            above -= 1
        if not lines[above].strip().startswith("# --"):
            bare.append(line)
    # Resources are told of as a whole.
    assert [line for line in bare if not re.match(r" *(requests|limits):", line)] == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (over(LEAST, rolls={}), "rolls"),
        (over(LEAST, config__ingest__batchsize=10), "batchsize"),
        (over(LEAST, config__logging={"level": "LOUD"}), "config.logging.level"),
        (over(LEAST, roles__ingest__autoscaling__maximum=3), "maximum"),
        (over(LEAST, roles__enqueue__service__metallb__address="10.0.0.1"), "address"),
        (over(LEAST, redis__persistence__class="fast"), "class"),
        (over(LEAST, roles__enqueue__replicas=0), "roles.enqueue.replicas"),
        (over(LEAST, roles__ingest__replicas=0), "roles.ingest.replicas"),
        (over(LEAST, config__buckets=[]), "config.buckets"),
        (over(LEAST, config__roles=["ingest"]), "config.roles"),
        (over(LEAST, config__redis__url="redis://other:6379/0"), "config.redis.url"),
        (over(LEAST, redis__enabled=False), "config.redis.url"),
        (over(LEAST, secrets__redisPassword={}), "secrets.redisPassword"),
        (over(LEAST, secrets__notificationSecrets={}), "secrets.notificationSecrets"),
        (over(LEAST, secrets__notificationSecrets={"secret": "notification"}), "secrets.notificationSecrets"),
        (over(LEAST, secrets__s3__profiles={}), "secrets.s3.profiles.embargo"),
        (over(LEAST, config__buckets=["rubin-summit"]), "secrets.s3.accessKey"),
        (over(LEAST, config__ingest__repo="s3://users@repo/butler.yaml"), "secrets.s3.profiles.users"),
        (
            over(LEAST, config__enqueue={"kafka": {**KAFKA, "securityProtocol": "SASL_SSL", "saslUsername": "u"}}),
            "secrets.kafkaPassword",
        ),
        (over(LEAST, roles__ingest__terminationGracePeriodSeconds=60), "roles.ingest.terminationGracePeriodSeconds"),
        (
            over(LEAST, roles__ingest__terminationGracePeriodSeconds=118, config__ingest__drain=91),
            "config.ingest.drain",
        ),
        (over(LEAST, config__ingest__drain=50), "config.ingest.drain"),
        (over(LEAST, config__ingest__lease=30), "config.ingest.lease"),
        (over(LEAST, roles__presence__service__metallb={"pool": "p"}, roles__presence__enabled=True), "LoadBalancer"),
        (over(LEAST, redis__appendfsync="no"), "redis.appendfsync"),
        (over(LEAST, roles__ingest__autoscaling__enabled=True), "roles.ingest.autoscaling.prometheus"),
        (over(LEAST, repository__volume__enabled=True, roles__ingest__replicas=2), "repository.volume"),
        (over(LEAST, networkPolicy__notifyFrom=[]), "networkPolicy.notifyFrom: required"),
        (over(LEAST, roles__ingest__replicas=None), "roles.ingest: replicas is required"),
        (over(LEAST, roles__enqueue__service__port=None), "roles.enqueue.service: port is required"),
        (over(LEAST, redis__maxmemory=None), "redis: maxmemory is required"),
        (over(LEAST, secrets__s3__accessKey=None), "secrets.s3: accessKey is required"),
        (over(LEAST, image__repository=None), "image: repository is required"),
        (over(LEAST, roles__ingest__name=None), "roles.ingest: name is required"),
        (over(LEAST, config__ingest__batchSize=None), "config.ingest.batchSize"),
        (over(LEAST, roles__idle__topologySpreadConstraints=[{"maxSkew": 1}]), "topologyKey"),
        (over(LEAST, canary__enabled=True), "tests.cephSpec: required by canary.enabled"),
        (over(LEAST, canary__schedule="often"), "canary.schedule"),
        ({}, "config"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], message: str, render: Render) -> None:
    with pytest.raises(RefusedError) as refusal:
        render(values=values)
    assert message in str(refusal.value)


def test_split(render: Render) -> None:
    more = {f"roles__{role}__enabled": True for role in ("presence", "events", "status", "reconcile")}
    values = over(LEAST, **more, config__ingest__drain=300)
    manifests = render(values=values)
    validate(manifests)
    for role in ROLES:
        assert m.container(manifests, role)["args"][-1] == role
        spec = m.get(manifests, "Deployment", role)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert m.get(manifests, "PodDisruptionBudget", role)["spec"]["maxUnavailable"] == 1
        assert m.pod(manifests, role)["terminationGracePeriodSeconds"] == 300 + 8 + 5 + 15
        assert_restricted(m.pod(manifests, role))
    assert_restricted(m.get(manifests, "StatefulSet", "-redis")["spec"]["template"]["spec"])
    assert m.get(manifests, "Deployment", "-enqueue")["spec"]["replicas"] == 2
    affinity = m.pod(manifests, "-enqueue")["affinity"]["podAntiAffinity"]
    term = affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]
    assert term["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "enqueue"
    # /readyz waits for Redis for a second. A probe that gave up as early would close enqueue whenever Redis hangs.
    assert m.container(manifests, "-enqueue")["readinessProbe"]["timeoutSeconds"] > 1
    assert m.variables(manifests, "-idle") == {"AUTOINGEST_REDIS_PASSWORD"}


def assert_restricted(spec: dict[str, Any]) -> None:
    """What Kubernetes' Pod Security Standard ``restricted`` asks for, and a read-only root."""
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_combined(render: Render) -> None:
    manifests = render(values=over(LEAST, combined=True, roles__presence__enabled=True))
    validate(manifests)
    (deployment,) = [item for item in manifests if item["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert m.container(manifests, "combined")["args"][-1] == "enqueue,ingest,idle,presence"
    for role in ("enqueue", "presence"):
        selector = m.get(manifests, "Service", role)["spec"]["selector"]
        assert selector.items() <= labels.items()


@pytest.mark.parametrize("webhook", [True, False])
def test_kafka_beside_or_instead_of_the_webhook(webhook: bool, render: Render) -> None:
    enqueue = {"kafka": KAFKA, **({} if webhook else {"listen": None})}
    manifests = render(values=over(LEAST, config__enqueue=enqueue))
    validate(manifests)
    assert m.config(manifests)["enqueue"]["kafka"] == KAFKA
    assert (m.find(manifests, "Service", "-enqueue") is not None) == webhook
    assert (m.find(manifests, "Pod", "-canary") is not None) == webhook
    ports = {port["name"] for port in m.container(manifests, "-enqueue")["ports"]}
    assert ports == ({"admin", "notify"} if webhook else {"admin"})


def test_other_redis_many_buckets_and_keys(render: Render) -> None:
    values = over(
        LEAST,
        redis__enabled=False,
        config__redis__url="rediss://redis.example.org:6380/1",
        config__buckets=["embargo@rubin-summit", "users@rubin-pp-dev", "rubin-tts"],
        secrets__s3__profiles__users={"value": "https://KEY:SECRET@s3.example.org"},
        secrets__s3__endpoint={"value": "https://s3.example.org"},
        secrets__s3__accessKey={"remote": "rubin/s3", "property": "key"},
        secrets__s3__secretKey={"remote": "rubin/s3", "property": "secret"},
    )
    manifests = render(values=values)
    assert m.find(manifests, "StatefulSet", "-redis") is None
    assert m.config(manifests)["redis"]["url"] == "rediss://redis.example.org:6380/1"
    assert m.variables(manifests, "-ingest") == {
        "AUTOINGEST_REDIS_PASSWORD", "LSST_RESOURCES_S3_PROFILE_embargo", "LSST_RESOURCES_S3_PROFILE_users",
        "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip
    created = m.get(manifests, "Secret", "-secrets")["stringData"]
    assert created["s3.profiles.users"] == "https://KEY:SECRET@s3.example.org"
    external = m.get(manifests, "ExternalSecret", "-external")["spec"]
    fetched = {item["secretKey"]: item["remoteRef"]["property"] for item in external["data"]}
    assert fetched == {"s3.accessKey": "key", "s3.secretKey": "secret"}
    for item in (each for each in m.container(manifests, "-ingest")["env"] if each["name"] != "AUTOINGEST_CONFIG"):
        reference = item["valueFrom"]["secretKeyRef"]
        if reference["name"].endswith("-secrets"):
            assert reference["key"] in created
        if reference["name"].endswith("-external"):
            assert reference["key"] in fetched


def test_db_auth_is_copied_with_the_mode_that_the_butler_wants(render: Render, tmp_path: Path) -> None:
    manifests = render(values=over(LEAST, secrets__dbAuth={"secret": "db", "key": "auth"}))
    spec = m.pod(manifests, "-ingest")
    (copy,) = spec["initContainers"]
    (secret,) = [volume["secret"] for volume in spec["volumes"] if volume["name"] == "db-auth-secret"]
    assert secret == {"secretName": "db", "items": [{"key": "auth", "path": "db-auth.yaml"}]}
    assert {"name": "LSST_DB_AUTH", "value": copy["command"][-1]} in m.container(manifests, "-ingest")["env"]
    assert "db-auth" not in {volume["name"] for volume in m.pod(manifests, "-enqueue")["volumes"]}
    source, target = tmp_path / "mounted", tmp_path / "db-auth.yaml"
    source.write_text("- url: postgresql://db\n")
    subprocess.run([*copy["command"][:-2], source, target], check=True)
    assert target.stat().st_mode & 0o777 == 0o400


def test_autoscaling_and_monitoring(render: Render) -> None:
    scaling = {"enabled": True, "prometheus": "http://prometheus:9090", "minReplicas": 2}
    manifests = render(values=over(LEAST, roles__ingest__autoscaling=scaling, serviceMonitor__enabled=True))
    assert "replicas" not in m.get(manifests, "Deployment", "-ingest")["spec"]
    scaled = m.get(manifests, "ScaledObject", "-ingest")["spec"]
    assert scaled["scaleTargetRef"]["name"] == m.get(manifests, "Deployment", "-ingest")["metadata"]["name"]
    query = scaled["triggers"][0]["metadata"]["query"]
    from autoingest.app import metrics

    for gauge in (metrics.QUEUE_DEPTH, metrics.WORKING_FILES):
        assert next(iter(gauge.describe())).name + '{namespace="site"}' in query
    monitor = m.get(manifests, "ServiceMonitor", "autoingest")["spec"]
    service = m.get(manifests, "Service", "-admin")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    pods = m.get(manifests, "Deployment", "-idle")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()


def test_only_this_release_reaches_its_redis(render: Render) -> None:
    manifests = render(values=LEAST)
    policy = m.get(manifests, "NetworkPolicy", "-redis")["spec"]
    redis = m.get(manifests, "StatefulSet", "-redis")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= redis.items()
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    for role in ("enqueue", "ingest", "idle"):
        labels = m.get(manifests, "Deployment", role)["spec"]["template"]["metadata"]["labels"]
        assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert not peer["podSelector"]["matchLabels"].items() <= redis.items()


def test_valkey_starts_as_the_chart_says(render: Render, tmp_path: Path) -> None:
    manifests = render(values=LEAST)
    file, port, password = tmp_path / "valkey.conf", free_port(), 'sw"ord\\fish #1'
    text = m.get(manifests, "ConfigMap", "-redis")["data"]["valkey.conf"]
    file.write_text(text.replace("dir /data", f"dir {tmp_path}") + f"port {port}\nbind 127.0.0.1\n")
    (container,) = m.get(manifests, "StatefulSet", "-redis")["spec"]["template"]["spec"]["containers"]
    *shell, script = container["command"]
    script = script.replace("valkey-server", str(embedded.valkey_binary())).replace(
        "/etc/valkey/valkey.conf", str(file)
    )
    environment = {**os.environ, "REDISCLI_AUTH": password}
    with subprocess.Popen([*shell, script], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: embedded.listens(port), "Valkey listens")
            with redis_client.Redis(port=port, password=password, decode_responses=True) as client:
                wait_for(client.ping, "Valkey answers")
                assert client.config_get("append*", "maxmemory*").items() >= {
                    "appendonly": "yes", "appendfsync": "always", "maxmemory": str(1400 * 2**20),
                    "maxmemory-policy": "noeviction",
                }.items()  # fmt: skip
                assert client.info("server")["process_id"] == process.pid  # it gets the pod's signals
            with redis_client.Redis(port=port) as stranger, pytest.raises(redis_client.AuthenticationError):
                stranger.ping()
            arguments = psutil.Process(process.pid).cmdline()
            assert not any("sw" in word for word in arguments), arguments
        finally:
            process.terminate()


def test_pods_are_labelled_spread_and_ranked(render: Render) -> None:
    spread = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    values = over(
        LEAST, roles__ingest__podLabels={"team": "7"}, roles__ingest__priorityClassName="night",
        roles__ingest__topologySpreadConstraints=[spread], redis__priorityClassName="night",
    )  # fmt: skip
    manifests = render(values=values)
    validate(manifests)
    labels = m.get(manifests, "Deployment", "-ingest")["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "7"
    pod = m.pod(manifests, "-ingest")
    assert pod["priorityClassName"] == "night"
    assert m.get(manifests, "StatefulSet", "-redis")["spec"]["template"]["spec"]["priorityClassName"] == "night"
    [constraint] = pod["topologySpreadConstraints"]
    assert constraint.items() >= spread.items()
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_names_that_look_like_numbers_stay_texts(render: Render) -> None:
    every = {f"roles__{role}__enabled": True for role in ("presence", "events", "status", "reconcile")}
    values = over(LEAST, fullnameOverride="123", nameOverride="456", alerts__enabled=True, dashboards__enabled=True)
    for manifests in (render(values=values), render(values=over(LEAST, fullnameOverride="123", **every))):
        validate([item for item in manifests if item["apiVersion"].partition("/")[0] != "monitoring.coreos.com"])
        for item in manifests:
            assert isinstance(item["metadata"]["name"], str)
            assert all(isinstance(label, str) for label in item["metadata"]["labels"].values())


def test_services_have_the_ports_of_the_configuration(render: Render) -> None:
    more = {f"roles__{role}__enabled": True for role in ("presence", "events", "status")}
    manifests, settings = render(values=over(LEAST, **more)), Config.from_dict(LEAST["config"], "values")
    for role in ("enqueue", "presence", "events", "status"):
        listen = getattr(settings, role).listen
        [port] = m.get(manifests, "Service", f"-{role}")["spec"]["ports"]
        assert port["port"] == listen.port
        [bound] = [each for each in m.container(manifests, f"-{role}")["ports"] if each["name"] == port["targetPort"]]
        assert bound["containerPort"] == listen.port


def first_yaml(page: str) -> dict[str, Any]:
    """The first block of YAML on a page of the documentation."""
    block = re.search(r"^( *)```yaml\n(.*?)^\1```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    loaded: dict[str, Any] = yaml.safe_load(textwrap.dedent(block[2]))
    return loaded


def test_values_of_the_guides_render(render: Render) -> None:
    least, move = first_yaml("deployment.md"), first_yaml("migration.md")
    validate(render(values=least))
    for name in ENVIRONMENTS:
        manifests = render(name, move)
        assert [item["metadata"]["name"] for item in manifests if item["kind"] == "Deployment"] == ["autoingest-idle"]
        assert m.config(manifests)["redis"]["url"] == "redis://OLD-redis:6379/0"


def test_tls_and_tokens(render: Render) -> None:
    tls = {"port": 8002, "tls": {"certFile": "/tls/tls.crt", "keyFile": "/tls/tls.key"}}
    token = {"secret": "token", "key": "admin"}
    values = over(
        LEAST, config__admin__listen=tls, config__enqueue__listen=tls | {"port": 8000}, secrets__adminToken=token,
        secrets__presenceToken={"value": "hush"}, roles__presence__enabled=True, serviceMonitor__enabled=True,
    )  # fmt: skip
    manifests = render(values=values)
    assert m.container(manifests, "-idle")["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    named = {"name": "AUTOINGEST_CONFIG", "value": "/etc/autoingest/config.yaml"}
    assert named in m.container(manifests, "-idle")["env"]
    (endpoint,) = m.get(manifests, "ServiceMonitor", "autoingest")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["authorization"]["credentials"] == {"name": "token", "key": "admin"}
    assert "AUTOINGEST_PRESENCE_TOKEN" in m.variables(manifests, "-presence")
    assert "AUTOINGEST_PRESENCE_TOKEN" not in m.variables(manifests, "-enqueue")
    assert m.find(manifests, "Pod", "-canary") is None


def test_canary_flies_to_redis_and_tells_a_wrong_one(render: Render, valkey_url: str, tmp_path: Path) -> None:
    manifests = render(values=LEAST)
    script = tmp_path / "canary.py"
    script.write_text(m.get(manifests, "ConfigMap", "-canary")["data"]["canary.py"])
    (container,) = m.get(manifests, "Pod", "-canary")["spec"]["containers"]
    service = m.get(manifests, "Service", "-enqueue")
    (port,) = service["spec"]["ports"]
    assert container["command"][2] == f"http://{service['metadata']['name']}:{port['port']}/notify"
    secret = {"AUTOINGEST_NOTIFICATION_SECRETS": "swordfish"}
    site = Site(tmp_path, valkey_url, "repo", ["embargo@rubin-summit", "tenant:rubin-tts"], environment=secret)
    try:
        site.start("enqueue")

        def fly(config: Path, **variables: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(script), site.notify_url, str(config)]
            return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)

        config = tmp_path / "process-0.yaml"
        good = fly(config, **secret)
        assert good.returncode == 0, good.stderr
        assert good.stdout.count("arrived") == 2
        unauthentic = fly(config, AUTOINGEST_NOTIFICATION_SECRETS="salmon")
        assert unauthentic.returncode == 1
        assert "401" in unauthentic.stderr
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"redis": {"url": f"{valkey_url[:-1]}5"}}))
        elsewhere = fly(other, **secret)
        assert elsewhere.returncode == 1
        assert "not in the Redis" in elsewhere.stderr
    finally:
        site.close()


def test_canaries_are_sent_on_a_schedule(render: Render) -> None:
    manifests = render(values=over(LEAST, canary__enabled=True, tests__cephSpec="topics: {}\n"))
    validate(manifests)
    job = m.get(manifests, "CronJob", "-canaries")["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("*/10 * * * *", "Forbid")
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    assert_restricted(pod)
    assert pod["containers"][0]["args"][:2] == ["ceph", "canary"]
    [files] = [volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "canary"]
    assert m.get(manifests, "ConfigMap", "-canaries")["metadata"]["name"] == files
    assert m.get(manifests, "ConfigMap", "-canaries")["data"] == {"ceph.yaml": "topics: {}\n"}
    assert "helm.sh/hook" not in m.get(manifests, "ConfigMap", "-canaries")["metadata"].get("annotations", {})


@pytest.mark.parametrize("role", ["events", "status"])
def test_role_is_reached_through_gafaelfawr(render: Render, role: str) -> None:
    values = over(LEAST, **{
        f"roles__{role}__enabled": True, f"roles__{role}__ingress": {"enabled": True, "host": "rsp.example"},
        f"config__{role}": {"pathPrefix": "/autoingest", "unauthenticated": True},
    })  # fmt: skip
    ingress = m.get(render(values=values), "GafaelfawrIngress", f"-{role}")
    assert ingress["config"] == {"service": "autoingest", "scopes": {"all": ["read:image"]}}
    [rule] = ingress["template"]["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == ("rsp.example", "/autoingest")
    assert path["backend"]["service"]["name"] == m.get(render(values=values), "Service", f"-{role}")["metadata"]["name"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config__events": {"unauthenticated": True}}, "config.events.pathPrefix is needed"),
        ({"roles__events__ingress": {"enabled": True}}, "roles.events.ingress.host: is needed"),
    ],
)
def test_an_ingress_without_host_or_path_is_refused(render: Render, changed: dict[str, Any], message: str) -> None:
    ingress = {"enabled": True, "host": "rsp.example"}
    given = {"roles__events__ingress": ingress, "config__events": {"pathPrefix": "/autoingest"}} | changed
    with pytest.raises(RefusedError) as refusal:
        render(values=over(LEAST, roles__events__enabled=True, **given))
    assert message in str(refusal.value)


def test_status_page_needs_no_butler(render: Render) -> None:
    manifests = render(values=over(LEAST, roles__status__enabled=True, secrets__readToken={"value": "x"}))
    found = m.variables(manifests, "-status")
    assert "AUTOINGEST_READ_TOKEN" in found
    assert not any("S3" in name or name.startswith("PG") for name in found)


def test_events_get_their_secrets(render: Render) -> None:
    names = {f"secrets__{name}": {"value": "x"} for name in ("readToken", "webhookSecrets", "kafkaPassword")}
    manifests = render(values=over(LEAST, roles__events__enabled=True, **names))
    wanted = {"AUTOINGEST_READ_TOKEN", "AUTOINGEST_WEBHOOK_SECRETS", "AUTOINGEST_KAFKA_PASSWORD"}
    assert wanted <= m.variables(manifests, "-events")
    assert "AUTOINGEST_KAFKA_PASSWORD" in m.variables(manifests, "-enqueue")
    assert not wanted & m.variables(manifests, "-idle")
