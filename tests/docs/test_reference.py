"""The reference pages list everything that the program has, and nothing else."""

import inspect
import re

import yaml

from autoingest.queue import keys
from testing import documents


def test_log_events() -> None:
    documented = {}
    for cells in documents.rows("log-events.md"):
        event, levels = cells[0].strip("`"), set(cells[1].split(", "))
        assert event not in documented, f"{event} is listed twice"
        documented[event] = levels
    assert documented == documents.log_events(), "docs/log-events.md lists each event with its levels"


def test_redis_keys() -> None:
    documented = [
        cells[0].strip("`").partition(":")[0] for cells in documents.rows("redis-keys.md") if cells[0][1].isupper()
    ]
    named = set(re.findall(r'(?:return f?|^[A-Z_]+ = )"([A-Z]+)', inspect.getsource(keys), re.MULTILINE))
    assert sorted(documented) == sorted(named), "docs/redis-keys.md lists each key once"


def test_fields_of_a_files_record() -> None:
    described = set(re.findall(r"``([a-z_]+)``", keys.file.__doc__ or ""))
    listed = {
        name for cells in documents.rows("redis-keys.md") for name in re.findall(r"`([a-z_]+)`", " ".join(cells[:2]))
    }
    assert described - {"queued", "working", "waiting", "ingested", "dead", "dropped"} <= listed | {
        name for cells in documents.rows("redis-keys.md") for name in re.findall(r"`([a-z_]+)`", " ".join(cells))
    }


def test_every_page_is_in_the_site() -> None:
    listed: set[str] = set()
    for page in documents.pages():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            listed |= {line for line in block.split() if not line.startswith(":")}
    assert listed == {page.stem for page in (documents.ROOT / "docs").glob("*.md")} - {"index"}


def test_yaml_of_pages_can_be_read() -> None:
    for page in documents.pages():
        for block in re.findall(r"^( *)```yaml\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE):
            assert yaml.safe_load(inspect.cleandoc("\n" + block[1])) is not None, page.name
