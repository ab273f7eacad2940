"""The container way: the three addresses, changed code, an app that is killed, stopped or broken, and the end."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils import status_page
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.integration.compose.conftest import NAME, Containers, docker
from tools import browser
from tools.compose import APP, PROXY

ECHO = """
from flask import request

@app.get("/seen")
def seen():
    return {"headers": dict(request.headers), "scheme": request.scheme}
"""


# The three addresses


def test_nginx_itself_serves_the_static_page(project: Containers) -> None:
    answer = project.get("/static/")
    assert answer.status == 200 and "Static file hosted by Nginx..." in answer.body
    assert answer.headers["content-type"] == "text/html" and answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["server"] == "nginx"
    assert project.logged("/static/")["upstream_status"] == ""


def test_the_app_says_hello(project: Containers) -> None:
    answer = project.get("/")
    assert (answer.status, answer.body) == (200, "Hello Flask!")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert project.logged("/")["upstream_status"] == "200"


def test_admin_leads_to_its_page_and_keeps_the_port(project: Containers) -> None:
    answer = project.get("/admin")
    assert answer.status == 308
    assert answer.headers["location"] == f"http://localhost:{project.port}/admin/"
    assert project.get("/admin/").body == "Hello Flask Admin!"


def shades(picture: Path) -> int:
    """How many different rows of pixels a PNG file has: one when nothing is drawn."""
    data, at, packed, width, channels = picture.read_bytes(), 8, b"", 0, 0
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, channels = struct.unpack(">I", body[:4])[0], {2: 3, 6: 4}[body[9]]
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, size = zlib.decompress(packed), width * channels + 1
    return len({raw[start : start + size] for start in range(0, len(raw), size)})


TRAFFIC = {"start": 0.0, "switched": 20.0, "step": 10, "requests": [40, 80, 20], "errors": [0, 0, 9]}


@pytest.mark.parametrize(
    ("page", "text"),
    [("front", "Hello Flask!"), ("admin", "Hello Flask Admin!"), ("static", "Static file hosted by Nginx...")],
)
def test_a_browser_shows_the_page(project: Containers, tmp_path: Path, page: str, text: str) -> None:
    picture = tmp_path / "page.png"
    assert text in browser.look(f"http://localhost:{project.port}{browser.PAGES[page]}", picture)
    assert shades(picture) > 5, "the page is blank"


def test_a_browser_shows_how_a_fleet_stands(tmp_path: Path) -> None:
    """The page of playbooks/status.yml, from a file: nothing is there to be asked."""
    problems = ["hello.service has failed"]
    seen: list[dict[str, object]] = [{"host": "web1", "serving": "0123456789ab", "problems": [], "traffic": TRAFFIC}]
    seen.append({"host": "web2", "serving": "0123456789ab", "problems": problems, "traffic": None})
    page, picture = tmp_path / "fleet.html", tmp_path / "fleet.png"
    page.write_text(status_page.page({"agrees": False, "wrong": [f"web2: {problems[0]}"], "hosts": seen}, "hello"))
    shown = browser.look(page.as_uri(), picture)
    assert "2 hosts, 1 wrong" in shown and shown.count('<rect class="failed"') == 1


# What the containers are


@pytest.mark.parametrize("service", [APP, PROXY])
def test_no_process_of_a_container_has_privileges(project: Containers, service: str) -> None:
    status = project.inside(service, "cat", "/proc/1/status").stdout
    assert re.search(r"(?m)^Uid:\s+[1-9]", status) and re.search(r"(?m)^NoNewPrivs:\s+1$", status), status
    assert re.search(r"(?m)^CapEff:\s+0+$", status) and re.search(r"(?m)^CapBnd:\s+0+$", status), status


@pytest.mark.parametrize(
    ("service", "paths"),
    [(APP, ["/", "/srv/hello/app", "/srv/hello/venv"]), (PROXY, ["/", "/etc/nginx/conf.d", "/srv/hello/static"])],
)
def test_nothing_is_writable_that_code_or_configuration_comes_from(
    project: Containers, service: str, paths: list[str]
) -> None:
    for path in paths:
        # as root: it is not the owner of a file that forbids it
        done = project.inside(service, "touch", f"{path.rstrip('/')}/x", options=["--user=0"])
        assert "Read-only file system" in done.stderr, f"{path}: {done.stderr}"


def test_only_nginx_is_published_and_only_to_this_machine(project: Containers) -> None:
    assert project.inspect(PROXY)["NetworkSettings"]["Ports"]["8080/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(project.port)}
    ]
    published = project.inspect(APP)["NetworkSettings"]["Ports"]
    assert not [port for ports in published.values() for port in ports or []]
    networks = {tuple(project.inspect(service)["NetworkSettings"]["Networks"]) for service in (APP, PROXY)}
    assert networks == {(f"{NAME}_web-net",)}


def test_the_image_holds_the_locked_dependencies_and_nothing_else(project: Containers, tree: Path) -> None:
    script = (
        "import importlib.metadata, json, platform\n"
        "found = {each.metadata['Name']: each.version for each in importlib.metadata.distributions()}\n"
        "print(json.dumps([platform.python_version(), found]))"
    )
    done = project.inside(APP, "/srv/hello/venv/bin/python", "-c", script)
    python, installed = json.loads(done.stdout)
    environment = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
    }
    locked: dict[str, str] = {}
    for lock in ("files/app/requirements.txt", "roles/flask_gunicorn_nginx/files/gunicorn.txt"):
        for line in re.findall(r"(?m)^[a-z][^\\\n]*", (tree / lock).read_text()):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                locked[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    assert {canonicalize_name(name): version for name, version in installed.items()} == locked
    assert not docker("run", "--rm", project.inspect(APP)["Image"], "ls", "/srv/hello/app").strip()


def test_the_build_refuses_a_package_that_is_not_the_locked_one(project: Containers, tree: Path) -> None:
    lock = tree / "files/app/requirements.txt"
    text = lock.read_text()
    flask = re.search(r"(?m)^flask==.*\n(?: .*\n)*", text)
    assert flask
    lock.write_text(text.replace(flask[0], re.sub(r"sha256:....", "sha256:0000", flask[0])))
    try:
        # not with Compose: a build that fails may leave a container, which it has no word for
        base = f"--build-arg=PYTHON_IMAGE={project.images['PYTHON_IMAGE']}"
        argv = ["docker", "build", "--force-rm", base, f"--file={tree}/files/compose/Dockerfile", str(tree)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout + done.stderr
    finally:
        lock.write_text(text)


# What happens to them


def test_a_changed_line_is_served_after_a_restart_and_no_build(project: Containers, tree: Path) -> None:
    code = tree / "files/app/app.py"
    before = project.inspect(APP)
    text = code.read_text()
    code.write_text(text.replace("Hello Flask!", "Hello again!") + ECHO)
    try:
        assert project.get("/").body == "Hello Flask!"
        project.need("restart", APP)
        assert project.serves() and project.get("/").body == "Hello again!"
        after = project.inspect(APP)
        assert (after["Id"], after["Image"]) == (before["Id"], before["Image"])
        seen = project.get("/seen", X_Forwarded_For="6.6.6.6", X_Real_IP="6.6.6.6", X_Forwarded_Proto="https").json
        gateway = next(iter(after["NetworkSettings"]["Networks"].values()))["Gateway"]
        headers = seen["headers"]
        assert headers["Host"] == f"localhost:{project.port}"
        assert seen["scheme"] == headers["X-Forwarded-Proto"] == "http"
        assert headers["X-Real-Ip"] == headers["X-Forwarded-For"] == gateway
    finally:
        code.write_text(text)
        project.need("restart", APP)
        assert project.serves()


def test_an_app_that_is_killed_comes_back(project: Containers) -> None:
    before = project.inspect(APP)
    # from outside, as the kernel would for want of memory: a container's first process gets no SIGKILL from inside, and
    # what `docker kill` ends stays down, for somebody wanted that
    kill = f"import os; os.kill({before['State']['Pid']}, {int(signal.SIGKILL)})"
    image = project.images["PYTHON_IMAGE"]
    docker("run", "--rm", "--pid=host", "--user=0", "--network=none", image, "python3", "-c", kill)
    assert project.eventually(lambda: project.inspect(APP)["RestartCount"] == before["RestartCount"] + 1)
    assert project.serves()
    assert project.inspect(APP)["State"]["Pid"] != before["State"]["Pid"]


def test_without_the_app_static_files_are_served_and_the_rest_is_503(project: Containers) -> None:
    project.need("stop", APP)
    try:
        for path in ("/", "/admin/", "/readyz"):
            answer = project.get(path)
            assert (answer.status, answer.headers.get("retry-after")) == (503, "10"), path
            assert "Please try again" in answer.body
        assert project.get("/static/").status == 200
    finally:
        project.need("start", APP)
        assert project.serves()


def test_an_app_made_anew_is_found_by_the_nginx_that_runs(project: Containers) -> None:
    before = project.one(PROXY), project.one(APP)
    project.need("up", "--detach", "--no-deps", "--force-recreate", APP)
    assert project.one(PROXY) == before[0] and project.one(APP) != before[1]
    assert project.serves()


def test_nginx_does_not_start_before_an_app_that_is_unfit(project: Containers, tree: Path) -> None:
    project.need("down")
    code = tree / "files/app/app.py"
    text = code.read_text()
    code.write_text(text.replace('return "Hello Flask!"', 'return "no database", 503'))
    try:
        assert project.run("up", "--detach") != 0
        assert not project.containers(PROXY) or not project.inspect(PROXY)["State"]["Running"]
        assert "health check: GET / answered 503 SERVICE UNAVAILABLE" in project.said()
        assert "It said: no database" in project.said()
    finally:
        code.write_text(text)


def test_down_leaves_nothing_but_the_images(project: Containers) -> None:
    project.need("down")
    project.need("up", "--detach")
    image = project.inspect(APP)["Image"]
    assert len(project.containers()) == 2
    project.need("down")
    for kind in ("container ls --all", "network ls", "volume ls"):
        assert not docker(*kind.split(), "--quiet", f"--filter=label=com.docker.compose.project={NAME}"), kind
    docker("image", "inspect", image)
