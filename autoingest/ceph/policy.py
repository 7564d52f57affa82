"""Bucket policies: what grants mean in Ceph's words, and what a policy means whatever its words."""

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

Atom = tuple[str, str, str, str, str]
"""Effect, principal, action, resource, and whatever else qualifies them, as JSON.

Where a policy or a statement is not understood, the effect is `UNKNOWN` and the last item holds its text.
"""

UNKNOWN = "not understood:"

_VERSIONS = (None, "2012-10-17", "2008-10-17")
_PLAIN = {"Sid", "Effect", "Principal", "Action", "Resource"}
_ONE_USER = re.compile(r"arn:aws:iam::[^:*?]*:user/(?!anonymous$)[^*?]+")


def render(bucket: BucketSpec) -> dict[str, Any] | None:
    """Return the policy that a bucket's grants make; None for no grants."""
    statements = [statement for grant in bucket.policy or () for statement in _statements(bucket, grant)]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


def meaning(policy: Mapping[str, Any] | str | None) -> frozenset[Atom]:
    """Take a policy apart into single permissions, so that two of the same meaning are equal.

    Names and order of statements, how they share principals, actions and resources, and the case of actions do not
    matter. Known actions that never meet their resource are left out. Everything else is kept, so that a policy that
    says more than this program writes never equals one that it has written.

    Parameters
    ----------
    policy
        As `render` returns it, or the text that Ceph holds.
    """
    if policy is None:
        return frozenset()
    if isinstance(policy, str):
        try:
            policy = json.loads(policy, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            return frozenset({_not_understood(policy)})
    if (
        not isinstance(policy, dict)
        or policy.keys() - {"Version", "Id", "Statement"}
        or policy.get("Version") not in _VERSIONS
    ):
        return frozenset({_not_understood(policy)})
    return frozenset(atom for statement in _several(policy.get("Statement", [])) for atom in _atoms(statement))


def in_words(atoms: Iterable[Atom]) -> str:
    """Describe permissions, one line each."""
    return "\n".join(
        f"{effect} {more}"
        if effect == UNKNOWN
        else f"{effect} {principal} {action} on {resource}{f' if {more}' if more else ''}"
        for effect, principal, action, resource, more in sorted(atoms)
    )


def for_everybody(atoms: Iterable[Atom]) -> int:
    """Count the permissions that may be for everybody: all but denials and those of one named user."""
    return sum(effect != "Deny" and not _ONE_USER.fullmatch(principal) for effect, principal, *_ in atoms)


def _statements(bucket: BucketSpec, grant: GrantSpec) -> list[dict[str, Any]]:
    whole = f"arn:aws:s3:::{bucket.bare.rpartition(':')[2]}"
    objects = f"{whole}/{grant.objects}"
    if grant.deny is None:
        write = grant.grant == "readWrite"
        effect = "Allow"
        on_bucket = [*READ_BUCKET, *(action for action in WRITE_OBJECTS if write and action in ON_BOTH)]
        on_objects = [*READ_OBJECTS, *(WRITE_OBJECTS if write else ())]
    else:
        effect = "Deny"
        # A denial of some keys only must not reach the bucket: nobody could delete several other objects at once.
        everything = grant.objects == "*"
        on_bucket = [action for action in grant.deny if everything or action in ON_BUCKET]
        on_objects = [action for action in grant.deny if everything or action not in ON_BUCKET]
    return [
        {"Effect": effect, "Principal": {"AWS": list(grant.principals)}, "Action": actions, "Resource": [resource]}
        for actions, resource in ((on_bucket, whole), (on_objects, objects))
        if actions
    ]


def _atoms(statement: Any) -> Iterable[Atom]:
    if not isinstance(statement, dict):
        yield _not_understood(statement)
        return
    rest = {key: value for key, value in statement.items() if key not in _PLAIN}
    more = json.dumps(rest, sort_keys=True) if rest else ""
    effect = _text(statement.get("Effect"))
    for principal in _principals(statement.get("Principal")):
        for given in _several(statement.get("Action")):
            action = canonical(_text(given)) or _text(given)
            for resource in map(_text, _several(statement.get("Resource"))):
                if more or not without_effect(action, resource):
                    yield (effect, principal, action, resource, more)


def _principals(value: Any) -> list[str]:
    """Return principals as texts; those of another kind than AWS are named with it."""
    if not isinstance(value, dict) or not value:
        return [_text(value)]
    return [
        _text(name) if kind == "AWS" else f"{kind} {_text(name)}"
        for kind, names in sorted(value.items())
        for name in _several(names)
    ]


def _several(value: Any) -> list[Any]:
    """Return a list's items; a list without any stays, so that its statement is not lost."""
    return list(value) if isinstance(value, list | tuple) and value else [value]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _not_understood(what: Any) -> Atom:
    return (UNKNOWN, "", "", "", _text(what))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content
