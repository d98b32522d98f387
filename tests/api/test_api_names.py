"""The public names: all there, described for type checkers, imported only when they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import drizzle_streams as dz

PACKAGE = Path(dz.__file__).parent


def public() -> set[str]:
    return {name for name in dir(dz) if name in dz._NAMES}  # pyright: ignore[reportAttributeAccessIssue]


def test_every_public_name_is_there() -> None:
    assert {
        "stream",
        "table",
        "tumbling",
        "count",
        "sum",
        "min",
        "max",
        "mean",
        "first",
        "last",
        "redis",
    } <= public()
    for name in public() - {"testing"}:
        assert getattr(dz, name) is getattr(dz, name)


def test_type_checkers_see_the_same_names() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    declared = {name.asname for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert declared == public()


def test_a_wrong_name_is_an_attribute_error_that_lists_the_right_ones() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'sliding'; it has .*tumbling"):
        _ = dz.sliding  # pyright: ignore[reportAttributeAccessIssue]


def test_services_do_not_pay_for_the_users_language() -> None:
    code = (
        "import sys, drizzle_streams.model.job, drizzle_streams.protocol.jobfile\n"
        "print(sorted({'polars', 'cloudpickle', 'redis', 'http.client'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout == "[]\n"
