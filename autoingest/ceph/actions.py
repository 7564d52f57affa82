"""The S3 actions that a bucket policy can control, and whether Ceph checks each against the bucket or the object."""

from __future__ import annotations

import re
from difflib import get_close_matches

ON_BUCKET = frozenset({
    "s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:DeleteReplicationConfiguration", "s3:GetBucketAcl",
    "s3:GetBucketCORS", "s3:GetBucketLocation", "s3:GetBucketLogging", "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketRequestPayment", "s3:GetBucketTagging",
    "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket",
    "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutBucketAcl", "s3:PutBucketCORS",
    "s3:PutBucketObjectLockConfiguration", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketRequestPayment", "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration",
})  # fmt: skip
ON_OBJECTS = frozenset({
    "s3:AbortMultipartUpload", "s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion", "s3:DeleteObjectVersionTagging", "s3:GetObject", "s3:GetObjectAcl",
    "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectTagging", "s3:GetObjectVersion",
    "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging", "s3:ListMultipartUploadParts", "s3:PutObject",
    "s3:PutObjectAcl", "s3:PutObjectLegalHold", "s3:PutObjectRetention", "s3:PutObjectTagging",
    "s3:PutObjectVersionAcl", "s3:PutObjectVersionTagging",
})  # fmt: skip
ON_BOTH = frozenset({"s3:DeleteObject"})
"""Object actions that Ceph also checks against the bucket, when one request deletes several objects."""

_ONE_BUCKET = re.compile(r"arn:aws:s3:::[^*?$]+")
_NAMES = {name.lower(): name for name in ON_BUCKET | ON_OBJECTS}


def canonical(action: str) -> str | None:
    """Return an action in its usual spelling (Ceph ignores case); None if it is unknown or contains wildcards."""
    return _NAMES.get(action.lower()) if action.isascii() else None


def validated(action: str) -> str:
    """Return an action in its usual spelling.

    Raises
    ------
    ValueError
        If Ceph's bucket policies don't control such an action; the message suggests one.
    """
    if name := canonical(action):
        return name
    near = get_close_matches(action.lower(), _NAMES, n=1)
    hint = f"did you mean {_NAMES[near[0]]}?" if near else "actions look like s3:PutObject"
    raise ValueError(f"{action!r} is not an action that Ceph lets a bucket policy deny; {hint}")


def without_effect(action: str, resource: str) -> bool:
    """Return whether an action can never apply to a resource, such as ``s3:GetObject`` to a bucket.

    Parameters
    ----------
    action
        A known action in its usual spelling.
    resource
        Resource as written in a policy. One that could match both a bucket and objects is never without effect.
    """
    bucket, slash, _ = resource.partition("/")
    if action in ON_BOTH or not _ONE_BUCKET.fullmatch(bucket):
        return False
    return action in (ON_BUCKET if slash else ON_OBJECTS)
