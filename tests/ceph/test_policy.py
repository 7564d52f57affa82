from typing import Any

from autoingest.ceph.blocks import BucketSpec
from autoingest.ceph.policy import in_words, meaning, render

USERS = [f"arn:aws:iam:::user/{name}" for name in ("rubin-summit-users", "prompt-processing-dev")]


def bucket(*grants: dict[str, Any]) -> BucketSpec:
    return BucketSpec.model_validate({"name": "owner@rubin-summit", "policy": list(grants)})


# As written by hand: one statement for everything.
BY_HAND = {
    "Version": "2012-10-17",
    "Id": "read-policy",
    "Statement": [
        {
            "Sid": "ReadAccess",
            "Effect": "Allow",
            "Principal": {"AWS": USERS},
            "Action": [
                "s3:GetBucketLocation",
                "s3:GetObject",
                "s3:GetObjectVersion",
                "s3:ListBucket",
                "s3:ListBucketVersions",
            ],
            "Resource": ["arn:aws:s3:::rubin-summit", "arn:aws:s3:::rubin-summit/*"],
        }
    ],
}


def test_same_meaning_in_other_words() -> None:
    assert meaning(render(bucket({"grant": "read", "principals": USERS}))) == meaning(BY_HAND)
    apart = [{"grant": "read", "principals": [user]} for user in reversed(USERS)]
    assert meaning(render(bucket(*apart))) == meaning(BY_HAND)


def test_what_differs_is_told() -> None:
    more = meaning(render(bucket({"grant": "readWrite", "principals": USERS}))) - meaning(BY_HAND)
    assert {action for _, _, action, _, _ in more} == {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"}
    assert f"Allow {USERS[0]} s3:PutObject on arn:aws:s3:::rubin-summit/*" in in_words(more).splitlines()
    statement = {**BY_HAND["Statement"][0], "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.1"}}}
    assert not meaning({"Statement": statement}) & meaning(BY_HAND)


def test_denial_is_about_the_keys_it_names() -> None:
    policy = render(bucket({"deny": ["s3:PutObject"], "objects": "LSSTCam/raw/*", "principals": USERS[:1]}))
    assert meaning(policy) == {
        ("Deny", USERS[0], "s3:PutObject", "arn:aws:s3:::rubin-summit/LSSTCam/raw/*", ""),
    }


def test_no_grants_are_no_policy() -> None:
    assert render(bucket()) is None
    assert meaning(None) == frozenset()
