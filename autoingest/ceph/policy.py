"""Bucket policies: what grants mean in Ceph's words, and what a policy means whatever its words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .blocks import BucketSpec, GrantSpec

READ_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketVersions")
READ_OBJECTS = ("s3:GetObject", "s3:GetObjectVersion")
WRITE_OBJECTS = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject")

Atom = tuple[str, str, str, str, str]
"""Effect, principal, action, resource, and whatever else qualifies them, as JSON."""

_PLAIN = {"Sid", "Effect", "Principal", "Action", "Resource"}


def render(bucket: BucketSpec) -> dict[str, Any] | None:
    """Return the policy that a bucket's grants make; None for no grants."""
    statements = [statement for grant in bucket.policy or () for statement in _statements(bucket, grant)]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


def meaning(policy: Mapping[str, Any] | None) -> frozenset[Atom]:
    """Take a policy apart into single permissions, so that two of the same meaning are equal.

    Names and order of statements, and how they share principals, actions and resources, do not matter; neither do
    actions on objects that are granted on a bucket, and the reverse, which mean nothing.
    """
    atoms: set[Atom] = set()
    for statement in _several((policy or {}).get("Statement", ())):
        rest = {key: value for key, value in statement.items() if key not in _PLAIN}
        more = json.dumps(rest, sort_keys=True) if rest else ""
        for principal in _principals(statement.get("Principal")):
            for action in _several(statement.get("Action", "")):
                for resource in _several(statement.get("Resource", "")):
                    if _applies(action, resource):
                        atoms.add((statement.get("Effect", ""), principal, action, resource, more))
    return frozenset(atoms)


def in_words(atoms: Iterable[Atom]) -> str:
    """Describe permissions, one line each."""
    return "\n".join(
        f"{effect} {principal} {action} on {resource}{f' if {more}' if more else ''}"
        for effect, principal, action, resource, more in sorted(atoms)
    )


def _statements(bucket: BucketSpec, grant: GrantSpec) -> list[dict[str, Any]]:
    whole = f"arn:aws:s3:::{bucket.bare.rpartition(':')[2]}"
    objects = f"{whole}/{grant.objects}"
    if grant.deny is not None:
        parts = [("Deny", grant.deny, resource) for resource in (whole, objects)]
    else:
        actions = READ_OBJECTS + (WRITE_OBJECTS if grant.grant == "readWrite" else ())
        parts = [("Allow", READ_BUCKET, whole), ("Allow", actions, objects)]
    return [
        {"Effect": effect, "Principal": {"AWS": list(grant.principals)}, "Action": applicable, "Resource": [resource]}
        for effect, actions, resource in parts
        if (applicable := [action for action in actions if _applies(action, resource)])
    ]


def _applies(action: str, resource: str) -> bool:
    """Whether an action concerns a resource: objects have a slash in their name, buckets have none."""
    verb = action.removeprefix("s3:")
    if "*" in verb or "*" in resource.partition("/")[0]:
        return True
    about_objects = verb.endswith(("Object", "ObjectVersion", "ObjectAcl", "ObjectVersionAcl")) or any(
        part in verb
        for part in ("ObjectTagging", "ObjectVersionTagging", "MultipartUploadParts", "AbortMultipartUpload")
    )
    return about_objects == ("/" in resource)


def _principals(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [name for kind in sorted(value) for name in _several(value[kind])]
    return [str(name) for name in _several(value)]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
