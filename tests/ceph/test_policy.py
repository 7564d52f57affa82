from typing import Any

import pytest

from autoingest.ceph.policy import count_public, describe_permissions, permissions_of, render
from autoingest.ceph.schema import BucketSpec

USERS = [f"arn:aws:iam:::user/{name}" for name in ("rubin-summit-users", "prompt-processing-dev")]


def bucket(*grants: dict[str, Any]) -> BucketSpec:
    return BucketSpec.model_validate({"name": "owner@rubin-summit", "policy": list(grants)})


# A policy written by hand, with one statement for everything.
BY_HAND: dict[str, Any] = {
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


def test_policies_with_the_same_effect_are_equal() -> None:
    assert permissions_of(render(bucket({"grant": "read", "principals": USERS}))) == permissions_of(BY_HAND)
    apart = [{"grant": "read", "principals": [user]} for user in reversed(USERS)]
    assert permissions_of(render(bucket(*apart))) == permissions_of(BY_HAND)


def test_differences_are_described() -> None:
    more = permissions_of(render(bucket({"grant": "readWrite", "principals": USERS}))) - permissions_of(BY_HAND)
    assert {action for _, _, action, _, _ in more} == {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"}
    assert f"Allow {USERS[0]} s3:PutObject on arn:aws:s3:::rubin-summit/*" in describe_permissions(more).splitlines()
    statement = {**BY_HAND["Statement"][0], "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.1"}}}
    assert not permissions_of({"Statement": statement}) & permissions_of(BY_HAND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '"*"',
        "null",
        "[" * 100_000,
        '{"Statement": [], "Statement": []}',
        '{"Statement": [], "Colour": "red"}',
        '{"Version": "2020-01-01", "Statement": []}',
        '{"Statement": ["Allow"]}',
        '{"Statement": {}}',
        '{"Statement": [{"Effect": "Allow"}]}',
        '{"Statement": [{"Effect": 1, "Principal": 2, "Action": 3, "Resource": 4}]}',
        '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": [], "Resource": "*"}]}',
        "\ufeff{}",
    ],
)
def test_policy_that_is_not_understood_is_reported(text: str) -> None:
    permissions = permissions_of(text)
    assert permissions
    assert describe_permissions(permissions)
    assert not permissions & permissions_of(BY_HAND)
    assert count_public(permissions) == len(permissions)


def test_only_actions_that_never_apply_to_their_resource_are_left_out() -> None:
    def kept(action: str, resource: str) -> int:
        statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": resource}
        return len(permissions_of({"Statement": [statement]}))

    whole = "arn:aws:s3:::rubin-summit"
    assert kept("s3:GETobject", whole) == kept("s3:listBucket", f"{whole}/*") == 0
    for action in ("s3:GetObjec?", "s3:Get*", "*", "", "s3:Frobnicate", "s3:DeleteObject", "s3:ListBuc\u212aet"):
        assert kept(action, whole) == kept(action, f"{whole}/*") == 1
    for resource in ("*", f"{whole}*", f"{whole}?a", "arn:aws:s3:::*/a", "arn:*:s3:::rubin-summit/*", ""):
        assert kept("s3:GetObject", resource) == kept("s3:ListBucket", resource) == 1


def test_denial_for_all_keys_applies_to_bucket_and_objects() -> None:
    policy = render(bucket({"deny": ["s3:deleteobject", "s3:LISTBUCKET"], "principals": ["*"]}))
    assert policy
    actions = {statement["Resource"][0]: statement["Action"] for statement in policy["Statement"]}
    assert list(actions) == ["arn:aws:s3:::rubin-summit", "arn:aws:s3:::rubin-summit/*"]
    assert all(denied == ["s3:DeleteObject", "s3:ListBucket"] for denied in actions.values())


def test_denial_for_some_keys_applies_to_them_only() -> None:
    policy = render(bucket({"deny": ["s3:PutObject"], "objects": "LSSTCam/raw/*", "principals": USERS[:1]}))
    assert permissions_of(policy) == {
        ("Deny", USERS[0], "s3:PutObject", "arn:aws:s3:::rubin-summit/LSSTCam/raw/*", ""),
    }


def test_no_grants_give_no_policy() -> None:
    assert render(bucket()) is None
    assert permissions_of(None) == frozenset()
