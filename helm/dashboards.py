"""Dashboards for Grafana, written as JSON by ``generate.py``: what they show, panel by panel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ACROSS, WIDTH, HEIGHT = 3, 8, 8
"""Panels beside each other, and their size in units of Grafana's grid."""


@dataclass(frozen=True)
class Panel:
    """A panel: its title, what it tells, and queries by their legends."""

    title: str
    meaning: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Text and colour of values."""


def _per_minute(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval])) * 60"


def _quantiles(metric: str, name: str = "") -> dict[str, str]:
    rate = f"sum by (le) (rate({metric}_bucket[$__rate_interval]))"
    return {f"{name} {word}".strip(): f"histogram_quantile({q}, {rate})" for word, q in (("half", 0.5), ("99 %", 0.99))}


_UP = {"0": ("DOWN", "red"), "1": ("up", "green")}
_INGESTED = "autoingest_creation_to_ingested_seconds"

NIGHT = (
    Panel(
        "Dependencies", "What processes of this site can use now",
        {"{{dependency}}": "min by (dependency) (autoingest_dependency_up)"}, kind="stat", states=_UP,
    ),
    Panel("Processes", "Alive, and silent ones", {"{{state}}": "max by (state) (autoingest_processes)"}, kind="stat"),
    Panel(
        "Within 5 s", "Share of the last hour's images that took 5 s at the most from their creation; the aim is 99 %",
        {"": f'sum(rate({_INGESTED}_bucket{{le="5.0"}}[1h])) / sum(rate({_INGESTED}_count[1h]))'},
        unit="percentunit", kind="stat",
    ),
    Panel(
        "Images per minute", "Files that got into the Butler",
        {"{{instrument}}": _per_minute("autoingest_ingested_total", "instrument")},
    ),
    Panel("From creation to ingest", "Half, and 99 %, of images take no longer", _quantiles(_INGESTED), unit="s"),
    Panel(
        "Oldest file", "Age since its announcement: on the queue, in work, waiting",
        {
            f"{word} {{{{bucket}}}}": f"max by (bucket) (autoingest_{name}_oldest_seconds)"
            for word, name in (("queued", "queue"), ("in work", "working"), ("waiting", "waiting"))
        },
        unit="s",
    ),
    Panel(
        "Files", "How many are on the queue, in work, waiting",
        {
            f"{word} {{{{bucket}}}}": f"max by (bucket) (autoingest_{name})"
            for word, name in (("queued", "queue_depth"), ("in work", "working_files"), ("waiting", "waiting_files"))
        },
    ),
    Panel(
        "Exposures", "In progress now, and incomplete at their deadline within the last hour",
        {
            "in progress {{bucket}}": "max by (bucket) (autoingest_exposures_in_progress)",
            "incomplete {{bucket}}": "sum by (bucket) (increase(autoingest_exposures_incomplete_total[1h]))",
        },
    ),
    Panel(
        "Needs somebody", "Dead letters, and exposures without their visit",
        {
            "dead letters {{bucket}}": "max by (bucket) (autoingest_dead_letters)",
            "owed visits {{bucket}}": "max by (bucket) (autoingest_owed_visits)",
        },
    ),
    Panel(
        "Reconcile", "Exposures of the last comparison of store and Butler, by verdict",
        {"{{bucket}} {{verdict}}": "max by (bucket, verdict) (autoingest_reconcile_exposures)"},
    ),
    Panel(
        "Memory of Redis", "Used, and the limit beyond which nothing is accepted",
        {"used": "max(autoingest_redis_memory_bytes)", "limit": "max(autoingest_redis_max_memory_bytes)"}, unit="bytes",
    ),
    Panel(
        "Versions", "Number of processes of each version of the program",
        {"{{version}}": "count by (version) (autoingest_build_info)"},
    ),
)  # fmt: skip

OBJECT = (
    Panel(
        "1. Announced", "Records of notifications per minute",
        {
            f"{name} {{{{bucket}}}}": _per_minute(f"autoingest_{name}_total", "bucket")
            for name in ("received", "queued", "duplicate", "ignored", "rejected")
        }
        | {"without secret": "sum(rate(autoingest_unauthentic_total[$__rate_interval])) * 60"},
    ),
    Panel("Answer to a notification", "Time that the sender waits", _quantiles("autoingest_notify_seconds"), unit="s"),
    Panel(
        "Kafka", "Messages that are not in Redis yet", {"{{topic}}": "sum by (topic) (autoingest_kafka_lag)"},
    ),
    Panel(
        "2. Queued", "Time from creation until it is queued",
        _quantiles("autoingest_creation_to_queued_seconds"), unit="s",
    ),
    Panel(
        "3. Present", "Time from creation until Prompt Processing can see it",
        _quantiles("autoingest_creation_to_presence_seconds"), unit="s",
    ),
    Panel(
        "Lookups of presence", "Per minute, by answer",
        {"{{answer}}": _per_minute("autoingest_presence_lookups_total", "answer")},
    ),
    Panel(
        "4. In work", "Time per batch, by step: 99 % take no longer",
        {
            "{{step}}": "histogram_quantile(0.99, "
            "sum by (step, le) (rate(autoingest_batch_seconds_bucket[$__rate_interval])))"
        },
        unit="s",
    ),
    Panel(
        "Files per batch", "Mean",
        {
            "mean": "sum(rate(autoingest_batch_files_sum[$__rate_interval]))"
            " / sum(rate(autoingest_batch_files_count[$__rate_interval]))"
        },
    ),
    Panel(
        "Held up", "Per minute: failed attempts, files given up, files that wait, and why",
        {
            f"{word} {{{{reason}}}}": _per_minute(f"autoingest_{name}_total", "reason")
            for word, name in (("failed", "failed"), ("dead", "dead"), ("waits", "waited"))
        },
    ),
    Panel("5. Ingested", "Time from creation until it is in the Butler", _quantiles(_INGESTED), unit="s"),
    Panel(
        "Visits per minute", "Visits that were defined",
        {"{{instrument}}": _per_minute("autoingest_visits_total", "instrument")},
    ),
    Panel(
        "6. Events", "How far each reader is behind, and open streams",
        {
            "{{reader}} {{stream}}": "max by (reader, stream) (autoingest_event_lag_seconds)",
            "streams": "sum(autoingest_event_clients)",
        },
    ),
)  # fmt: skip

DASHBOARDS = {"night": ("Autoingest: night", NIGHT), "object": ("Autoingest: path of an object", OBJECT)}
"""Title and panels of each, by the name of its file."""


def within_namespace(expression: str) -> str:
    """Restrict an expression to the namespace that is chosen on the dashboard."""
    where = 'namespace="$namespace"'
    expression = re.sub(r"\b(autoingest_\w+)\{", rf"\1{{{where},", expression)
    return re.sub(r"\b(autoingest_\w+)(?![\w{])", rf"\1{{{where}}}", expression)


def render(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"autoingest-{name}",
        "title": title,
        "tags": ["autoingest"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "namespace", "type": "query", "datasource": SOURCE, "refresh": 2,
                    "query": "label_values(autoingest_build_info, namespace)",
                },
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }  # fmt: skip


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    options = {value: {"text": text, "color": colour} for value, (text, colour) in panel.states.items()}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": SOURCE,
        "gridPos": {"x": number % ACROSS * WIDTH, "y": number // ACROSS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "mappings": [{"type": "value", "options": options}] if options else []},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + index), "expr": within_namespace(query), "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
