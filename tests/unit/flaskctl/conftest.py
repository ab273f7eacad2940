"""A host with one app, `hello`, whose socket listens; and a way to put releases on it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flaskctl import options

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import archive, config

PARSER = functools.lru_cache(flaskctl.parser)
SETTINGS = {
    "port": 5000,
    "keep_releases": 2,
    "verify": {"scheme": "http", "port": 80, "host": "example.com", "path": "/healthz"},
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """PBKDF2 as it should be costs 30 ms a call, a real sync many more, a parser 5: too much for hundreds of calls."""
    real = flaskctl.hashlib.pbkdf2_hmac
    monkeypatch.setattr(flaskctl.hashlib, "pbkdf2_hmac", lambda name, secret, salt, rounds: real(name, secret, salt, 1))
    monkeypatch.setattr(options, "parser", PARSER)
    for name in ("sync", "fsync"):
        monkeypatch.setattr(flaskctl.os, name, lambda *descriptor: None)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    root = tmp_path / "host"
    for directory in ("etc/flaskctl", "etc/systemd/system", "etc/nginx/sites-enabled", "run/flaskctl", "srv/hello"):
        (root / directory).mkdir(parents=True)
    (root / "etc/flaskctl/hello.json").write_text(json.dumps(SETTINGS))
    (root / "etc/systemd/system/hello.socket").write_text("[Socket]\nListenStream=127.0.0.1:5000\n")
    (root / "etc/systemd/system/hello.service").write_text("[Service]\n")
    (root / "etc/systemd/system/hello@.service").write_text("[Service]\nUser=hello\n")
    (root / "etc/nginx/sites-enabled/hello.conf").symlink_to("../sites-available/hello.conf")
    host = FakeHost(root)
    host.accounts["hello"] = flaskctl.Account(990, 990, "/nonexistent", "/usr/sbin/nologin")
    host.set_unit("hello.socket", ActiveState="active", UnitFileState="enabled")
    host.set_unit("hello.service", ActiveState="inactive", UnitFileState="enabled")
    host.set_unit("nginx.service", ActiveState="active", UnitFileState="enabled")
    return host


@pytest.fixture
def stage(host: FakeHost, tmp_path: Path) -> Callable[..., str]:
    """Put a release of this version on the host; returns its id. Each is a minute younger than the one before."""

    def staged(version: str, **changes: Any) -> str:
        path = archive(tmp_path / f"{version}.tar.gz", {"app.py": version, "requirements.txt": "flask==3.0.3\n"})
        host.sleep(60)
        result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config(**changes))
        assert result.rc == 0, result
        return str(result.json["id"])

    return staged
