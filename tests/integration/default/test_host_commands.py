"""What a person on a host can do beside a release: drain, maintenance, restart, a try, and what status finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.integration.asking import Json, Site
from tests.rendering import REPOSITORY

pytestmark = pytest.mark.bracket

LOCK = (REPOSITORY / "files/app/requirements.txt").read_text()
APP = (REPOSITORY / "files/app/app.py").read_text()
ARCHIVE = "/tmp/tried.tar.gz"


@pytest.fixture(scope="module", autouse=True)
def as_before(site: Site) -> Iterator[None]:
    before = site.current
    yield
    site.root(f"rm -f {ARCHIVE}")
    site.flaskctl("prune", "--keep", "1")  # what was tried here
    assert site.current == before and site.flaskctl("status")["problems"] == []


def statuses(site: Site) -> dict[str, int]:
    return {path: site.get(path).status for path in ("/", "/admin", "/readyz", "/static/")}


SERVING = {"/": 200, "/admin": 308, "/readyz": 200, "/static/": 200}


def test_a_drained_host_goes_on_serving_and_only_says_that_it_is_not_ready(site: Site) -> None:
    site.flaskctl("drain")
    try:
        assert statuses(site) == {**SERVING, "/readyz": 503}
        assert "flaskctl hello undrain" in site.flaskctl("status")["problems"][0]
    finally:
        site.flaskctl("undrain")
    assert statuses(site) == SERVING
    assert site.get("/readyz").release == site.current


def test_in_a_maintenance_users_get_a_page_and_static_files(site: Site) -> None:
    site.root("printf '<p>Back at <b>noon</b>' > /tmp/page.html")
    site.flaskctl("maintenance", "on", "--page", "/tmp/page.html")
    try:
        assert statuses(site) == {"/": 503, "/admin": 503, "/readyz": 503, "/static/": 200}
        for method in ("GET", "POST", "DELETE"):
            answer = site.get("/", method=method)
            assert (answer.status, answer.headers["retry-after"], answer.release) == (503, "60", None)
            assert answer.body == "<p>Back at <b>noon</b>" and answer.headers["content-type"] == "text/html"
        assert site.get("/.maintenance.html").status == 404
        # the health path is /, which is the users' now: a release still goes out
        assert "in place of the app" in site.flaskctl("verify")["msg"]
    finally:
        site.flaskctl("maintenance", "off")
        site.root("rm /tmp/page.html")
    assert statuses(site) == SERVING


def processes(site: Site) -> set[str]:
    pids = site.root(f"cat /sys/fs/cgroup/system.slice/hello@{site.current}.service/cgroup.procs")
    return set(pids.split())


def test_a_restart_gives_the_release_fresh_processes(site: Site) -> None:
    before = processes(site)
    assert before and site.flaskctl("restart")["id"] == site.current
    after = processes(site)
    assert after and not before & after
    assert site.root("systemctl list-units --all --plain --no-legend 'hello.twin-*'; ls /run/systemd/system") == ""
    assert site.get("/").release == site.current


def tried(site: Site, app: str, how: str, rc: int = 0) -> Json:
    site.put_archive(ARCHIVE, {"app.py": app, "requirements.txt": LOCK})
    return site.flaskctl("stage", ARCHIVE, "--try", how, rc=rc)


@pytest.mark.parametrize(
    ("app", "how", "says"),
    [
        (f"{APP}\n__import__('os').mkdir(app.instance_path)\n", "import", "write beside the code: "),
        (APP.replace('@app.get("/")', '@app.get("/elsewhere")'), "health", "GET / answered 404 NOT FOUND"),
    ],
)
def test_a_release_that_would_not_serve_is_refused_when_it_is_staged(site: Site, app: str, how: str, says: str) -> None:
    refused = tried(site, app, how, rc=1)
    assert "nothing was switched" in refused["msg"] and says in refused["detail"]
    assert site.get("/").release == site.current


def test_before_a_migration_a_release_need_not_be_healthy(site: Site) -> None:
    assert tried(site, APP.replace('@app.get("/")', '@app.get("/elsewhere")') + "\n# 2\n", "import")["tried"]


def test_status_finds_what_was_edited_by_hand(site: Site) -> None:
    unit = "/etc/systemd/system/hello@.service"
    assert site.flaskctl("status", "--drift")["drift"] == []
    site.root(f"cp -p {unit} /root/unit; echo '# by hand' >> {unit}; echo '# by hand' >> /srv/hello/current/app/app.py")
    try:
        drift = site.flaskctl("status", "--drift")["drift"]
        assert unit in drift and f"files of {site.current}/app" in drift
    finally:
        site.root(f"mv /root/unit {unit}; systemctl daemon-reload; sed -i '$d' /srv/hello/current/app/app.py")
    assert site.flaskctl("status", "--drift")["drift"] == []


def test_a_library_that_was_replaced_waits_for_a_restart(site: Site) -> None:
    assert site.flaskctl("status")["restart_pending"] == []
    library = site.root("find /srv/hello/venvs -name '_gevent_c_ident*.so' | head -1")
    site.root(f"cp -p {library} {library}.new && mv {library}.new {library}")
    assert site.flaskctl("status")["restart_pending"] == [library]
    site.flaskctl("restart")
    assert site.flaskctl("status")["restart_pending"] == []


def test_one_rollout_at_a_time(site: Site) -> None:
    ada, bob = (json.dumps({"id": name, "by": name}) for name in ("ada", "bob"))
    assert site.flaskctl("lock", "--holder", ada)["changed"]
    assert "ada rolls out hello" in site.flaskctl("lock", "--holder", bob, rc=75)["msg"]
    assert site.flaskctl("unlock", "--holder", ada)["changed"]


def test_the_traffic_after_a_release_is_compared_with_that_before(site: Site) -> None:
    baked = site.flaskctl("bake", "--seconds", "1", "--min-requests", "100000")
    assert not baked["judged"] and set(baked["before"]) == {"requests", "errors", "p95"}


def test_a_person_finds_the_commands_and_a_shell_completes_them(site: Site) -> None:
    assert site.root("flaskctl --version").startswith("flaskctl ")
    completed = """source /usr/share/bash-completion/bash_completion 2>/dev/null
        source /usr/local/share/bash-completion/completions/flaskctl
        COMP_WORDS=(flaskctl hello act) COMP_CWORD=2; _flaskctl; echo "${COMPREPLY[@]}" """
    assert site.host.run("bash -c %s", completed).stdout.split() == ["activate"]
    assert ".TH FLASKCTL 8" in site.root("head -n 2 /usr/local/share/man/man8/flaskctl.8")


def test_the_journal_names_the_process(site: Site) -> None:
    site.flaskctl("restart")
    labels = site.root(f"journalctl --no-pager -o short -n 50 --unit 'hello@{site.current}.service'")
    assert re.search(r" hello\.web\[\d+\]: .*(gunicorn|Listening|Booting)", labels), labels
    lines = site.flaskctl("logs", "--process", "web")["lines"]
    assert any(" hello.web[" in line for line in lines), lines
    assert "no process worker" in site.flaskctl("logs", "--process", "worker", rc=1)["msg"]
