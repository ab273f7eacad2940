"""A host with one app, `hello`, whose socket listens; and a way to put releases on it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flaskctl import options

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl, with_app
from tests.unit.flaskctl.given import archive, config

PARSER = functools.lru_cache(flaskctl.parser)


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
    return with_app(FakeHost(tmp_path / "host"))


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
