"""Releases, rollbacks and bad releases, while users send every kind of request: none of them notices anything.

The tests run in the order in which they stand here, on all hosts at once, and go on from where the one before left off.
"""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.load.client import STATIC
from tests.load.fleet import APP, BASE, NAME, Answer, Books, Host, Json, Workshop, on_all, play

PASSING = {"ill", "own"}  # versions that may have answered until they were refused
LOCK = (APP / "requirements.txt").read_text()
SIX = "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n"


def currents(hosts: list[Host]) -> set[str]:
    return {str(status["current"]) for status in on_all(hosts, lambda host: host.status())}


def release_fast(hosts: list[Host], books: Books, archive: Path, version: str) -> str:
    """Release with flaskctl on every host at once, with the configuration that serves."""
    return books.released_to_all(on_all(hosts, lambda host: host.release(archive)), version)


# Through the playbook, as people do it


def test_code_only_release_by_playbook(hosts: list[Host], books: Books, workshop: Workshop, place: Path) -> None:
    before = on_all(hosts, lambda host: host.run(f"readlink -f {BASE}/current/venv"))
    played = play({"flask_gunicorn_nginx_source": str(workshop.source("2"))}, place)
    assert played.rc == 0, played.out
    assert len(played.changed("Stage the release")) == len(hosts)
    (release,) = currents(hosts)
    books.note(release, "2")
    assert on_all(hosts, lambda host: host.run(f"readlink -f {BASE}/current/venv")) == before, "nothing to install"


def test_configuration_only_release_by_playbook(
    hosts: list[Host], books: Books, workshop: Workshop, place: Path
) -> None:
    variables = {
        "flask_gunicorn_nginx_source": str(workshop.source("2")),
        "flask_gunicorn_nginx_env": {"LOAD_SETTING": "blue"},
    }
    played = play(variables, place, options=["-v"])
    assert played.rc == 0, played.out
    assert played.out.count("archive_needed: false") == len(hosts), "the code is there already"
    (release,) = currents(hosts)
    books.note(release, "2+blue")


def test_release_with_a_new_lock_file_by_playbook(
    hosts: list[Host], books: Books, workshop: Workshop, place: Path
) -> None:
    source = workshop.source("3", {"requirements.txt": LOCK + SIX}, append="import six")
    played = play({"flask_gunicorn_nginx_source": str(source)}, place)
    assert played.rc == 0, played.out
    (release,) = currents(hosts)
    books.note(release, "3")
    for host in hosts:
        assert host.run(f"flaskctl {NAME} run -- python -c 'import six; print(six.__version__)'") == "1.17.0"


def test_refusal_by_playbook_has_the_traceback_of_the_app(hosts: list[Host], workshop: Workshop, place: Path) -> None:
    before = currents(hosts)
    source = workshop.source("bad-by-playbook", append="raise LookupError('the moon is missing')")
    played = play({"flask_gunicorn_nginx_source": str(source)}, place)
    assert played.rc != 0
    assert "LookupError: the moon is missing" in played.out and "is refused" in played.out
    assert currents(hosts) == before


def test_hooks_and_the_migration_run_and_the_audit_log_tells_who_released(
    hosts: list[Host], books: Books, workshop: Workshop, place: Path
) -> None:
    """Before the switch, in this order: the migration once for all hosts, then the pre-release hook on each."""
    for name in ("pre", "post"):
        task = {
            "ansible.builtin.command": {
                "cmd": f"cp -P {BASE}/current /run/at-{name}-release",
                "creates": f"/run/at-{name}-release",
            }
        }
        (place / f"{name}.yml").write_text(json.dumps([{"name": f"Note what is current at {name}_release", **task}]))
    migrate = {"migrate.py": "open('/var/lib/hello/migrated', 'a').write('migrated')\n"}
    variables = {
        "flask_gunicorn_nginx_source": str(workshop.source("3.1", {"requirements.txt": LOCK + SIX, **migrate})),
        "flask_gunicorn_nginx_migrate_command": "python migrate.py",
        "flask_gunicorn_nginx_hooks": {f"{name}_release": str(place / f"{name}.yml") for name in ("pre", "post")},
    }
    (before,) = currents(hosts)
    played = play(variables, place)
    assert played.rc == 0, played.out
    (release,) = currents(hosts)
    books.note(release, "3.1")
    for host in hosts:
        assert host.run("readlink /run/at-pre-release /run/at-post-release").split() == [
            f"releases/{before}",
            f"releases/{release}",
        ]
        told = json.loads(host.run(f"tail -n 1 /var/log/flaskctl/{NAME}.jsonl"))
        assert (told["event"], told["release"], told["was"]) == ("activate", release, before)
        assert told["by"] and told["from"] and told["when"]
    once = "".join(host.run("cat /var/lib/hello/migrated", check=False) for host in hosts)
    assert once.count("migrated") - once.count("/var/lib/hello/migrated") == 1, once
    again = play(variables, place)
    assert again.rc == 0 and not re.search(r"changed=[1-9]", again.out), again.out


def test_failed_migration_stops_the_rollout_on_every_host(hosts: list[Host], workshop: Workshop, place: Path) -> None:
    before = currents(hosts)
    migrate = {"migrate.py": "raise SystemExit('no such column: flask.colour')\n"}
    variables = {
        "flask_gunicorn_nginx_source": str(workshop.source("unmigrated", migrate)),
        "flask_gunicorn_nginx_migrate_command": "python migrate.py",
    }
    played = play(variables, place)
    assert played.rc != 0
    assert "no such column: flask.colour" in played.out
    assert currents(hosts) == before


def test_where_each_host_has_a_database_each_migrates_before_it_switches(
    hosts: list[Host], books: Books, workshop: Workshop, place: Path
) -> None:
    """The migration of the last host fails: that one has not switched, and the others go back."""
    (before,) = currents(hosts)
    notes = "/var/lib/hello/own-migration"
    migrate = f"""import os, socket
open('{notes}', 'a').write(os.path.basename(os.readlink('{BASE}/current')) + ' ')
if socket.gethostname() == '{hosts[-1].name}':
    raise SystemExit('no such table: flask')
"""
    variables = {
        "flask_gunicorn_nginx_source": str(workshop.source("own", {"migrate.py": migrate})),
        "flask_gunicorn_nginx_migrate_command": "python migrate.py",
        "flask_gunicorn_nginx_batches": [1],
        "flask_gunicorn_nginx_rollout": {"migrate_on": "every", "bake": {"seconds": 0}},
    }
    played = play(variables, place)
    assert played.rc != 0 and "no such table: flask" in played.out, played.out
    assert currents(hosts) == {before}
    assert [host.run(f"cat {notes}; rm {notes}") for host in hosts] == [before] * len(hosts), "once, before the switch"
    told = [host.run(f"tail -n 1 /var/log/flaskctl/{NAME}.jsonl") for host in hosts]
    events = [json.loads(line) for line in told]
    assert [event["event"] for event in events] == ["rollback"] * (len(hosts) - 1) + ["stage"], told
    books.released[events[-1]["release"]] = "own"  # for a moment the others answered with it


def refused_on(host: Host) -> set[str]:
    listed = host.flaskctl("releases").data["releases"]
    return {item["id"] for item in listed if "refused" in item["state"]}


def test_release_that_answers_badly_only_through_nginx_goes_back_by_itself(
    hosts: list[Host], books: Books, workshop: Workshop, place: Path
) -> None:
    """The gate asks the app inside its sandbox; this one is well there, and ill as soon as nginx asks."""
    (before,) = currents(hosts)
    known = [refused_on(host) for host in hosts]
    ill = "@app.before_request\ndef ill():\n    if request.path == '/healthz' and "
    ill += "request.user_agent.string != 'flaskfleet-gate':\n        return 'a teapot', 418"
    source = workshop.source("ill", append=ill)
    played = play({"flask_gunicorn_nginx_source": str(source)}, place)
    assert played.rc != 0
    assert "418" in played.out and f"{before} serves again, proven through nginx" in played.out, played.out
    assert currents(hosts) == {before}
    for host, was in zip(hosts, known, strict=True):
        assert not host.status()["problems"]
        for release in refused_on(host) - was:
            books.released[release] = "ill"  # for a moment it did answer users, and not wrongly


# With flaskctl, as a person on call does it, and fast enough to do it often


@pytest.mark.parametrize("number", range(4, 8))
def test_release(number: int, hosts: list[Host], books: Books, workshop: Workshop) -> None:
    release_fast(hosts, books, workshop.version(str(number)), str(number))


@pytest.mark.parametrize("version", ["6", "5"])
def test_rollback_without_an_id_again_and_again(version: str, hosts: list[Host], books: Books) -> None:
    answers = on_all(hosts, lambda host: host.flaskctl("rollback"))
    release = books.released_to_all(answers, version)
    assert [known for known, name in books.released.items() if name == version] == [release]


def test_release_of_configuration_with_flaskctl(hosts: list[Host], books: Books) -> None:
    def change(host: Host) -> Answer:
        config = host.config()
        config["environment"]["LOAD_SETTING"] = "green"
        staged = host.flaskctl("stage", "--config", "-", config=config)
        return staged if staged.rc else host.flaskctl("activate", staged.data["id"])

    books.released_to_all(on_all(hosts, change), "5+green")


@pytest.mark.parametrize("version", ["7", "4"])
def test_rollback_to_an_id(version: str, hosts: list[Host], books: Books) -> None:
    (release,) = (known for known, name in books.released.items() if name == version)
    assert books.released_to_all(on_all(hosts, lambda host: host.flaskctl("rollback", release)), version) == release


# What must not get through, and whose words the refusal must have


def refused(hosts: list[Host], books: Books, attempt: Callable[[Host], Answer], words: list[str]) -> None:
    """Assert that a release is refused on every host, with these words, and that nothing else has changed."""
    before = on_all(hosts, lambda host: host.status())
    answers = on_all(hosts, attempt)
    for host, answer in zip(hosts, answers, strict=True):
        assert answer.rc == 1, f"{host}: {answer.data}"
        for word in words:
            assert word in answer.story, f"{host}: {word!r} is not in:\n{answer.story}"
    after = on_all(hosts, lambda host: host.status())
    for host, was, now in zip(hosts, before, after, strict=True):
        assert (now["current"], now["previous"], now["active"]) == (was["current"], was["previous"], was["active"]), (
            host
        )
        assert not now["problems"], f"{host}: {now['problems']}"
        books.refused |= set(now["releases"]) - set(was["releases"])
        assert host.run(f"find {BASE}/releases {BASE}/venvs -maxdepth 1 -name '.*' -o -maxdepth 1 -name '*.new'") == ""


BAD_CODE: dict[str, tuple[str, dict[str, str | None], list[str]]] = {
    "an import error": ("from flask import Falsk", {}, ["ImportError: cannot import name 'Falsk'", "app.py"]),
    "a syntax error": ("def broken(:", {}, ["SyntaxError", "def broken(:"]),
    "a missing dependency": ("import pandas", {}, ["ModuleNotFoundError: No module named 'pandas'"]),
    "a health path that answers 500": (
        "app.view_functions['healthz'] = lambda: ('the database is on holiday', 500)",
        {},
        ["GET /healthz answered 500", "the database is on holiday"],
    ),
    "a health path that raises": (
        "def ill():\n    raise ArithmeticError('two and two')\napp.view_functions['healthz'] = ill",
        {},
        ["500"],
    ),
    "a hang at import": ("time.sleep(3600)", {}, ["not ready in time", "TimeoutStartSec"]),
    "a crash right after the start": (
        "import threading\ndef crash():\n    print('out of cheese', flush=True)\n    os._exit(7)\n"
        "def well_so_far():\n    threading.Timer(0.3, crash).start()\n    return 'ok'\n"
        "app.view_functions['healthz'] = well_so_far",
        {},
        ["out of cheese"],
    ),
    "a worker that dies": (
        "",
        {"worker.py": "raise SystemExit('the broker is at lunch')\n"},
        ["the broker is at lunch"],
    ),
}


@pytest.mark.parametrize("name", BAD_CODE)
def test_refused_at_the_gate_for(name: str, hosts: list[Host], books: Books, workshop: Workshop) -> None:
    code, files, words = BAD_CODE[name]
    archive = workshop.version(f"bad {name}", files, append=code)
    refused(hosts, books, lambda host: host.release(archive), [*words, f"of {NAME} is refused"])


def with_config(archive: Path, **changes: str) -> Callable[[Host], Answer]:
    def attempt(host: Host) -> Answer:
        config: Json = {**host.config(), **changes}
        return host.release(archive, config)

    return attempt


def test_refused_for_a_python_that_is_not_there(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    attempt = with_config(workshop.version("bad-python"), python="python3.99")
    refused(hosts, books, attempt, ["python3.99"])


def test_refused_for_a_project_that_wants_another_python(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    project = '[project]\nname = "hello"\nversion = "1"\nrequires-python = ">=3.99"\n'
    project += '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    archive = workshop.version("bad-project", {"pyproject.toml": project, "requirements.txt": None})
    refused(hosts, books, lambda host: host.release(archive), ["3.99"])


def test_refused_for_a_hash_that_does_not_match(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    wrong = "six==1.17.0 --hash=sha256:" + "0" * 64 + "\n"
    archive = workshop.version("bad-hash", {"requirements.txt": wrong})
    refused(hosts, books, lambda host: host.release(archive), ["DO NOT MATCH THE HASHES", "six"])


def test_refused_for_an_index_that_cannot_be_reached(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    archive = workshop.version("bad-index", {"requirements.txt": SIX})
    attempt = with_config(archive, index_url="http://127.0.0.1:9/simple/")
    refused(hosts, books, attempt, ["six", "the index"])


def test_refused_for_a_truncated_archive(hosts: list[Host], books: Books, workshop: Workshop, place: Path) -> None:
    whole = workshop.version("bad-archive").read_bytes()
    cut = place / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    refused(hosts, books, lambda host: host.release(cut), ["cut.tar.gz is truncated or corrupt"])


def test_refused_for_an_archive_with_other_bytes(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    archive = workshop.version("bad-bytes")

    def attempt(host: Host) -> Answer:
        path = "/tmp/bad-bytes.tar.gz"
        host.put(path, archive.read_bytes())
        return host.flaskctl("stage", path, "--sha256", "0" * 64)

    refused(hosts, books, attempt, ["bad-bytes.tar.gz is corrupt: its sha256 is"])


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "a member above the tree": (member("../../etc/evil"), "'../../etc/evil' points out of the archive"),
    "an absolute member": (member("/etc/evil"), "'/etc/evil' points out of the archive"),
    "a link out of the tree": (member("etc", tarfile.SYMTYPE, "../../.."), "etc is a link to ../../.., out of"),
    "an absolute link": (member("passwd", tarfile.SYMTYPE, "/etc/passwd"), "passwd is a link to /etc/passwd"),
    "a hard link out of the tree": (member("shadow", tarfile.LNKTYPE, "../../etc/shadow"), "points out of the archive"),
    "a device": (member("disk", tarfile.BLKTYPE), "disk is neither file, directory nor link"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_for_an_archive_with(name: str, hosts: list[Host], books: Books, workshop: Workshop) -> None:
    info, words = HOSTILE[name]
    archive = workshop.crafted(name.replace(" ", "-"), [(member("app.py"), b"app = None\n"), (info, b"")])
    refused(hosts, books, lambda host: host.release(archive), [words])
    assert [host.run("ls /etc/evil", check=False) for host in hosts] == [
        "ls: cannot access '/etc/evil': No such file or directory"
    ] * len(hosts)


def test_refused_when_the_disk_is_full(hosts: list[Host], books: Books, workshop: Workshop) -> None:
    small = [host for host in hosts if "tmpfs" in host.run("stat -f -c %T /srv")]
    assert small, "one host of this scenario has a small file system at /srv"
    archive = workshop.version("bad-disk", {"large.bin": "x" * 8_000_000})

    def attempt(host: Host) -> Answer:
        host.run(
            "dd if=/dev/zero of=/srv/filler bs=1M status=none; truncate -s -2M /srv/filler",
            check=False,
        )
        try:
            return host.release(archive)
        finally:
            host.run("rm /srv/filler")

    refused(small, books, attempt, ["No space left on device"])
    release_fast(hosts, books, workshop.version("10"), "10")


# What users of the release before still need


def test_static_files_of_the_releases_before_are_still_served(
    hosts: list[Host], books: Books, workshop: Workshop
) -> None:
    for version in ("11", "12"):  # 10 served before
        release_fast(hosts, books, workshop.version(version), version)
    for host in hosts:
        get = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())'"
        assert host.run(f"{get} http://127.0.0.1/static/app.12.css") == "/* 12 */"
        assert host.run(f"{get} http://127.0.0.1/static/app.11.css") == "/* 11 */"
        assert host.run(f"{get} http://127.0.0.1/static/app.10.css") == "/* 10 */"
        for nothing in ("", "app.css"):  # a directory without an index, and what no release had
            assert "HTTP Error 404" in host.run(f"{get} http://127.0.0.1/static/{nothing} 2>&1", check=False)
        assert host.run(f"{get} http://127.0.0.1/static/hello.txt").encode() == STATIC.strip()


def test_long_answers_and_websockets_finish_when_a_release_comes_in_their_middle(
    hosts: list[Host], books: Books, workshop: Workshop
) -> None:
    """Much longer than what a release takes by itself, and shorter than the drain time of 30 s."""
    before = books.released[next(iter(currents(hosts)))]
    stream = "import sys, time, urllib.request as r; a = r.urlopen('http://127.0.0.1/stream?seconds=20')"
    stream += "; print(a.headers['X-Version'], len(a.read()))"
    long = ("--users", "websocket=3", "--websocket-seconds", "20")
    with ThreadPoolExecutor(len(hosts)) as pool:
        websockets = [host.load(*long).start() for host in hosts]
        streams = [pool.submit(host.run, f'python3 -c "{stream}"') for host in hosts]
        time.sleep(3)
        began = time.monotonic()
        release_fast(hosts, books, workshop.version("13"), "13")
        assert time.monotonic() - began > 10, "the drain waited for them"
        expected = sum(len(f"part {number} of 30\n") for number in range(30))
        assert [stream.result() for stream in streams] == [f"{before} {expected}"] * len(hosts)
    for load in websockets:
        while load.report().requests < 3:
            time.sleep(0.2)
        report = load.report()
        load.stop()  # in the middle of the next ones, which nobody asks about
        assert report.kinds["websocket"].slowest >= 20 and report.failed == 0, report


def test_workers_and_schedules_went_with_their_release_and_finished_each_job(hosts: list[Host], books: Books) -> None:
    for host in hosts:
        current = host.status()["current"]
        units = host.run(f"systemctl list-units --plain --no-legend '{NAME}.*@*'")
        running = {line.split()[0] for line in units.splitlines()}
        wanted = {f"{NAME}.worker@{current}.service", f"{NAME}.tick@{current}.timer"}
        under_way = {unit for unit in running if unit.startswith(f"{NAME}.tick@") and unit.endswith(".service")}
        assert running - under_way == wanted, units
        time.sleep(4)  # as long as the longest job
        lines = [line.split("\t") for line in host.run("cat /var/lib/hello/jobs.log").splitlines()]
        begun = [tuple(job) for word, *job in lines if word == "begin"]
        ended = {tuple(job) for word, *job in lines if word == "end"}
        serving = books.released[current].partition("+")[0]
        cut = [job for job in begun if job not in ended and job[1] != serving]
        assert not cut, f"each job of a release that went was finished: {cut}"
        of_workers = {version for kind, version, _ in begun if kind == "worker"}
        assert of_workers >= {version.partition("+")[0] for version in books.released.values()} - {"1", *PASSING}
        assert any(kind == "tick" for kind, *_ in begun)


@pytest.mark.after_the_load
def test_rollback_with_every_interface_but_loopback_down(hosts: list[Host], books: Books) -> None:
    """Users outside are cut off by this, so they go home first, and others come in on the host itself."""
    books.close()
    books.loads = {host.name: host.load_inside("--rate", "40").start() for host in hosts}
    with books.row("rollback with every interface but loopback down") as rows:
        cut = "for i in $(ls /sys/class/net | grep -v '^lo$'); do ip link set $i down; done"
        back = cut.replace(" down;", " up;")
        gateways = {host.name: host.run("ip -4 route show default") for host in hosts}
        try:
            for host in hosts:
                host.run(cut)
                assert host.run("ip -4 route", check=False) == ""
            answers = on_all(hosts, lambda host: host.flaskctl("rollback"))
            time.sleep(2)
        finally:
            for host in hosts:
                host.run(f"{back}; ip route replace {gateways[host.name]}")
        release = books.released_to_all(answers, "12")
    outside = dict(books.reports)
    inside = books.close()
    books.reports = {**outside, **{f"{name} inside": report for name, report in inside.items()}}
    for report in inside.values():
        assert report.failed == 0, str(report)
        assert report.versions == {"12", "13"} and release in report.releases
    assert not any(row.failed for row in rows)


@pytest.mark.after_the_load
def test_no_request_failed_none_was_kept_waiting_and_each_was_answered_by_a_good_release(books: Books) -> None:
    books.close()
    assert books.operations >= 18
    for report in books.reports.values():
        assert report.requests > 100 and report.failed == 0, str(report)
        answered = {release: seen.versions for release, seen in report.releases.items()}
        assert not set(answered) & books.refused, f"a refused release has answered: {report}"
        assert {release: [books.released.get(release)] for release in answered} == answered
        # What a release keeps waiting, it keeps waiting each time, eight short requests at once; a busy machine does so
        # once in a while
        assert report.over < books.operations, str(report)
    outside = [report for name, report in books.reports.items() if "inside" not in name]
    for report in outside:
        versions = set(books.released.values())
        assert versions - PASSING <= report.versions <= versions, "each version that was released has answered"
