"""What judges the docs is there where root may have it, and nothing is started by that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools import programs


@pytest.mark.parametrize(
    ("there", "root", "done"),
    [
        ({"apt-get"}, True, ["install jq", "fetch promtool"]),
        ({"apt-get", "jq"}, True, ["fetch promtool"]),
        ({"apt-get", "jq", "promtool"}, True, []),
        ({"apt-get"}, False, []),
        ({"jq"}, True, []),
    ],
)
def test_what_is_missing_is_had_where_root_may(
    there: set[str], root: bool, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    did: list[str] = []
    monkeypatch.setattr(programs, "PLACE", tmp_path)
    monkeypatch.setattr("tools.programs.shutil.which", lambda name: name if name in there else None)
    monkeypatch.setattr("tools.programs.os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(programs, "apt_install", lambda packages: did.append(f"install {' '.join(packages)}"))
    monkeypatch.setattr(programs, "fetch_promtool", lambda: did.append("fetch promtool"))
    programs.ensure()
    assert did == done


def test_promtool_is_taken_out_of_its_package_which_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Installed where systemd is in charge, Prometheus would start, and listen at port 9090."""
    commands: list[list[str]] = []

    def need(argv: Sequence[str], *_: Any) -> None:
        commands.append(list(argv))
        if "download" in argv:
            (tmp_path / "cache/prometheus_2_amd64.deb").touch()
        if "--extract" in argv:
            (tmp_path / "cache/usr/bin").mkdir(parents=True)
            (tmp_path / "cache/usr/bin/promtool").touch()

    monkeypatch.setattr(programs, "PLACE", tmp_path / "cache")
    monkeypatch.setattr(programs, "need", need)
    monkeypatch.setattr("tools.programs.shutil.which", lambda name: None)
    assert programs.promtool() is None
    programs.fetch_promtool()
    assert programs.promtool() == str(tmp_path / "cache/usr/bin/promtool")
    assert not [argv for argv in commands if "install" in argv]
