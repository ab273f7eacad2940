"""Whether the distribution's default site is that still, by the hash that dpkg has of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import default_site

TEXT = "server { listen 80 default_server; root /var/www/html; }\n"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """The distribution's, as its package brings it."""
    (tmp_path / "available").mkdir()
    (tmp_path / "available/default").write_text(TEXT)
    (tmp_path / "default").symlink_to("available/default")
    return tmp_path / "default"


def dpkg(path: Path) -> Callable[[Sequence[str]], str]:
    known = f"{os.path.realpath(path)} {hashlib.md5(TEXT.encode()).hexdigest()}"  # noqa: S324
    return lambda argv: f"\n /etc/nginx/nginx.conf 00\n {known}\n"


def test_as_its_package_brought_it_it_is_the_distributions(link: Path) -> None:
    assert default_site.is_own(str(link), dpkg(link))
    assert not default_site.is_own(str(link), lambda argv: "dpkg-query: no packages found")


def test_one_that_somebody_wrote_is_not(link: Path, tmp_path: Path) -> None:
    known = dpkg(link)
    link.resolve().write_text(TEXT.replace("root", "server_name www.shop.test; root"))
    assert not default_site.is_own(str(link), known), "edited in its place"
    link.unlink()
    link.write_text(TEXT)
    assert not default_site.is_own(str(link), known), "a file in the place of the link"
    link.unlink()
    link.mkdir()
    assert not default_site.is_own(str(link), known)


def test_none_is_nobodys(tmp_path: Path) -> None:
    assert default_site.is_own(str(tmp_path / "default"), lambda argv: "")
    (tmp_path / "default").symlink_to("gone")
    assert default_site.is_own(str(tmp_path / "default"), lambda argv: "")


def test_what_cannot_be_asked_for_any_more_is_told(link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "html"
    monkeypatch.setattr(default_site, "ROOT", str(root))
    assert default_site.hides(str(link)) == []
    root.mkdir()
    (root / "index.nginx-debian.html").touch()
    assert default_site.hides(str(link)) == []
    for name in ("a.html", "b", "c", "d"):
        (root / name).touch()
    (said,) = default_site.hides(str(link))
    assert "a.html, b, c and 1 more cannot be asked for" in said
    assert default_site.hides(str(tmp_path / "none")) == [], "it is aside already"
