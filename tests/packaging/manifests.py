"""What rendered manifests say, in short."""

from __future__ import annotations

from typing import Any

import yaml

Manifests = list[dict[str, Any]]


def find(manifests: Manifests, kind: str, name: str) -> dict[str, Any] | None:
    """The manifest of a kind whose name ends with `name`."""
    found = [item for item in manifests if item["kind"] == kind and item["metadata"]["name"].endswith(name)]
    assert len(found) <= 1, f"several of kind {kind} named {name}"
    return found[0] if found else None


def get(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    found = find(manifests, kind, name)
    assert found, f"no {kind} {name}"
    return found


def config(manifests: Manifests) -> dict[str, Any]:
    """The program's configuration."""
    texts = [item["data"]["config.yaml"] for item in manifests if "config.yaml" in item.get("data", {})]
    assert len(texts) == 1
    loaded = yaml.safe_load(texts[0])
    assert isinstance(loaded, dict)
    return loaded


def pod(manifests: Manifests, role: str) -> dict[str, Any]:
    spec = get(manifests, "Deployment", role)["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(manifests: Manifests, role: str) -> dict[str, Any]:
    (only,) = pod(manifests, role)["containers"]
    assert isinstance(only, dict)
    return only


def variables(manifests: Manifests, role: str) -> set[str]:
    return {item["name"] for item in container(manifests, role)["env"]} - {"AUTOINGEST_CONFIG"}


def service(manifests: Manifests, role: str) -> tuple[str, str | None, str | None] | None:
    """Type, pool and address of a role's Service."""
    found = find(manifests, "Service", role)
    if found is None:
        return None
    annotations = found["metadata"].get("annotations", {})
    if found["spec"]["type"] == "LoadBalancer":
        assert found["spec"]["allocateLoadBalancerNodePorts"] is False
    return (
        found["spec"]["type"],
        annotations.get("metallb.io/address-pool"),
        annotations.get("metallb.io/loadBalancerIPs"),
    )
