"""What a real Ceph lets strangers do, against what the commands say of the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from autoingest.ceph.actions import ON_BUCKET, ON_OBJECTS
from autoingest.ceph.apply import apply
from autoingest.ceph.client import Gateway
from autoingest.ceph.desired import DesiredState, Finding
from autoingest.ceph.plan import compare
from autoingest.ceph.policy import render
from autoingest.ceph.schema import BucketSpec
from autoingest.ceph.spec import Spec
from autoingest.ceph.state import read_state
from autoingest.cli.ceph import ceph as command
from testing.ceph import Ceph

BUCKET = "rubin-policy"
WHOLE = f"arn:aws:s3:::{BUCKET}"
OBJECTS = WHOLE + "/*"
SECRET_KEY = "secret.txt"


def user(name: str) -> str:
    return f"arn:aws:iam:::user/{name}"


GRANT = {"grant": "read", "principals": [user("friend")]}


@dataclass
class Bucket:
    """A bucket, its owner, a user with a grant, one without, and somebody without keys."""

    owner: Any
    friend: Any
    stranger: Any
    anybody: Any
    spec: Path

    def declare(self, *grants: dict[str, Any]) -> None:
        bucket = {"name": f"owner@{BUCKET}", "policy": list(grants)}
        self.spec.write_text(yaml.safe_dump({"profile": "owner", "buckets": [bucket]}))

    def run(self, name: str) -> Result:
        result = CliRunner().invoke(command, [name, "--spec", str(self.spec)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def put_policy(self, text: str) -> None:
        self.owner.put_bucket_policy(Bucket=BUCKET, Policy=text)

    def open_to(self, client: Any) -> list[str]:
        """What succeeds that is not declared."""
        attempts: dict[str, Callable[[], Any]] = {
            "get": lambda: client.get_object(Bucket=BUCKET, Key=SECRET_KEY)["Body"].close(),
            "list": lambda: client.list_objects_v2(Bucket=BUCKET),
            "put": lambda: client.put_object(Bucket=BUCKET, Key="new", Body=b""),
            "delete": lambda: client.delete_object(Bucket=BUCKET, Key="new"),
            "acl": lambda: client.get_bucket_acl(Bucket=BUCKET),
        }
        return [name for name, attempt in attempts.items() if not refused(attempt)]


def refused(attempt: Callable[[], Any]) -> bool:
    """Tell whether access is denied; any other answer means that the request was let in."""
    try:
        answer = attempt()
    except ClientError as err:
        return int(err.response["ResponseMetadata"]["HTTPStatusCode"]) == 403
    return isinstance(answer, dict) and any(error["Code"] == "AccessDenied" for error in answer.get("Errors", ()))


@pytest.fixture(scope="module")
def bucket(ceph: Ceph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    config = Config(signature_version=UNSIGNED, retries={"max_attempts": 0}, s3={"addressing_style": "path"})
    anybody = boto3.client("s3", endpoint_url=ceph.endpoint, region_name="default", config=config)
    friend, stranger = (ceph.create_user(name).client("s3") for name in ("friend", "stranger"))
    bucket = Bucket(ceph.client("s3"), friend, stranger, anybody, tmp_path_factory.mktemp("policy") / "ceph.yaml")
    bucket.owner.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    bucket.owner.put_object(Bucket=BUCKET, Key=SECRET_KEY, Body=b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSST_RESOURCES_S3_PROFILE_owner", ceph.profile)
        yield bucket


def policy(*statements: Any, **top: Any) -> str:
    """A policy with what is declared and more."""
    declared = render(BucketSpec.model_validate({"name": BUCKET, "policy": [GRANT]}))
    assert declared
    return json.dumps({"Version": "2012-10-17", "Statement": [*declared["Statement"], *statements], **top})


def allow(**changes: Any) -> dict[str, Any]:
    """A statement that makes objects public, changed; None takes a key away."""
    plain = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": OBJECTS}
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


# Which of these make the bucket public is for Ceph to say; it refuses some.
HOSTILE = {
    "plain": policy(allow()),
    "action in lower case": policy(allow(Action="s3:getobject")),
    "action in upper case": policy(allow(Action="S3:GETOBJECT")),
    "action with ?": policy(allow(Action="s3:GetObjec?")),
    "service with ?": policy(allow(Action="?3:GetObject")),
    "action *": policy(allow(Action="*")),
    "action [*]": policy(allow(Action=["*"])),
    "action s3:*": policy(allow(Action="s3:*")),
    "action *:*": policy(allow(Action="*:*")),
    "action *Object": policy(allow(Action="*Object")),
    "action s3:Get*": policy(allow(Action="s3:Get*")),
    "action s3:getobject*": policy(allow(Action="s3:getobject*")),
    "actions of both kinds": policy(allow(Action=["s3:ListBucket", "s3:GetObject"], Resource=[WHOLE, OBJECTS])),
    "action escaped": policy(allow()).replace("s3:GetObject", "s3:\\u0047etObject"),
    "action unknown": policy(allow(Action="s3:Frobnicate")),
    "action with blank": policy(allow(Action=" s3:GetObject")),
    "no actions": policy(allow(Action=[])),
    "NotAction": policy(allow(Action=None, NotAction="s3:DeleteBucket")),
    "NotAction of much": policy(allow(Action=None, NotAction=["s3:Put*", "s3:Delete*"])),
    "NotAction of nothing": policy(allow(Action=None, NotAction=[])),
    "Action and NotAction": policy(allow(NotAction="s3:PutObject")),
    "resource with ?": policy(allow(Resource=f"{WHOLE}?{SECRET_KEY}")),
    "resource with ? in the bucket": policy(allow(Resource=f"{WHOLE[:-1]}?/*")),
    "resource bucket*": policy(allow(Resource=f"{WHOLE}*")),
    "resource *": policy(allow(Resource="*")),
    "resource :::*": policy(allow(Resource="arn:aws:s3:::*")),
    "resource with * in the bucket": policy(allow(Resource="arn:aws:s3:::rubin-*/*")),
    "resource with * in the ARN": policy(allow(Resource=f"arn:*:s3:*:*:{BUCKET}/*")),
    "resource in another tenant": policy(allow(Resource=f"arn:aws:s3::other:{BUCKET}/*")),
    "resource of another bucket": policy(allow(Resource="arn:aws:s3:::another/*")),
    "resource one key": policy(allow(Resource=f"{WHOLE}/{SECRET_KEY}")),
    "resource in braces": policy(allow(Resource=f"{WHOLE}/${{aws:username}}*")),
    "no resource": policy(allow(Resource=None)),
    "no resources": policy(allow(Resource=[])),
    "NotResource": policy(allow(Resource=None, NotResource=f"{WHOLE}/other")),
    "NotResource elsewhere": policy(allow(Resource=None, NotResource=["arn:aws:s3:::other/*"])),
    "Resource and NotResource": policy(allow(NotResource="arn:aws:s3:::other/*")),
    "principal AWS *": policy(allow(Principal={"AWS": "*"})),
    "principal AWS [*]": policy(allow(Principal={"AWS": ["*"]})),
    "principal [*]": policy(allow(Principal=["*"])),
    "principal among users": policy(allow(Principal={"AWS": [user("friend"), "*"]})),
    "principal user/*": policy(allow(Principal={"AWS": user("*")})),
    "principal root": policy(allow(Principal={"AWS": "arn:aws:iam:::root"})),
    "principal empty tenant": policy(allow(Principal={"AWS": ""})),
    "principal anonymous": policy(allow(Principal={"AWS": user("anonymous")})),
    "principal stranger": policy(allow(Principal={"AWS": user("stranger")})),
    "principal federated": policy(allow(Principal={"Federated": [user("stranger")]})),
    "principal federated friend": policy(allow(Principal={"Federated": [user("friend")]})),
    "principal federated *": policy(allow(Principal={"Federated": "*"})),
    "principal canonical": policy(allow(Principal={"CanonicalUser": "*"})),
    "principal of no kind": policy(allow(Principal={})),
    "no principals": policy(allow(Principal={"AWS": []})),
    "no principal": policy(allow(Principal=None)),
    "NotPrincipal": policy(allow(Principal=None, NotPrincipal={"AWS": [user("friend")]})),
    "Principal and NotPrincipal": policy(allow(NotPrincipal={"AWS": [user("friend")]})),
    "effect in lower case": policy(allow(Effect="allow")),
    "no effect": policy(allow(Effect=None)),
    "condition that always holds": policy(allow(Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})),
    "condition on what is absent": policy(allow(Condition={"Null": {"aws:frob": "true"}})),
    "condition on the agent": policy(allow(Condition={"StringLike": {"aws:UserAgent": "*"}})),
    "condition if exists": policy(allow(Condition={"StringEqualsIfExists": {"aws:frob": "x"}})),
    "condition unknown": policy(allow(Condition={"Frob": {"aws:frob": "x"}})),
    "condition on a declared grant": policy(
        allow(Principal={"AWS": [user("friend")]}, Condition={"Null": {"aws:frob": "true"}})
    ),
    "unknown key": policy(allow(Colour="red")),
    "keys in lower case": policy({key.lower(): value for key, value in allow().items()}),
    "the same Sid twice": policy(allow(Sid="a"), allow(Sid="a", Action="s3:PutObject")),
    "version 2008": policy(allow(), Version="2008-10-17"),
    "version unknown": policy(allow(), Version="2020-01-01"),
    "unknown key at the top": policy(allow(), Colour="red"),
    "one statement": json.dumps({"Version": "2012-10-17", "Statement": allow()}),
    "statements in a list": policy([allow()]),
    "statements twice": policy(allow())[:-1] + ', "Statement": []}',
    "action twice": policy(allow()).replace('"Action"', '"Action": "s3:PutObject", "Action"'),
    "comment": "/* harmless */" + policy(allow()),
    "comment inside": policy(allow()).replace("[", "[ // harmless\n", 1),
    "more behind": policy(allow()) + " more",
    "denial of a friend": policy(allow(Effect="Deny", Principal={"AWS": [user("friend")]})),
    "denial turned round": policy(
        allow(), allow(Effect="Deny", Principal=None, NotPrincipal={"AWS": [user("friend")]}, Action="s3:PutObject")
    ),
}  # fmt: skip


async def test_no_policy_opens_a_bucket_unseen(bucket: Bucket) -> None:
    bucket.declare(GRANT)
    opened = 0
    spec = Spec.from_file(bucket.spec)
    desired = DesiredState(spec, {})
    async with Gateway.open(spec) as gateway:

        async def find() -> list[Finding]:
            # diff, verify, plan and apply all show what this returns.
            return compare(desired, await read_state(gateway, spec))

        for name, text in HOSTILE.items():
            bucket.put_policy(policy())
            assert await find() == []
            try:
                bucket.put_policy(text)
            except ClientError:
                continue  # Ceph does not understand it, either
            found = await find()
            to_anybody, to_stranger = bucket.open_to(bucket.anybody), bucket.open_to(bucket.stranger)
            opened += bool(to_anybody)
            assert found, f"{name}: nothing is told, open to anybody: {to_anybody}, to a stranger: {to_stranger}"
            if to_anybody:
                assert "may apply to everybody" in found[0].wrong, name
            assert await apply(gateway, desired) == []
            assert bucket.open_to(bucket.anybody) == bucket.open_to(bucket.stranger) == []
            assert not refused(lambda: bucket.friend.get_object(Bucket=BUCKET, Key=SECRET_KEY)["Body"].close())
    assert opened > 30


def test_the_commands_tell(bucket: Bucket) -> None:
    bucket.declare(GRANT)
    bucket.put_policy(HOSTILE["NotResource"])
    found = bucket.run("verify")
    assert found.exit_code == bucket.run("diff").exit_code == 1
    assert "1 permissions or denials are not declared (1 may apply to everybody)" in found.output
    assert bucket.run("apply").exit_code == bucket.run("verify").exit_code == bucket.run("diff").exit_code == 0


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read", "stranger"])
def test_acls_are_seen_and_made_private(bucket: Bucket, acl: str) -> None:
    bucket.declare(GRANT)
    bucket.run("apply")
    if acl == "stranger":
        bucket.owner.put_bucket_acl(Bucket=BUCKET, GrantRead="id=stranger")
    else:
        bucket.owner.put_bucket_acl(Bucket=BUCKET, ACL=acl)
    assert bucket.open_to(bucket.stranger)
    found = bucket.run("verify")
    assert found.exit_code == bucket.run("diff").exit_code == 1
    assert "ACL: it gives access to others than the owner" in found.output
    assert bucket.run("apply").exit_code == 0
    assert bucket.open_to(bucket.anybody) == bucket.open_to(bucket.stranger) == []
    assert bucket.run("verify").exit_code == 0


def test_same_actions_in_another_case_are_the_same(bucket: Bucket) -> None:
    bucket.declare(GRANT)
    bucket.put_policy(policy().replace("s3:GetObject", "s3:getobject"))
    assert bucket.run("verify").exit_code == 0


def test_who_may_write_may_delete_several_objects_at_once(bucket: Bucket) -> None:
    bucket.declare(
        {"grant": "readWrite", "principals": [user("friend")]},
        {"deny": ["s3:deleteobject"], "objects": "kept/*", "principals": [user("friend")]},
    )
    assert bucket.run("apply").exit_code == 0
    keys = ["kept/a", "free/a", "free/b"]
    for key in keys:
        bucket.owner.put_object(Bucket=BUCKET, Key=key, Body=b"")
    answer = bucket.friend.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
    assert {item["Key"] for item in answer["Deleted"]} == {"free/a", "free/b"}
    assert [(item["Key"], item["Code"]) for item in answer["Errors"]] == [("kept/a", "AccessDenied")]


class Attempts:
    """For each action that can be denied, requests that need it, by somebody who may do everything else."""

    def __init__(self, owner: Any, client: Any) -> None:
        self._owner = owner
        self._client = client
        self._key = {"Bucket": BUCKET, "Key": "object"}

    def of(self, action: str) -> list[Callable[[], Any]]:
        """Return the requests."""
        client, whole, key = self._client, {"Bucket": BUCKET}, self._key
        version = {**key, "VersionId": self._owner.put_object(**key, Body=b"", Tagging="a=b")["VersionId"]}
        copy = {"Bucket": BUCKET, "Key": "copy", "CopySource": key}
        tags = {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}
        lock = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=2)}
        rule = {"ID": "a", "Filter": {"Prefix": "none"}, "Status": "Enabled", "Expiration": {"Days": 1000}}
        cors = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["http://host"]}]}
        match action.removeprefix("s3:"):
            case "AbortMultipartUpload":
                return [lambda: client.abort_multipart_upload(**key, UploadId=self._upload())]
            case "BypassGovernanceRetention":
                until = datetime.now(UTC) + timedelta(minutes=10)
                self._owner.put_object_retention(**version, Retention={**lock, "RetainUntilDate": until})
                return [lambda: client.delete_object(**version, BypassGovernanceRetention=True)]
            case "DeleteBucket":
                return [lambda: client.delete_bucket(**whole)]
            case "DeleteBucketPolicy":
                return [lambda: client.delete_bucket_policy(**whole)]
            case "DeleteObject":
                several = {"Objects": [{"Key": "object"}, {"Key": "other"}]}
                return [lambda: client.delete_object(**key), lambda: client.delete_objects(**whole, Delete=several)]
            case "DeleteObjectTagging":
                return [lambda: client.delete_object_tagging(**key)]
            case "DeleteObjectVersion":
                several = {"Objects": [{"Key": "object", "VersionId": version["VersionId"]}]}
                return [lambda: client.delete_objects(**whole, Delete=several), lambda: client.delete_object(**version)]
            case "DeleteObjectVersionTagging":
                return [lambda: client.delete_object_tagging(**version)]
            case "DeleteReplicationConfiguration":
                return [lambda: client.delete_bucket_replication(**whole)]
            case "GetBucketAcl":
                return [lambda: client.get_bucket_acl(**whole)]
            case "GetBucketCORS":
                return [lambda: client.get_bucket_cors(**whole)]
            case "GetBucketLocation":
                return [lambda: client.get_bucket_location(**whole)]
            case "GetBucketLogging":
                return [lambda: client.get_bucket_logging(**whole)]
            case "GetBucketObjectLockConfiguration":
                return [lambda: client.get_object_lock_configuration(**whole)]
            case "GetBucketPolicy":
                return [lambda: client.get_bucket_policy(**whole)]
            case "GetBucketPolicyStatus":
                return [lambda: client.get_bucket_policy_status(**whole)]
            case "GetBucketRequestPayment":
                return [lambda: client.get_bucket_request_payment(**whole)]
            case "GetBucketTagging":
                return [lambda: client.get_bucket_tagging(**whole)]
            case "GetBucketVersioning":
                return [lambda: client.get_bucket_versioning(**whole)]
            case "GetLifecycleConfiguration":
                return [lambda: client.get_bucket_lifecycle_configuration(**whole)]
            case "GetObject":
                return [
                    lambda: client.get_object(**key)["Body"].close(),
                    lambda: client.head_object(**key),
                    lambda: client.copy_object(**copy),
                ]
            case "GetObjectAcl":
                return [lambda: client.get_object_acl(**key)]
            case "GetObjectLegalHold":
                self._owner.put_object_legal_hold(**key, LegalHold={"Status": "OFF"})
                return [lambda: client.get_object_legal_hold(**key)]
            case "GetObjectRetention":
                self._owner.put_object_retention(**key, Retention=lock)
                return [lambda: client.get_object_retention(**key)]
            case "GetObjectTagging":
                return [lambda: client.get_object_tagging(**key)]
            case "GetObjectVersion":
                return [lambda: client.get_object(**version)["Body"].close(), lambda: client.head_object(**version)]
            case "GetObjectVersionAcl":
                return [lambda: client.get_object_acl(**version)]
            case "GetObjectVersionTagging":
                return [lambda: client.get_object_tagging(**version)]
            case "GetReplicationConfiguration":
                return [lambda: client.get_bucket_replication(**whole)]
            case "ListBucket":
                return [
                    lambda: client.list_objects(**whole),
                    lambda: client.list_objects_v2(**whole),
                    lambda: client.head_bucket(**whole),
                ]
            case "ListBucketMultipartUploads":
                return [lambda: client.list_multipart_uploads(**whole)]
            case "ListBucketVersions":
                return [lambda: client.list_object_versions(**whole)]
            case "ListMultipartUploadParts":
                return [lambda: client.list_parts(**key, UploadId=self._upload())]
            case "PutBucketAcl":
                return [lambda: client.put_bucket_acl(**whole, AccessControlPolicy=self._acl())]
            case "PutBucketCORS":
                return [
                    lambda: client.put_bucket_cors(**whole, CORSConfiguration=cors),
                    lambda: client.delete_bucket_cors(**whole),
                ]
            case "PutBucketObjectLockConfiguration":
                enabled = {"ObjectLockEnabled": "Enabled"}
                return [lambda: client.put_object_lock_configuration(**whole, ObjectLockConfiguration=enabled)]
            case "PutBucketPolicy":
                return [lambda: client.put_bucket_policy(**whole, Policy=self._policy())]
            case "PutBucketPublicAccessBlock":
                blocked = {"BlockPublicAcls": False}
                return [lambda: client.put_public_access_block(**whole, PublicAccessBlockConfiguration=blocked)]
            case "PutBucketRequestPayment":
                payer = {"Payer": "BucketOwner"}
                return [lambda: client.put_bucket_request_payment(**whole, RequestPaymentConfiguration=payer)]
            case "PutBucketTagging":
                return [
                    lambda: client.put_bucket_tagging(**whole, **tags),
                    lambda: client.delete_bucket_tagging(**whole),
                ]
            case "PutBucketVersioning":
                enabled = {"Status": "Enabled"}
                return [lambda: client.put_bucket_versioning(**whole, VersioningConfiguration=enabled)]
            case "PutLifecycleConfiguration":
                rules = {"Rules": [rule]}
                return [
                    lambda: client.put_bucket_lifecycle_configuration(**whole, LifecycleConfiguration=rules),
                    lambda: client.delete_bucket_lifecycle(**whole),
                ]
            case "PutObject":
                part = {**key, "PartNumber": 1, "Body": b""}
                return [
                    lambda: client.put_object(**key, Body=b""),
                    lambda: client.copy_object(**copy),
                    lambda: client.create_multipart_upload(**key),
                    lambda: client.upload_part(**part, UploadId=self._upload()),
                ]
            case "PutObjectAcl":
                return [lambda: client.put_object_acl(**key, ACL="private")]
            case "PutObjectLegalHold":
                return [lambda: client.put_object_legal_hold(**key, LegalHold={"Status": "OFF"})]
            case "PutObjectRetention":
                return [lambda: client.put_object_retention(**key, Retention=lock)]
            case "PutObjectTagging":
                return [lambda: client.put_object_tagging(**key, **tags)]
            case "PutObjectVersionAcl":
                return [lambda: client.put_object_acl(**version, ACL="private")]
            case "PutObjectVersionTagging":
                return [lambda: client.put_object_tagging(**version, **tags)]
        raise AssertionError(f"no request is known that needs {action}")

    def _upload(self) -> str:
        return str(self._owner.create_multipart_upload(**self._key)["UploadId"])

    def _policy(self) -> str:
        return str(self._owner.get_bucket_policy(Bucket=BUCKET)["Policy"])

    def _acl(self) -> dict[str, Any]:
        acl = self._owner.get_bucket_acl(Bucket=BUCKET)
        return {"Owner": acl["Owner"], "Grants": acl["Grants"]}


@pytest.mark.parametrize("action", sorted(ON_BUCKET | ON_OBJECTS))
def test_what_is_denied_is_denied(bucket: Bucket, action: str) -> None:
    everything = allow(Principal={"AWS": [user("friend")]}, Action="s3:*", Resource=[WHOLE, OBJECTS])
    requests = Attempts(bucket.owner, bucket.friend).of(action)
    for number, request in enumerate(requests):
        bucket.put_policy(policy(everything))
        assert not refused(request), f"request {number} is refused anyway"
    patterns = ["*"] if action in ON_BUCKET else ["*", "obj*"]
    for pattern in patterns:
        denial = {"deny": [action.lower()], "objects": pattern, "principals": [user("friend")]}
        rendered = render(BucketSpec.model_validate({"name": BUCKET, "policy": [denial]}))
        assert rendered
        # What the requests above have changed is made anew.
        for number, request in enumerate(Attempts(bucket.owner, bucket.friend).of(action)):
            bucket.put_policy(policy(everything, *rendered["Statement"]))
            if number and pattern != "*" and "copy" in request.__code__.co_freevars and action == "s3:PutObject":
                continue  # the copy has another name
            assert refused(request), f"request {number} succeeds in spite of the denial for {pattern}"
