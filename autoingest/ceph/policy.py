"""Bucket policies: write the declared grants as a policy, and take any policy apart into single permissions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .actions import ON_BOTH, ON_BUCKET, canonical, without_effect
from .schema import BucketSpec, GrantSpec

READ_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketVersions")
READ_OBJECTS = ("s3:GetObject", "s3:GetObjectVersion")
WRITE_OBJECTS = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject")

Permission = tuple[str, str, str, str, str]
"""Effect, principal, action, resource, and whatever else the statement says, as JSON.

For a policy or statement that is not understood, the effect is `UNKNOWN` and the last item is its text.
"""

UNKNOWN = "not understood:"

_VERSIONS = (None, "2012-10-17", "2008-10-17")
_PLAIN = {"Sid", "Effect", "Principal", "Action", "Resource"}
_ONE_USER = re.compile(r"arn:aws:iam::[^:*?]*:user/(?!anonymous$)[^*?]+")


def render(bucket: BucketSpec) -> dict[str, Any] | None:
    """Return the policy for a bucket's declared grants; None if there are none."""
    statements = [statement for grant in bucket.policy or () for statement in _statements(bucket, grant)]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


def permissions_of(policy: Mapping[str, Any] | str | None) -> frozenset[Permission]:
    """Take a policy apart into single permissions, so that policies with the same effect compare equal.

    Names and order of statements, how they combine principals, actions and resources, and the case of actions do not
    matter. Known actions that can never apply to their resource are left out. Everything else is kept, so that a policy
    that says more than this program writes never equals one that it has written.

    Parameters
    ----------
    policy
        As `render` returns it, or as Ceph's text.
    """
    if policy is None:
        return frozenset()
    if isinstance(policy, str):
        try:
            policy = json.loads(policy, object_pairs_hook=_refuse_duplicate_keys)
        except (ValueError, RecursionError):
            return frozenset({_not_understood(policy)})
    if (
        not isinstance(policy, dict)
        or policy.keys() - {"Version", "Id", "Statement"}
        or policy.get("Version") not in _VERSIONS
    ):
        return frozenset({_not_understood(policy)})
    return frozenset(
        permission
        for statement in _as_list(policy.get("Statement", []))
        for permission in _statement_permissions(statement)
    )


def describe_permissions(permissions: Iterable[Permission]) -> str:
    """Describe permissions, one a line."""
    return "\n".join(
        f"{effect} {more}"
        if effect == UNKNOWN
        else f"{effect} {principal} {action} on {resource}{f' if {more}' if more else ''}"
        for effect, principal, action, resource, more in sorted(permissions)
    )


def count_public(permissions: Iterable[Permission]) -> int:
    """Count the permissions that may apply to everybody: all except denials and those of a single named user."""
    return sum(effect != "Deny" and not _ONE_USER.fullmatch(principal) for effect, principal, *_ in permissions)


def _statements(bucket: BucketSpec, grant: GrantSpec) -> list[dict[str, Any]]:
    whole = f"arn:aws:s3:::{bucket.name_on_server.rpartition(':')[2]}"
    objects = f"{whole}/{grant.objects}"
    if grant.deny is None:
        write = grant.grant == "readWrite"
        effect = "Allow"
        on_bucket = [*READ_BUCKET, *(action for action in WRITE_OBJECTS if write and action in ON_BOTH)]
        on_objects = [*READ_OBJECTS, *(WRITE_OBJECTS if write else ())]
    else:
        effect = "Deny"
        # A denial for some keys must not apply to the bucket: it would forbid any request that deletes several objects.
        everything = grant.objects == "*"
        on_bucket = [action for action in grant.deny if everything or action in ON_BUCKET]
        on_objects = [action for action in grant.deny if everything or action not in ON_BUCKET]
    return [
        {"Effect": effect, "Principal": {"AWS": list(grant.principals)}, "Action": actions, "Resource": [resource]}
        for actions, resource in ((on_bucket, whole), (on_objects, objects))
        if actions
    ]


def _statement_permissions(statement: Any) -> Iterable[Permission]:
    if not isinstance(statement, dict):
        yield _not_understood(statement)
        return
    rest = {key: value for key, value in statement.items() if key not in _PLAIN}
    more = json.dumps(rest, sort_keys=True) if rest else ""
    effect = _as_text(statement.get("Effect"))
    for principal in _principals(statement.get("Principal")):
        for given in _as_list(statement.get("Action")):
            action = canonical(_as_text(given)) or _as_text(given)
            for resource in map(_as_text, _as_list(statement.get("Resource"))):
                if more or not without_effect(action, resource):
                    yield (effect, principal, action, resource, more)


def _principals(value: Any) -> list[str]:
    """Return principals as texts; the kind is added unless it is AWS."""
    if not isinstance(value, dict) or not value:
        return [_as_text(value)]
    return [
        _as_text(name) if kind == "AWS" else f"{kind} {_as_text(name)}"
        for kind, names in sorted(value.items())
        for name in _as_list(names)
    ]


def _as_list(value: Any) -> list[Any]:
    """Return a list's items, or a single value as a list; an empty list counts as a value, to keep its statement."""
    return list(value) if isinstance(value, list | tuple) and value else [value]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _not_understood(what: Any) -> Permission:
    return (UNKNOWN, "", "", "", _as_text(what))


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("duplicate key")
    return content
