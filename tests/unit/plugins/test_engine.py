"""flaskctl as it comes to a host: a directory named by its content, and the launcher that names it, last."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible_collections.flaskfleet.web.plugins.lookup.engine import LookupModule, entries, rooms
from ansible_collections.flaskfleet.web.plugins.module_utils import engine

PYTHON = "/usr/bin/python3"


def installed(root: Path) -> Path:
    """Put flaskctl below a directory; return its launcher."""
    launcher = root / "bin/flaskctl"
    for entry in entries(str(launcher), str(root / "lib"), rooms()):
        path = Path(entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(entry["content"])
        path.chmod(int(entry["mode"], 8))
    return launcher


def test_the_launcher_is_written_last_and_names_the_directory_of_all_others() -> None:
    *files, launcher = LookupModule().run(["/usr/local/bin/flaskctl", "/usr/local/lib/flaskctl", ""])
    directory = {str(Path(entry["path"]).parents[1]) for entry in files}
    assert len(directory) == 1 and f'"{directory.pop()}"' in launcher["content"]
    assert {Path(entry["path"]).name for entry in files} >= {"__init__.py", "cli.py", "switch.py"}
    assert (launcher["path"], launcher["mode"]) == ("/usr/local/bin/flaskctl", "0755")
    assert {entry["mode"] for entry in files} == {"0644"}


def test_the_directory_is_another_when_one_file_is_another() -> None:
    one, other = entries("/b", "/l", {"a.py": "1"}), entries("/b", "/l", {"a.py": "2"})
    assert one[0]["path"] != other[0]["path"]
    assert entries("/b", "/l", {"a.py": "1"}) == one


def test_three_terms_are_wanted() -> None:
    with pytest.raises(AnsibleError, match="path of the launcher"):
        LookupModule().run(["/usr/local/bin/flaskctl"])


def test_a_host_that_has_it_whole_is_sent_nothing(tmp_path: Path) -> None:
    launcher = installed(tmp_path)
    has = engine.whole(str(launcher))
    assert has and entries(str(launcher), str(tmp_path / "lib"), rooms(), has) == []


def cut(directory: Path, launcher: Path) -> None:
    (directory / "switch.py").write_text("")


def gone(directory: Path, launcher: Path) -> None:
    (directory / "switch.py").unlink()


def more(directory: Path, launcher: Path) -> None:
    (directory / "json.py").write_text("")


def everybodys(directory: Path, launcher: Path) -> None:
    (directory / "switch.py").chmod(0o666)


def not_run(directory: Path, launcher: Path) -> None:
    launcher.chmod(0o644)


def changed(directory: Path, launcher: Path) -> None:
    launcher.write_text(launcher.read_text() + "\n")


def older(directory: Path, launcher: Path) -> None:
    launcher.write_text("#!/usr/bin/python3\nprint('one file, as before')\n")


def elsewhere(directory: Path, launcher: Path) -> None:
    directory.parent.rename(directory.parents[1] / "copy")
    launcher.write_text(launcher.read_text().replace(directory.parent.name, "copy"))


@pytest.mark.parametrize("damage", [cut, gone, more, everybodys, not_run, changed, older, elsewhere])
def test_one_that_is_not_whole_is_sent_all_of_it(damage: Callable[[Path, Path], None], tmp_path: Path) -> None:
    launcher = installed(tmp_path)
    damage(next((tmp_path / "lib").glob("*/flaskctl")), launcher)
    assert engine.whole(str(launcher)) == ""
    assert engine.whole(str(tmp_path / "nothing")) == ""


def test_the_first_call_by_root_leaves_byte_code_that_everybody_reads(tmp_path: Path) -> None:
    launcher = installed(tmp_path)
    # neither a mask nor a variable of the caller keeps it from that
    command = f"umask 077; PYTHONDONTWRITEBYTECODE=1 {launcher} apps"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = list((tmp_path / "lib").rglob("*.pyc"))
    assert len(made) == len(rooms())
    assert {path.stat().st_mode & 0o777 for path in made} == {0o644}
    assert made[0].parent.stat().st_mode & 0o777 == 0o755
    argv = [PYTHON, "-I", "-v", str(launcher), "apps"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stderr
    assert "flaskctl/__pycache__/cli" in said and "matches" in said
    assert not [line for line in said.splitlines() if line.startswith("# wrote") and str(tmp_path) in line]


def test_flaskctl_starts_where_it_may_write_nothing(tmp_path: Path) -> None:
    launcher = installed(tmp_path)
    for path in (tmp_path / "lib").rglob("flaskctl"):
        path.chmod(0o555)
    done = subprocess.run([str(launcher), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "rollback" in done.stdout


def test_a_start_reads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """`inspect`, by way of dataclasses, and `site` were a sixth of what a start cost; what site reads, others write."""
    launcher = installed(tmp_path)
    argv = [*launcher.read_text().splitlines()[0].removeprefix("#!").split(), "-v", str(launcher), "apps"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stderr
    assert "import 'flaskctl.cli'" in said
    assert [name for name in ("dataclasses", "inspect", "site") if f"import '{name}'" in said] == []


def test_all_of_it_is_read_at_the_start(tmp_path: Path) -> None:
    """So a directory may go while a flaskctl from it still runs."""
    for name, text in rooms().items():
        late = [line for line in text.splitlines() if line.startswith(" ") and "import " in line and "flaskctl" in line]
        assert late == [], name


def test_it_needs_nothing_of_the_environment(tmp_path: Path) -> None:
    launcher = installed(tmp_path)
    (tmp_path / "flaskctl.py").write_text("raise SystemExit('the wrong one')")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.defpath}
    argv = [str(launcher), "apps"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
