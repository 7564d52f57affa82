"""The requests that administer a Ceph: S3 for buckets, SNS for topics, and one that only Ceph has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from yarl import URL

from ..errors import AutoingestError, ConfigurationError, TransientError
from ..store.failure import one_line
from ..store.profiles import open_client, resolve
from .schema import BucketSpec
from .spec import Spec

MISSING = 404
DENIED = (401, 403)
REFUSED_BY_QUEUE = 503
"""HTTP status of a PUT when a topic's queue is full."""

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)


class RefusedError(AutoingestError):
    """Ceph refused a request; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status=status)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (RefusedError, (str(self), self.status))


@dataclass(frozen=True, slots=True)
class Notification:
    """One entry of a bucket's notification configuration."""

    id: str
    arn: str
    events: tuple[str, ...]
    filter: str
    """JSON of sorted ``[name, value]`` pairs, as `key_filter` returns it; any other kind of filter in full."""

    @property
    def topic(self) -> str:
        """Name of the topic: the last part of the ARN."""
        return self.arn.rpartition(":")[2]


def key_filter(prefix: str, suffix: str) -> str:
    """Return a filter on keys in the form in which filters are compared."""
    return json.dumps(sorted([name, value] for name, value in (("prefix", prefix), ("suffix", suffix)) if value))


class Gateway:
    """Ceph's gateway, with the credentials that a specification names.

    Every method raises `RefusedError` if the gateway refuses a request, `ConfigurationError` if it denies access, and
    `TransientError` if it does not answer. Messages name the bucket or topic, and never contain a secret.
    """

    def __init__(self, sns: Any, s3: Mapping[str, Any]) -> None:
        self._sns = sns
        self._s3 = s3

    @classmethod
    @asynccontextmanager
    async def open(cls, spec: Spec) -> AsyncIterator[Gateway]:
        """Open clients with the profiles of a specification.

        Raises
        ------
        ConfigurationError
            If a profile is missing from the environment, or has no endpoint.
        """
        topics = f"{spec.profile}@topics" if spec.profile else "topics"
        for name in (topics, *(bucket.name for bucket in spec.buckets)):
            if resolve(name).endpoint is None:
                raise ConfigurationError(
                    f"no endpoint for {name}: set S3_ENDPOINT_URL, or LSST_RESOURCES_S3_PROFILE_<profile> for "
                    "profile@bucket, to the URL of Ceph's gateway"
                )
        async with AsyncExitStack() as stack:
            sns = await stack.enter_async_context(open_client(topics, service="sns"))
            s3 = {bucket.name: await stack.enter_async_context(open_client(bucket.name)) for bucket in spec.buckets}
            yield cls(sns, s3)

    async def topics(self) -> Counter[str]:
        """Count the ARNs of all topics of the tenant.

        Before the new format of Ceph Squid, every notification has a copy of its topic, which is listed with the same
        ARN.
        """
        found: Counter[str] = Counter()
        with _translated_errors("list topics"):
            async for page in self._sns.get_paginator("list_topics").paginate():
                found.update(topic["TopicArn"] for topic in page.get("Topics", ()))
        return found

    async def topic(self, arn: str) -> dict[str, str] | None:
        """Return a topic's attributes as Ceph reports them; None if there is no such topic."""
        try:
            with _translated_errors(f"read topic {arn}"):
                response = await self._sns.get_topic_attributes(TopicArn=arn)
        except RefusedError as err:
            if err.status == MISSING:
                return None
            raise
        return dict(response["Attributes"])

    async def write_topic(self, name: str, attributes: Mapping[str, str]) -> str:
        """Create or overwrite a topic; return its ARN."""
        with _translated_errors(f"write topic {name}"):
            response = await self._sns.create_topic(Name=name, Attributes=dict(attributes))
        return str(response["TopicArn"])

    async def delete_topic(self, arn: str) -> None:
        """Delete a topic that no bucket uses any more."""
        with _translated_errors(f"delete topic {arn}"):
            await self._sns.delete_topic(TopicArn=arn)

    async def create_bucket(self, bucket: BucketSpec) -> None:
        """Create a bucket."""
        with _translated_errors(f"create bucket {bucket.name}"):
            await self._s3[bucket.name].create_bucket(Bucket=bucket.name_on_server)

    async def notifications(self, bucket: BucketSpec) -> list[Notification] | None:
        """Return a bucket's notification configuration; None if there is no such bucket."""
        try:
            with _translated_errors(f"read the notifications of bucket {bucket.name}"):
                response = await self._s3[bucket.name].get_bucket_notification_configuration(
                    Bucket=bucket.name_on_server
                )
        except RefusedError as err:
            if err.status == MISSING:
                return None
            raise
        return [_notification(entry) for entry in response.get("TopicConfigurations", ())]

    async def subscribe(self, bucket: BucketSpec, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add or overwrite entries of a bucket's notification configuration; other entries stay."""
        with _translated_errors(f"write the notifications of bucket {bucket.name}"):
            await self._s3[bucket.name].put_bucket_notification_configuration(
                Bucket=bucket.name_on_server, NotificationConfiguration={"TopicConfigurations": list(entries)}
            )

    async def unsubscribe(self, bucket: BucketSpec, notification_id: str) -> None:
        """Remove one entry of a bucket's notification configuration, by a request that only Ceph knows.

        Pass only ids that the server itself has listed: a server that does not know this request would take it for the
        deletion of the whole bucket.
        """
        location = resolve(bucket.name)
        keys = location.credential()
        request = AWSRequest(
            "DELETE",
            f"{location.endpoint}/{quote(location.bucket, safe='')}",
            params={"notification": notification_id},
        )
        credentials = Credentials(keys["access_key_id"], keys["secret_access_key"], keys.get("token"))
        S3SigV4Auth(credentials, "s3", location.region).add_auth(request)
        prepared = request.prepare()
        what = f"remove notification {notification_id} from bucket {bucket.name}"
        try:
            async with (
                aiohttp.ClientSession(timeout=REQUEST_TIMEOUT) as session,
                session.delete(
                    URL(prepared.url, encoded=True), headers=dict(prepared.headers), ssl=location.tls()
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as err:
            raise TransientError(f"can't {what}: Ceph does not answer ({one_line(err)})") from err
        if status >= 300:
            raise _refusal(what, status, None)

    async def policy(self, bucket: BucketSpec) -> str | None:
        """Return the text of a bucket's policy, if it has one."""
        try:
            with _translated_errors(f"read the policy of bucket {bucket.name}"):
                response = await self._s3[bucket.name].get_bucket_policy(Bucket=bucket.name_on_server)
        except RefusedError as err:
            if err.status == MISSING:
                return None
            raise
        return str(response["Policy"])

    async def write_policy(self, bucket: BucketSpec, policy: Mapping[str, Any] | None) -> None:
        """Replace a bucket's policy; None removes it."""
        with _translated_errors(f"write the policy of bucket {bucket.name}"):
            if policy is None:
                await self._s3[bucket.name].delete_bucket_policy(Bucket=bucket.name_on_server)
            else:
                await self._s3[bucket.name].put_bucket_policy(Bucket=bucket.name_on_server, Policy=json.dumps(policy))

    async def acl(self, bucket: BucketSpec) -> tuple[str, ...]:
        """Return what a bucket's ACL grants to anyone but its owner, each grant as ``AllUsers READ``."""
        with _translated_errors(f"read the ACL of bucket {bucket.name}"):
            response = await self._s3[bucket.name].get_bucket_acl(Bucket=bucket.name_on_server)
        owner = response.get("Owner", {}).get("ID")
        found = []
        for grant in response.get("Grants", ()):
            grantee = grant.get("Grantee", {})
            if owner is None or grantee.get("ID") != owner:
                name = grantee.get("ID") or grantee.get("EmailAddress") or grantee.get("URI", "").rpartition("/")[2]
                found.append(f"{name or 'unknown grantee'} {grant.get('Permission')}")
        return tuple(sorted(found))

    async def make_private(self, bucket: BucketSpec) -> None:
        """Reset a bucket's ACL, so that it grants nothing to anyone but the owner."""
        with _translated_errors(f"write the ACL of bucket {bucket.name}"):
            await self._s3[bucket.name].put_bucket_acl(Bucket=bucket.name_on_server, ACL="private")

    async def put(self, bucket: BucketSpec, key: str, body: bytes) -> None:
        """Write an object."""
        with _translated_errors(f"put {key} into bucket {bucket.name}"):
            await self._s3[bucket.name].put_object(Bucket=bucket.name_on_server, Key=key, Body=body)

    async def delete(self, bucket: BucketSpec, prefix: str, before: datetime | None = None) -> None:
        """Delete all objects with a prefix, including every version and delete marker.

        Parameters
        ----------
        bucket
            The bucket.
        prefix
            Beginning of the keys, or a whole key.
        before
            Delete only what was last modified before this time.
        """
        client = self._s3[bucket.name]
        with _translated_errors(f"delete {prefix} from bucket {bucket.name}"):
            async for page in client.get_paginator("list_object_versions").paginate(
                Bucket=bucket.name_on_server, Prefix=prefix
            ):
                for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if before is None or item["LastModified"] < before:
                        await client.delete_object(
                            Bucket=bucket.name_on_server, Key=item["Key"], VersionId=item["VersionId"]
                        )


def _notification(entry: Mapping[str, Any]) -> Notification:
    rules = entry.get("Filter") or {}
    key = rules.get("Key", {}).get("FilterRules", [])
    pairs = sorted([rule["Name"].lower(), rule["Value"]] for rule in key)
    text = json.dumps(pairs if not rules.keys() - {"Key"} else rules, sort_keys=True)
    return Notification(entry.get("Id", ""), entry["TopicArn"], tuple(sorted(entry.get("Events", ()))), text)


@contextmanager
def _translated_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as err:
        answer = err.response.get("ResponseMetadata", {})
        raise _refusal(what, answer.get("HTTPStatusCode", 0), err.response.get("Error", {}).get("Code")) from None
    except (BotoCoreError, HTTPClientError, OSError) as err:
        raise TransientError(f"can't {what}: Ceph does not answer ({one_line(err)})") from err


def _refusal(what: str, status: int, code: str | None) -> AutoingestError:
    reason = f"{status} {code}" if code else str(status)
    if status in DENIED:
        return ConfigurationError(
            f"can't {what}: access denied ({reason}); give the profile the keys of a user who may do this, which for a "
            "bucket is its owner"
        )
    return RefusedError(f"can't {what}: Ceph answers {reason}", status)
