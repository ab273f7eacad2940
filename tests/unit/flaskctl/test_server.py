"""How a release is served, what of its packages does not go with that, and what of the host it needs for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rendering import render
from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import PROCESSES, archive, config

Stage = Callable[..., str]
GEVENT = 'worker_class = "gevent"\nworkers = max(2, 4)\n'
THREADS = "worker_class = \"gevent\"\nworker_class = 'gthread'\nworkers = 3\n"


def test_what_gunicorn_is_told_is_read_from_what_the_role_writes() -> None:
    assert flaskctl.server_of(render("gunicorn.conf.py")) == flaskctl.Server("gevent", None, 30)
    told = {"worker_class": "gthread", "workers": 3, "graceful_timeout": 7}
    assert flaskctl.server_of(render("gunicorn.conf.py", {"settings": told})) == flaskctl.Server("gthread", 3, 7)
    for text in ("", "no python(", "worker_class = None\nworkers = 'x'\ngraceful_timeout = f()\na.b = 1\n"):
        assert flaskctl.server_of(text) == flaskctl.Server("sync", None, 30)


@pytest.mark.parametrize(
    ("conf", "packages", "what", "remedy"),
    [
        (GEVENT, {"gunicorn": "27.0.1", "gevent": "26.9.0"}, "", ""),
        (GEVENT, {"gunicorn": "21.2.0", "gevent": "24.10.1"}, "", ""),
        (THREADS, {"gunicorn": "27.0.1", "gevent": "1.4"}, "", ""),
        (THREADS, {"gunicorn": "20.1.0"}, "gunicorn 20.1.0 is too old", "gunicorn>=21.2 in the requirements"),
        (GEVENT, {"gunicorn": "19.9", "gevent": "1.4"}, "gunicorn 19.9 is too old", "the role brings its own"),
        (
            GEVENT,
            {"gunicorn": "27.0.1", "gevent": "22.10.2"},
            "gevent 22.10.2 is too old for gunicorn 27.0.1, which wants 24.10.1 or later",
            "worker_class: gthread",
        ),
    ],
)
def test_what_is_too_old_to_serve_is_told(conf: str, packages: dict[str, str], what: str, remedy: str) -> None:
    found = flaskctl.unfit(flaskctl.server_of(conf), packages, "24.10.1")
    assert (found[0][: len(what)], remedy in found[1]) == (what, True) and bool(found[0]) == bool(what)


def test_versions_are_compared_by_their_numbers() -> None:
    for version, than, expected in (
        ("9.1", "21.2", True),
        ("21.2", "21.2.0", False),
        ("21.2.0", "21.2", False),
        ("24.10.1.post1", "24.10.1", False),
        ("24.2.1", "24.10.1", True),
    ):
        assert flaskctl.older(version, than) is expected, version


@pytest.mark.parametrize(
    ("conf", "packages", "told"),
    [
        (
            GEVENT,
            {"psycopg2-binary": "2.9.10"},
            ["psycopg2-binary 2.9.10 waits", "add psycogreen", "psycopg 3", "gthread"],
        ),
        (GEVENT, {"psycopg2": "2.9", "psycogreen": "1.0.2"}, []),
        (GEVENT, {"psycopg": "3.2", "pymysql": "1.1"}, []),
        (THREADS, {"psycopg2": "2.9", "mysqlclient": "2.2"}, []),
        (GEVENT, {"mysqlclient": "2.2"}, ["mysqlclient 2.2 waits", "PyMySQL"]),
        (
            GEVENT,
            {"pyodbc": "5"},
            ["pyodbc 5 waits", "Remedy: set flask_gunicorn_nginx_settings: {worker_class: gthread}"],
        ),
        (GEVENT, {"flask-socketio": "5.5", "python-socketio": "5"}, ["flask-socketio 5.5 and more", "{workers: 1}"]),
        (THREADS, {"python-engineio": "4"}, ["python-engineio 4 and more than one worker", "message_queue"]),
        ("workers = 1\n", {"flask-socketio": "5.5"}, []),
        (
            "",
            {"apscheduler": "3.11", "flask-apscheduler": "1"},
            ["apscheduler 3.11 and more", "each worker runs each job"],
        ),
        ("workers = 1\n", {"apscheduler": "3.11"}, []),
    ],
)
def test_what_serves_and_not_well_is_told_with_what_to_do(conf: str, packages: dict[str, str], told: list[str]) -> None:
    found = flaskctl.cautions(flaskctl.server_of(conf), packages)
    assert len(found) == bool(told)
    assert not [words for words in told if words not in found[0]], found


def test_packages_are_read_from_files_and_named_as_pip_does(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    for name in ("psycopg2_binary-2.9.10.dist-info", "Flask-3.1.3.dist-info", "zope.event-5.0.dist-info", "pip"):
        (site / name).mkdir(parents=True)
    for name in ("old_one-1.0-py3.11.egg-info", "no_version.egg-info"):
        (site / name).write_text("")
    wanted = {"psycopg2-binary": "2.9.10", "flask": "3.1.3", "zope-event": "5.0", "old-one": "1.0"}
    assert flaskctl.installed_in(tmp_path) == wanted
    assert flaskctl.oldest_gevent(tmp_path) == "0"
    for version, line, oldest in (
        ("27.0.1", 'Requires-Dist: gevent>=24.10.1; extra == "gevent"', "24.10.1"),
        ("21.2.0", "Requires-Dist: gevent (>=1.4.0) ; extra == 'gevent'", "1.4.0"),
    ):
        (site / f"gunicorn-{version}.dist-info").mkdir()
        (site / f"gunicorn-{version}.dist-info/METADATA").write_text(f"Name: gunicorn\n{line}\n")
        assert flaskctl.oldest_gevent(tmp_path) == oldest
        flaskctl.erase(site / f"gunicorn-{version}.dist-info")


# on a host


def test_a_lock_with_hashes_that_lacks_gevent_gets_it_with_hashes(host: FakeHost, tmp_path: Path) -> None:
    path = archive(
        tmp_path / "x.tar.gz", {"requirements.txt": "flask==3 --hash=sha256:0\ngunicorn==27 --hash=sha256:0\n"}
    )
    host.installed = {"flask": "3", "gunicorn": "27", "psycopg2": "2.9"}
    given: list[str] = []
    real = host.run

    def run(argv: list[str], **how: object) -> object:
        given.extend(Path(argv[-1]).read_text() for _ in argv if "--no-deps" in argv and not given)
        return real(argv, **how)

    host.run = run  # type: ignore[method-assign, assignment]
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config(gunicorn_conf=GEVENT))
    assert result.rc == 0, result
    assert [line.split()[0] for line in given[0].splitlines()] == ["gevent==26.9.0"]
    assert [warning.split(":")[0] for warning in result.json["warnings"]] == [
        "psycopg2 2.9 waits where gevent cannot see it"
    ]


def test_a_gunicorn_that_cannot_serve_is_refused_at_stage(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"requirements.txt": "gunicorn==20.1.0\n"})
    host.installed = {"gunicorn": "20.1.0"}
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config())
    assert (result.rc, result.json["msg"][:27]) == (1, "gunicorn 20.1.0 is too old:")
    assert result.json["remedy"].startswith("gunicorn>=21.2 in the requirements")
    assert not [*(base(host) / "releases").iterdir()]


def test_a_build_has_a_place_of_its_own_for_what_it_makes_and_runs(host: FakeHost, stage: Stage) -> None:
    """/tmp may be mounted noexec."""
    stage("v1")
    places = {environment["TMPDIR"] for environment in host.environments if environment}
    venvs = base(host) / "venvs"
    assert places and {Path(place).parents[1] for place in places} == {venvs}
    assert not [*venvs.glob(".*")], "and nothing stays of it"


def test_another_python_is_another_release_and_may_be_run_where_it_stands(host: FakeHost, stage: Stage) -> None:
    """Where nothing runs but what is named: so units of a role before this one said, and somebody may say it again."""
    usual, open_ = stage("v1", processes=PROCESSES), stage("v1", processes=PROCESSES, python="/opt/python/bin/python3")
    closed = "[Service]\nNoExecPaths=/\nExecPaths=/usr /srv/hello\n"
    processes = {name: {**texts, "service": closed} for name, texts in PROCESSES.items()}
    own = stage("v1", processes=processes, service=closed, python="/opt/python/bin/python3")
    assert not [*(host.root / "etc/systemd/system").glob(f"hello*@{open_}.service.d/python.conf")]
    assert usual != own
    venvs = {os.readlink(base(host) / "releases" / release / "venv") for release in (usual, own)}
    assert len(venvs) == 2, "made of another Python"
    units = host.root / "etc/systemd/system"
    assert not [*units.glob(f"hello*@{usual}.service.d/python.conf")]
    texts = {path.parent.name: path.read_text() for path in units.glob(f"hello*@{own}.service.d/python.conf")}
    assert sorted(texts) == [f"hello{unit}@{own}.service.d" for unit in (".tick", ".worker-1", "")]
    assert all(text.splitlines()[1:] == ["[Service]", "ExecPaths=/opt/python"] for text in texts.values())
    call(host, "hello", "activate", own)
    assert call(host, "hello", "status", "--drift", "--json").json["drift"] == []


def test_where_a_python_stands_is_asked_of_it() -> None:
    homes = flaskctl.Host().python_homes(os.path.realpath("/proc/self/exe"))
    assert homes and all(os.path.isabs(home) and os.path.realpath(home) == home for home in homes)


# what releases share


def test_a_directory_in_run_outlives_a_trial_and_a_command(host: FakeHost, stage: Stage) -> None:
    one = stage("v1", service="[Service]\nUser=hello\nRuntimeDirectory=hello-metrics\n")
    call(host, "hello", "activate", one)
    call(host, "hello", "run", "--", "/bin/true")
    assert "--property=RuntimeDirectoryPreserve=yes" in host.became


def test_a_directory_in_run_goes_with_the_app_and_that_of_another_does_not(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    units = host.root / "etc/systemd/system"
    worker = units / "hello.worker@0123456789ab.service"
    worker.write_text("[Service]\nRuntimeDirectory=hello-metrics hello/deep:link ../etc postgresql\n")
    for name in ("hello-metrics", "hello/deep", "postgresql"):
        (host.root / "run" / name).mkdir(parents=True, exist_ok=True)
    app = flaskctl.App(host, "hello")
    host.accounts["hello"] = flaskctl.Account(os.getuid(), 1, "/nonexistent", "/usr/sbin/nologin")
    paths = [str(path.relative_to(host.root)) for path in flaskctl.runtime_directories(app)]
    assert paths == ["run/hello-metrics", "run/hello/deep", "run/postgresql"]
    host.accounts["hello"] = flaskctl.Account(os.getuid() + 1, 1, "/nonexistent", "/usr/sbin/nologin")
    assert flaskctl.runtime_directories(app) == []


def stamps(host: FakeHost) -> dict[str, float]:
    """Return when systemd takes each timer to have run last."""
    found = (host.root / "var/lib/systemd/timers").glob("stamp-*")
    return {path.name.partition("@")[2].partition(".")[0]: path.stat().st_mtime for path in found}


def test_a_schedule_counts_from_when_its_release_takes_over(host: FakeHost, stage: Stage) -> None:
    """Persistent= would else make up at once, after a rollback, for all that the other release has run."""
    one = stage("v1", processes=PROCESSES)
    call(host, "hello", "activate", one)
    assert stamps(host) == {one: pytest.approx(host.clock, abs=5)}
    two = stage("v2", processes=PROCESSES)
    call(host, "hello", "activate", two)
    began = stamps(host)
    assert began[two] > began[one] + 50
    host.sleep(86400)
    call(host, "hello", "activate", two)
    assert stamps(host) == began, "what was missed while it was down is made up for"
    call(host, "hello", "rollback")
    assert stamps(host)[one] == pytest.approx(host.clock, abs=5) and stamps(host)[two] == began[two]


def test_what_is_told_of_a_schedule_goes_with_its_release(host: FakeHost, stage: Stage) -> None:
    for version in ("v1", "v2", "v3"):
        call(host, "hello", "activate", stage(version, processes=PROCESSES))
    assert len(stamps(host)) == 3
    call(host, "hello", "prune")
    assert len(stamps(host)) == 2
    app = flaskctl.App(host, "hello")
    assert len([path for path in flaskctl.made_by_us(app, {}) if path.name.startswith("stamp-")]) == 2


def test_a_person_who_waits_is_told_for_what(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1", gunicorn_conf="graceful_timeout = 20\n"), stage("v2")
    call(host, "hello", "activate", one)
    host.slow = True
    said = call(host, "hello", "activate", two).err
    assert said.startswith(f"flaskctl: waits for hello@{one}.service: what was accepted there")
    assert "20 s" in said and "flask_gunicorn_nginx_settings: {graceful_timeout: 5}" in said
    answer = call(host, "hello", "restart", "--json")
    assert [f"waits for hello@{two}.service" in warning for warning in answer.json["warnings"]] == [True], answer
    host.slow = False
    assert json.loads(call(host, "hello", "restart", "--json").out)["warnings"] == []
