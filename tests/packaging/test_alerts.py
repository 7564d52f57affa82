"""Every alert fires when it must, is silent when it must, and has an entry in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoingest.app.metrics import REGISTRY
from testing.requirements import missing

from . import manifests as m
from .conftest import CHART, ROOT, Render
from .test_chart import LEAST, over

FILE = CHART / "files" / "alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
CASES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alert_cases.yaml").read_text())


@pytest.fixture(scope="session")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        missing("prometheus", "install Debian's package prometheus")
    return program


def test_file_is_valid(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("name", CASES)
def test_fires_and_is_silent(name: str, promtool: str, tmp_path: Path) -> None:
    case = CASES[name]
    fires = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
            "promql_expr_test": [{"expr": fires, "eval_time": case["at"], "exp_samples": expected}],
        }
        for inputs, expected in ((case["firing"], [{"value": 1, "labels": "{}"}]), (case["silent"], []))
    ]
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_asks_for_metrics_that_there_are(name: str) -> None:
    known = {metric.name for metric in REGISTRY.collect()}
    asked = set(re.findall(r"\b(?:autoingest|process)_\w+", RULES[name]["expr"]))
    assert asked
    assert {re.sub(r"_(total|bucket|count|info)$", "", each) for each in asked} <= known


@pytest.mark.parametrize("name", RULES)
def test_runbook_says_what_to_do(name: str) -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    assert RULES[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    entry = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert entry
    for part in ("**Means**", "**Wake**"):
        assert part in entry
    assert "**Look**" in entry or "**Do**" in entry


def test_chart_installs_the_rules(render: Render) -> None:
    values = over(LEAST, alerts__enabled=True, alerts__documentation="https://docs.example/", alerts__labels={"a": "b"})
    rules = m.get(render(values=values), "PrometheusRule", "autoingest")
    assert rules["metadata"]["labels"]["a"] == "b"
    installed = {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert list(installed) == list(RULES)
    for name, rule in installed.items():
        assert rule["labels"]["namespace"] == "site"
        assert rule["annotations"]["runbook_url"] == f"https://docs.example/runbook.html#{name.lower()}"
    assert m.find(render(values=LEAST), "PrometheusRule", "autoingest") is None


@pytest.mark.parametrize("name", CASES)
def test_rules_of_the_chart_look_at_their_own_site(name: str, promtool: str, render: Render, tmp_path: Path) -> None:
    """An outage of one site is not hidden by others that share a Prometheus with it, nor announced as theirs."""
    rules = m.get(render(values=over(LEAST, alerts__enabled=True)), "PrometheusRule", "autoingest")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    case, tests = CASES[name], []
    for here, elsewhere, expected in (("firing", "silent", [{"value": 1, "labels": "{}"}]), ("silent", "firing", [])):
        series = [
            {"series": _in_namespace(each, namespace), "values": values}
            for namespace, state in (("site", here), ("other", elsewhere))
            for each, values in case[state].items()
        ]
        fires = f'count(ALERTS{{alertname="{name}",alertstate="firing",namespace="site"}})'
        expression = {"expr": fires, "eval_time": case["at"], "exp_samples": expected}
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": [expression]})
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _in_namespace(series: str, namespace: str) -> str:
    metric, _, labels = series.partition("{")
    return f'{metric}{{namespace="{namespace}",{labels or "}"}'


def test_chart_installs_the_dashboards(render: Render) -> None:
    manifests = render(values=over(LEAST, dashboards__enabled=True, dashboards__labels={"grafana_dashboard": "1"}))
    for file in (CHART / "files" / "dashboards").glob("*.json"):
        installed = m.get(manifests, "ConfigMap", f"-dashboard-{file.stem}")
        assert installed["metadata"]["labels"]["grafana_dashboard"] == "1"
        [(name, text)] = installed["data"].items()
        assert name == f"autoingest-{file.name}"
        assert json.loads(text) == json.loads(file.read_text())
    assert m.find(render(values=LEAST), "ConfigMap", "-dashboard-night") is None
