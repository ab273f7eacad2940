"""What a release is: its configuration, its id, its environment file, and what it wants installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import config

HOSTILE = [
    "plain", "with space", "trailing ", " leading", "new\nline", "cr\rhere", "tab\there", "bell\x07 esc\x1b", "100%",
    "%n %i %%", "$HOME ${HOME} $$", "# not a comment", "quo\"te's", "back\\slash \\n \\", "ünïcode 🚀", "x" * 100_000,
    "", "{{ jinja }} {% x %}", "`id` $(id)", "EVIL=1\nEVIL=2", "\\\n", "; x", "a=b=c",
]  # fmt: skip


def as_systemd_reads(text: str) -> dict[str, str]:
    """Read an EnvironmentFile as systemd.exec(5) says: a backslash escapes itself, ", `, $ and the line's end."""
    found, position = {}, 0
    while position < len(text):
        equals = text.index("=", position)
        name, position = text[position:equals], equals + 1
        assert text[position] == '"', "every value is quoted"
        value, position = "", position + 1
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                assert text[position] in '"\\`$\n'
                if text[position] == "\n":
                    position += 1
                    continue
            value += text[position]
            position += 1
        assert text[position + 1] == "\n"
        found[name], position = value, position + 2
    return found


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value[:12]))
def test_a_hostile_value_comes_back_byte_for_byte_and_adds_no_variable(value: str) -> None:
    environment = {"A": value, "B": "after"}
    assert as_systemd_reads(flaskctl.environment_file(environment)) == environment


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("bad-name", "x", "letters, digits and _"),
        ("9X", "x", "letters, digits and _"),
        ("X\nY", "x", "letters, digits and _"),
        ("", "x", "letters, digits and _"),
        ("X", "a\0b", "NUL"),
        ("X", "\ud800", "UTF-8"),
        ("X", "\ufffe", "UTF-8"),
        ("X", "\ufdd0", "UTF-8"),
        ("X", "x" * (128 * 1024 - 2), "128 KiB"),
        ("X", "ü" * (64 * 1024), "128 KiB"),
        ("LISTEN_FDS", "3", "set by systemd"),
        ("FLASKFLEET_RELEASE", "x", "set by systemd"),
    ],
)
def test_what_systemd_would_skip_or_fail_on_is_refused_with_the_name_and_without_the_value(
    name: str, value: str, says: str
) -> None:
    with pytest.raises(flaskctl.Refused) as error:
        flaskctl.parse_config(config(environment={name: value}))
    assert repr(name) in error.value.msg
    assert says in error.value.msg
    assert len(error.value.msg) < 200


def test_the_longest_value_that_a_process_can_be_started_with_is_taken() -> None:
    flaskctl.parse_config(config(environment={"X": "x" * (128 * 1024 - 3)}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"credentials": {"../x": "y"}}, "credential '../x'"),
        ({"credentials": {"K": "x" * (1024 * 1024 + 1)}}, "1 MiB"),
        ({"credentials": {"K": 1}}, "credentials in the configuration must be"),
        ({"environment": ["x"]}, "environment in the configuration must be"),
        ({"static_dir": "../../etc"}, "static_dir must be a path inside"),
        ({"requirements": "/etc/passwd"}, "requirements must be a path inside"),
        ({"processes": {"Bad Name": {"service": ""}}}, "processes in the configuration"),
        ({"processes": {"worker": {"timer": ""}}}, "processes in the configuration"),
        ({"enviroment": {}}, "unknown in the configuration: enviroment"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(changes: dict[str, object], says: str) -> None:
    with pytest.raises(flaskctl.Refused, match=says) as error:
        flaskctl.parse_config(config(**changes))
    assert len(error.value.msg) < 250


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{", "null"])
def test_a_configuration_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(flaskctl.Refused):
        flaskctl.parse_config(text)


def test_the_same_input_gives_the_same_id_whatever_the_order() -> None:
    one = flaskctl.parse_config(json.dumps({"environment": {"A": "1", "B": "2"}, "service": "x"}))
    two = flaskctl.parse_config(json.dumps({"service": "x", "environment": {"B": "2", "A": "1"}}))
    assert flaskctl.release_id("a" * 64, one) == flaskctl.release_id("a" * 64, two)
    assert flaskctl.RELEASE_ID.match(flaskctl.release_id("a" * 64, one))


def test_the_id_is_the_same_in_every_version_of_flaskctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the real PBKDF2
    assert flaskctl.release_id("a" * 64, flaskctl.parse_config(config())) == "1ed23e0bc476"


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"GREETING": "ho"}},
        {"credentials": {"GREETING": "hi"}},
        {"gunicorn_conf": "workers = 3\n"},
        {"service": "[Service]\n"},
        {"server_requirements": ""},
        {"static_dir": "static"},
        {"requirements": "lock.txt"},
        {"processes": {"worker": {"service": "[Service]\n"}}},
        {"python": "/opt/python/bin/python3"},
    ],
)
def test_each_part_of_the_release_changes_the_id(changes: dict[str, object]) -> None:
    base, changed = flaskctl.parse_config(config()), flaskctl.parse_config(config(**changes))
    assert flaskctl.release_id("a" * 64, base) != flaskctl.release_id("a" * 64, changed)
    assert flaskctl.release_id("b" * 64, base) != flaskctl.release_id("a" * 64, base)


def test_what_is_made_of_the_same_as_the_current_release_has_its_id_and_costs_nothing(
    host: FakeHost, stage: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = list[str]()

    def asked(sha256: str, wanted: Any) -> str:
        dear.append(sha256)
        return str(flaskctl.release_id(sha256, wanted))

    monkeypatch.setattr("flaskctl.stage.release_id", asked)
    first = stage("1", environment={"GREETING": "hi"})
    assert call(host, "hello", "activate", first).rc == 0 and dear
    dear.clear()
    assert stage("1", environment={"GREETING": "hi"}, index_url="https://x") == first and not dear
    others = [stage("1", environment={"GREETING": "ho"}), stage("2", environment={"GREETING": "hi"})]
    for change in ({"credentials": {"KEY": "k"}}, {"gunicorn_conf": "workers = 3\n"}, {"writable": ["var"]}):
        others.append(stage("1", **{"environment": {"GREETING": "hi"}, **change}))
    assert len({first, *others}) == 6 == len(dear) + 1
    # what somebody has changed is not what the release was made of
    kept = host.root / "srv/hello/releases" / first / "config.json"
    for text in ("{", config(environment={"GREETING": "ho"})):
        kept.write_text(text)
        assert stage("1", environment={"GREETING": "hi"}) == first and len(dear) == 6
        dear.pop()


def test_how_and_by_whom_it_is_built_does_not_change_the_id() -> None:
    base = flaskctl.release_id("a" * 64, flaskctl.parse_config(config()))
    for changes in (
        {"notes": {"by": "bob"}},
        {"index_url": "https://x"},
        {"ca_bundle": "/x"},
        {"python": "python3"},
    ):
        assert flaskctl.release_id("a" * 64, flaskctl.parse_config(config(**changes))) == base


def test_a_python_of_the_system_needs_no_line() -> None:
    assert flaskctl.python_drop_in(["/usr", "/usr/local", "/lib64/x", "/bin"]) == ""
    assert "ExecPaths=/opt/a%%b\nExecPaths=/usrlocal\n" in flaskctl.python_drop_in(
        ["/usrlocal", "/opt/a%b/bin", "/opt/a%b", "/usr"]
    )


def test_a_difference_names_variables_and_never_shows_a_value() -> None:
    old = flaskctl.parse_config(config(environment={"A": "s3cret", "B": "1"}, credentials={"K": "k3y"}))
    new = flaskctl.parse_config(config(environment={"A": "other", "C": "1"}, service="x"))
    assert flaskctl.changes(old, new) == {
        "environment": {"added": ["C"], "removed": ["B"], "changed": ["A"]},
        "credentials": {"added": [], "removed": ["K"], "changed": []},
        "settings": ["service"],
    }


def tree(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")).write_text(text)
    return path


def test_a_lock_with_hashes_is_seen_and_one_without_is_warned_of(tmp_path: Path) -> None:
    tree(tmp_path, app_py="", requirements_txt="Flask==3 \\\n  --hash=sha256:00\n# gunicorn==1\n")
    found = flaskctl.dependencies_of(tmp_path, "requirements.txt")
    assert (found.hashed, found.server, found.project, found.warning) == (True, True, False, "")
    tree(tmp_path, requirements_txt="Flask==3\nGunicorn[gevent]==27\n")
    found = flaskctl.dependencies_of(tmp_path, "requirements.txt")
    assert (found.hashed, found.server) == (False, False)
    assert "has no hashes" in found.warning


@pytest.mark.parametrize(
    ("lines", "completed"),
    [
        ("gunicorn==27.0.1\n", True),
        ("gevent==26.9\n", True),
        ("gunicorn==27\ngevent==26.9\n", True),
        ("gunicorn==27 ; python_version >= '3.9'\ngevent==26.9\npackaging==25\n", True),
        ("gunicorn[setproctitle]==27\n", True),
        ("gunicorn==27\ngevent==26.9\npackaging==25\n", False),
        ("Gunicorn [setproctitle, gevent] == 27\n", False),
        ("gunicorn[gevent]==27 \\\n    --hash=sha256:0\n", False),
        ("-r other.txt\n", False),
    ],
)
def test_what_serves_the_app_is_completed_unless_all_of_it_is_named(
    tmp_path: Path, lines: str, completed: bool
) -> None:
    tree(tmp_path, requirements_txt=f"flask==3\n{lines}", other_txt="gunicorn[gevent]==27\n")
    needs = flaskctl.needs(flaskctl.Server("gevent"))
    assert flaskctl.dependencies_of(tmp_path, "requirements.txt", needs).server is completed


def test_threads_need_no_gevent(tmp_path: Path) -> None:
    tree(tmp_path, requirements_txt="gunicorn==27\n")
    needs = flaskctl.needs(flaskctl.Server("gthread"))
    assert flaskctl.dependencies_of(tmp_path, "requirements.txt", needs).server is False


def test_a_changed_included_file_changes_the_key_of_the_virtualenv(tmp_path: Path) -> None:
    tree(tmp_path, requirements_txt="-r base.txt\n", base_txt="flask==3\n-c requirements.txt\n")
    before = flaskctl.venv_key(
        "3.11", "x86_64", flaskctl.dependencies_of(tmp_path, "requirements.txt"), flaskctl.Config()
    )
    tree(tmp_path, base_txt="flask==4\n")
    after = flaskctl.venv_key(
        "3.11", "x86_64", flaskctl.dependencies_of(tmp_path, "requirements.txt"), flaskctl.Config()
    )
    assert before.startswith("cpython-311-x86_64-") and before != after


OUTSIDE = ["-e .", ".", ".[dev]", "./pkg", "../x", "-e ../x", "/abs/x", "-e libs/gone", "file:///x", "./empty"]


@pytest.mark.parametrize("line", OUTSIDE)
def test_a_requirement_from_a_path_where_the_source_has_nothing_to_install_is_refused(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "empty").mkdir()
    tree(tmp_path, requirements_txt=f"{line}\n")
    with pytest.raises(flaskctl.Refused, match="installs from a path"):
        flaskctl.dependencies_of(tmp_path, "requirements.txt")


@pytest.mark.parametrize("name", ["gone.txt", "../outside.txt"])
def test_an_included_file_that_is_not_in_the_source_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.txt").write_text("flask\n")
    (tmp_path / "app").mkdir()
    tree(tmp_path / "app", requirements_txt=f"-r {name}\n")
    with pytest.raises(flaskctl.Refused, match="which is not in the source"):
        flaskctl.dependencies_of(tmp_path / "app", "requirements.txt")


def test_a_pyproject_of_tools_only_is_no_project(tmp_path: Path) -> None:
    tree(tmp_path, pyproject_toml="[tool.ruff]\n")
    with pytest.raises(flaskctl.Refused, match=r"no requirements.txt, and no pyproject.toml of a project"):
        flaskctl.dependencies_of(tmp_path, "requirements.txt")
    tree(tmp_path, pyproject_toml='[project]\nname = "x"\n')
    found = flaskctl.dependencies_of(tmp_path, "requirements.txt")
    assert (found.file, found.project, found.server) == (None, True, True)
    with pytest.raises(flaskctl.Refused, match=r"no lock.txt$"):
        flaskctl.dependencies_of(tmp_path, "lock.txt")


def test_of_the_servers_own_set_only_what_is_missing_is_installed() -> None:
    lock = "# comment\ngunicorn==27 \\\n    --hash=sha256:1\nzope.event==5 --hash=sha256:2\n"
    assert flaskctl.without(lock, ["Zope_Event"]) == "gunicorn==27      --hash=sha256:1\n"
