"""What the program's own source must not do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import autoingest

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "yaml.unsafe_load_all", "os.system", "os.popen",
}  # fmt: skip
"""By name, or by module and name. ``re.compile`` is another."""


def offences(source: str) -> Iterator[str]:
    """Yield what a module must not do, with the line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"{node.lineno}: import {n.name}" for n in names if n.name in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if module in FORBIDDEN_MODULES:
                yield f"{node.lineno}: from {module}"
            case ast.Call(func=ast.Name() | ast.Attribute()) if ast.unparse(node.func) in FORBIDDEN_CALLS:
                yield f"{node.lineno}: {ast.unparse(node.func)}()"
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield f"{node.value.lineno}: shell=True"


def test_nothing_in_it_makes_code_of_data() -> None:
    folder = Path(autoingest.__file__).parent
    found = [f"{file.relative_to(folder)}:{one}" for file in folder.rglob("*.py") for one in offences(file.read_text())]
    assert found == []


def test_the_search_finds_what_it_looks_for() -> None:
    source = "import pickle\nfrom marshal import loads\nyaml.load(x)\neval('1')\nrun(c, shell=True)\nre.compile('x')"
    assert [one.partition(":")[0] for one in offences(source)] == ["1", "2", "3", "4", "5"]
