from typing import Any

import pytest

from autoingest.ceph.policy import for_everybody, in_words, meaning, render
from autoingest.ceph.schema import BucketSpec

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
def test_what_is_not_understood_is_told(text: str) -> None:
    atoms = meaning(text)
    assert atoms
    assert in_words(atoms)
    assert not atoms & meaning(BY_HAND)
    assert for_everybody(atoms) == len(atoms)


def test_only_actions_that_never_meet_their_resource_are_left_out() -> None:
    def left(action: str, resource: str) -> int:
        statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": resource}
        return len(meaning({"Statement": [statement]}))

    whole = "arn:aws:s3:::rubin-summit"
    assert left("s3:GETobject", whole) == left("s3:listBucket", f"{whole}/*") == 0
    for action in ("s3:GetObjec?", "s3:Get*", "*", "", "s3:Frobnicate", "s3:DeleteObject", "s3:ListBuc\u212aet"):
        assert left(action, whole) == left(action, f"{whole}/*") == 1
    for resource in ("*", f"{whole}*", f"{whole}?a", "arn:aws:s3:::*/a", "arn:*:s3:::rubin-summit/*", ""):
        assert left("s3:GetObject", resource) == left("s3:ListBucket", resource) == 1


def test_denial_of_everything_is_about_bucket_and_objects() -> None:
    policy = render(bucket({"deny": ["s3:deleteobject", "s3:LISTBUCKET"], "principals": ["*"]}))
    assert policy
    actions = {statement["Resource"][0]: statement["Action"] for statement in policy["Statement"]}
    assert list(actions) == ["arn:aws:s3:::rubin-summit", "arn:aws:s3:::rubin-summit/*"]
    assert all(denied == ["s3:DeleteObject", "s3:ListBucket"] for denied in actions.values())


def test_denial_is_about_the_keys_it_names() -> None:
    policy = render(bucket({"deny": ["s3:PutObject"], "objects": "LSSTCam/raw/*", "principals": USERS[:1]}))
    assert meaning(policy) == {
        ("Deny", USERS[0], "s3:PutObject", "arn:aws:s3:::rubin-summit/LSSTCam/raw/*", ""),
    }


def test_no_grants_are_no_policy() -> None:
    assert render(bucket()) is None
    assert meaning(None) == frozenset()
