"""Where things are on a host: flaskctl's layout and the role's variables say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from flaskctl import layout
from flaskctl.layout import Layout

from tests.rendering import PREFIX, REPOSITORY, evaluate, own_variables

HELLO = Layout(Path, "hello")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("paths.flaskctl", layout.LAUNCHER),
        ("paths.engines", layout.ENGINES),
        ("root", HELLO.base),
        ("paths.current", HELLO.base / "current"),
        ("paths.cache", HELLO.cache_dir),
        ("paths.settings", HELLO.settings_file),
        ("paths.units", HELLO.units_dir / "hello"),
        ("paths.certificate", HELLO.certificate_file),
        ("paths.authorities", layout.AUTHORITIES),
        ("paths.webroot", layout.WEBROOT),
        ("paths.socket", layout.unix_socket("hello")),
        ("paths.site_link", HELLO.site_path({})),
    ],
)
def test_a_path_is_the_same_on_both_sides(name: str, path: object) -> None:
    assert evaluate(f"__{PREFIX}{name}") == str(path)


def test_the_action_calls_the_launcher() -> None:
    from ansible_collections.flaskfleet.web.plugins.action import flaskctl

    assert flaskctl.FLASKCTL == layout.LAUNCHER


def test_every_sudo_finds_the_launcher_and_the_link_goes_with_it() -> None:
    link = evaluate(f"__{PREFIX}paths.flaskctl_link")
    assert link == "/usr/bin/flaskctl" and link in evaluate(f"__{PREFIX}needs.files")
    role = REPOSITORY / "roles/flask_gunicorn_nginx"
    host_set = own_variables()[f"__{PREFIX}host_set"]
    assert any("paths.flaskctl_link" in str(entry) for entry in host_set["files"])
    assert "paths.flaskctl_link" in (role / "tasks/remove.yml").read_text()


def test_the_record_is_the_one_that_config_files_writes() -> None:
    from ansible_collections.flaskfleet.web.plugins.module_utils import file_record, file_transaction, ownership

    assert file_record.RECORD == ownership.RECORD == layout.RECORD
    assert f"{file_transaction.STATE_DIRECTORY}/config_files.lock" == layout.RECORD_LOCK


def test_a_host_that_goes_back_gets_its_old_flaskctl_back() -> None:
    stays = re.search(r"stays=\[(.*?)\]", own_variables()[f"__{PREFIX}make_plan"])
    assert stays and "flaskctl" not in stays[1], "the launcher goes back; what only the new one uses goes later"


ROOMS = sorted(path for path in Path(layout.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.stem)
def test_a_room_is_small_and_says_what_it_is_for_where_the_architecture_does(room: Path) -> None:
    text = room.read_text()
    assert len(text.splitlines()) <= 400
    sentence = str(ast.get_docstring(ast.parse(text))).splitlines()[0]
    assert f"| `{room.stem}` | {sentence} |" in (REPOSITORY / "docs/architecture.md").read_text()
