"""Post a canary to the webhook, and see whether it is in Redis: NOTIFY_URL CONFIG_FILE."""

import asyncio
import sys
import uuid
from pathlib import Path

import aiohttp

from autoingest.app.config import Config
from autoingest.app.secrets import notification_secrets
from autoingest.model.buckets import name_on_server
from autoingest.model.notices import CANARY_FOLDER
from autoingest.queue import keys
from autoingest.queue.connection import connect

TIMEOUT = 20.0
NOTIFICATION = "helm-test"


async def fly(url: str, config: Config) -> None:
    """Send one canary for each bucket; ends the process with what is wrong."""
    client = connect(config.redis)
    secret = next(iter(notification_secrets()), None)
    authentic = {"opaqueData": secret.get_secret_value()} if secret else {}
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            for bucket in config.buckets:
                key = f"{CANARY_FOLDER}{uuid.uuid4()}"
                s3 = {
                    "configurationId": NOTIFICATION,
                    "bucket": {"name": name_on_server(bucket)},
                    "object": {"key": key},
                }
                body = {"Records": [{"eventName": "ObjectCreated:Put", "s3": s3, **authentic}]}
                async with session.post(url, json=body) as response:
                    if response.status != 200:
                        sys.exit(f"{bucket}: {url} answered {response.status}: {await response.text()}")
                if not await client.hdel(keys.canary(bucket), f"{key}/{NOTIFICATION}"):
                    sys.exit(f"{bucket}: {url} answered 200, but the canary is not in the Redis of the configuration")
                print(f"{bucket}: the canary has arrived in Redis")
    finally:
        await client.aclose()


if __name__ == "__main__":
    asyncio.run(fly(sys.argv[1], Config.from_file(Path(sys.argv[2]))))
