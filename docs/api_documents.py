"""Render the OpenAPI and AsyncAPI documents as Markdown: their pages need no script from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parents[1] / "autoingest" / "data"


def render_events() -> str:
    """Return a section for each message of the AsyncAPI document, with its example."""
    document = yaml.safe_load((DATA / "asyncapi.yaml").read_text())
    lines: list[str] = []
    for message in document["components"]["messages"].values():
        lines += [f"### `{message['name']}`", "", message["title"], ""]
        for example in message["examples"]:
            lines += [*_code("json", json.dumps(example["payload"], indent=2)), ""]
    return "\n".join(lines)


def render_requests() -> str:
    """Return a section for each tag, and in it one for each operation, with its answers and examples."""
    document = yaml.safe_load((DATA / "openapi.yaml").read_text())
    lines: list[str] = []
    for tag in document["tags"]:
        lines += [f"## {tag['name']}", "", tag["description"].strip(), ""]
        for path, item in document["paths"].items():
            for method in ("get", "post"):
                operation = item.get(method)
                if operation and tag["name"] in operation["tags"]:
                    url = item["servers"][0]["url"] if "servers" in item else ""
                    lines += _operation(document, f"{method.upper()} {path}", url, operation)
    lines += ["## Schemas", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", schema.get("description", ""), "", *_code("yaml", _yaml(schema)), ""]
    return "\n".join(lines)


def _operation(document: dict[str, Any], title: str, url: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"### `{title}`", "", f"**{operation['summary']}** By default at {url}.", ""]
    lines += [operation.get("description", ""), ""]
    if schemes := [name for choice in operation.get("security", ()) for name in choice]:
        described = document["components"]["securitySchemes"]
        lines += [f"Bearer token: {described[name]['description']}" for name in schemes] + [""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | type | meaning |", "|---|---|---|"]
        for parameter in parameters:
            schema = _resolved(document, parameter["schema"])
            kind = " or ".join(f"`{value}`" for value in schema["enum"]) if "enum" in schema else f"`{schema['type']}`"
            pattern = f" `{schema['pattern']}`" if "pattern" in schema else ""
            lines.append(f"| `{parameter['name']}` | {kind}{pattern} | {parameter.get('description', '')} |")
        lines.append("")
    if body := operation.get("requestBody"):
        lines += _content("Body", body)
    lines += ["| answer | meaning | body |", "|---|---|---|"]
    for status, response in operation["responses"].items():
        content = " ".join(
            _reference(media["schema"]) or f"`{kind}`" for kind, media in response.get("content", {}).items()
        )
        lines.append(f"| {status} | {' '.join(response['description'].split())} | {content} |")
    lines.append("")
    for status, response in operation["responses"].items():
        lines += _content(f"Answer {status}", response, schema=False)
    return lines


def _content(title: str, holder: dict[str, Any], *, schema: bool = True) -> list[str]:
    """Return schema and examples of a request or an answer."""
    lines = []
    for kind, media in holder.get("content", {}).items():
        if schema and (reference := _reference(media["schema"])):
            lines += [f"{title}: {kind}, {reference}.", ""]
        for example in media.get("examples", {}).values():
            text = example["value"]
            shown = text if isinstance(text, str) else json.dumps(text, indent=2)
            lines += [f"{title}, {example.get('summary', 'for example')}:", ""]
            lines += [*_code("text" if isinstance(text, str) else "json", shown), ""]
    return lines


def _reference(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f"[{name}](#{name.lower()})" if name else ""


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _code(language: str, text: str) -> list[str]:
    return [f"```{language}", text.rstrip("\n"), "```"]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100)
