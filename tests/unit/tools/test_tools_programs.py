"""What judges the docs is installed where root may, and only what is missing."""

from __future__ import annotations

import pytest

from tools import programs


@pytest.mark.parametrize(
    ("there", "root", "installed"),
    [
        ({"apt-get"}, True, [["jq", "prometheus"]]),
        ({"apt-get", "jq"}, True, [["prometheus"]]),
        ({"apt-get", "jq", "promtool"}, True, []),
        ({"apt-get"}, False, []),
        ({"jq"}, True, []),
    ],
)
def test_what_is_missing_is_installed_where_root_may(
    there: set[str], root: bool, installed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[list[str]] = []
    monkeypatch.setattr("tools.programs.shutil.which", lambda name: name if name in there else None)
    monkeypatch.setattr("tools.programs.os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr("tools.programs.apt_install", lambda packages: done.append(list(packages)))
    programs.ensure()
    assert done == installed
