"""The site of the documentation: its pages, and the reference that is made of what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import names

from tools import docs
from tools.run import ROOT, Problem


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(docs, "PAGES", tmp_path / "pages")
    docs.gather()
    return docs.PAGES


def test_every_page_is_in_the_menu_and_the_menu_has_no_other(pages: Path) -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [page for part in menu for section in part.values() for page in section]
    assert sorted(listed) == sorted(path.relative_to(pages).as_posix() for path in pages.rglob("*.md"))


def test_the_reference_has_every_variable_and_those_below_it(pages: Path) -> None:
    page = (pages / "reference/variables.md").read_text()
    missing = [name for name in names() if f"## {name}\n" not in page]
    assert not missing
    assert "### flask_gunicorn_nginx_rollout.bake\n" in page
    assert "#### flask_gunicorn_nginx_rollout.bake.seconds\n\n*int*, default `10`" in page


def test_the_reference_has_what_a_person_can_type_and_which_playbooks_there_are(pages: Path) -> None:
    typed = (pages / "reference/flaskctl.md").read_text()
    assert "usage: flaskctl NAME rollback [-h]" in typed and "## certificate\n" in typed
    playbooks = (pages / "reference/playbooks.md").read_text()
    found = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    assert [line[3:] for line in playbooks.splitlines() if line.startswith("## ")] == found


def test_the_reference_has_every_plugin_with_a_name_for_users(pages: Path) -> None:
    page = (pages / "reference/plugins.md").read_text()
    kinds = ("become", "callback", "lookup", "modules")
    found = [f"flaskfleet.web.{path.stem}" for kind in kinds for path in sorted((ROOT / "plugins" / kind).glob("*.py"))]
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == found
    assert "### become_exe\n\n*str*, default `sudo`" in page
    assert not [line for line in page.splitlines() if docs.MARKUP.search(line)], "marks of ansible-doc are gone"


def test_a_link_leads_to_a_page_or_names_a_file_and_one_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    source = ROOT / "docs" / "operations.md"
    known = {ROOT / "README.md": "index.md"}
    assert docs.linked("[the README](../README.md#x)", source, known) == "[the README](index.md#x)"
    assert docs.linked("[the role](../site.yml)", source, known) == "the role (`site.yml`)"
    assert docs.linked("[`site.yml`](../site.yml)", source, known) == "`site.yml`"
    assert docs.linked("[theirs](https://example.org/x.md)", source, known) == "[theirs](https://example.org/x.md)"
    with pytest.raises(Problem, match="links to gone.md, and there is no such file"):
        docs.linked("[gone](gone.md)", source, known)


def test_what_a_page_loads_from_elsewhere_is_found_and_a_link_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://docs.example/a.html"><a href="https://flask.example/">Flask</a>'
        '<script src="assets/a.js"></script><img alt="x" src="docs/a.png">'
    )
    (tmp_path / "a.css").write_text("a { background: url(a.png) } /* https://docs.example */")
    assert docs.elsewhere(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<script defer src="//cdn.example/b.js"></script><link href="https://f.example/c" x>'
    )
    (tmp_path / "b.css").write_text("@import url('https://fonts.example/f.css');")
    assert docs.elsewhere(tmp_path) == [
        "b.html: //cdn.example/b.js",
        "b.html: https://f.example/c",
        "b.css: https://fonts.example/f.css",
    ]
