"""The container way: what is rendered is what is committed, and which base images are taken."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rendering import evaluate, render
from tools import bases, compose
from tools.run import ROOT, Problem

DIRECTORY = ROOT / compose.HERE
SERVICES: dict[str, Any] = yaml.safe_load((DIRECTORY / "compose.yaml").read_text())["services"]
PINS = compose.defaults((ROOT / compose.ENV_FILE).read_text())
BUILT = {"PYTHON_IMAGE": "flaskfleet/base:python", "NGINX_IMAGE": "flaskfleet/base:nginx"}


# One source


@pytest.mark.parametrize("name", compose.RENDERED)
def test_the_committed_file_is_what_the_templates_give(name: str) -> None:
    assert (DIRECTORY / name).read_text() == compose.render()[name], "run: python -m tools.compose render"


def test_a_host_gets_nothing_of_the_container_way() -> None:
    assert evaluate("__flask_gunicorn_nginx_container") == ""
    assert compose.APP not in render("app.nginx.conf") and "0.0.0.0" not in render("gunicorn.conf.py")


def test_a_container_gets_nothing_that_only_a_host_has() -> None:
    strange = ("LISTEN_FDS", "NOTIFY_SOCKET", "FLASKFLEET", "/current", "previous", "maintenance", "drained", "log/")
    for name, text in compose.render().items():
        assert not [word for word in strange if word in text], name


def test_compose_yaml_and_the_rendered_files_mean_the_same_app() -> None:
    app, proxy, texts = SERVICES[compose.APP], SERVICES[compose.PROXY], compose.render()
    health = re.search(r"^HEALTH_PATH = '(.*)'$", texts["gunicorn.conf.py"], re.M)
    port = re.search(r'^bind = "0.0.0.0:(\d+)"$', texts["gunicorn.conf.py"], re.M)
    assert health and port
    assert f"'http://127.0.0.1:{port[1]}{health[1]}'" in app["healthcheck"]["test"][-1]
    assert f"server {compose.APP}:{port[1]} " in texts["hello.nginx.conf"]
    listen = re.search(r"listen (\d+)", texts["hello.nginx.conf"])
    assert listen and proxy["ports"][0].endswith(f":{listen[1]}")
    graceful = re.search(r"^graceful_timeout = (\d+)", texts["gunicorn.conf.py"], re.M)
    assert graceful and int(app["stop_grace_period"].removesuffix("s")) > int(graceful[1])


def test_both_services_are_as_closed_as_the_page_says() -> None:
    assert set(SERVICES) == {compose.APP, compose.PROXY}
    for service in SERVICES.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["restart"] == "unless-stopped"
        assert all(volume.endswith(":ro") for volume in service["volumes"]) and service["networks"] == ["web-net"]


# Base images


def test_the_official_images_are_pinned_by_digest() -> None:
    for name in bases.BASES:
        assert re.fullmatch(r"(python|nginx):[\w.-]+@sha256:[0-9a-f]{64}", PINS[name]), name


def test_pinning_anew_changes_the_digests_and_nothing_else() -> None:
    text = "# a comment\nA=1\nPYTHON_IMAGE=python:3\nNGINX_IMAGE=nginx:1@sha256:old\n"
    digests = {"PYTHON_IMAGE": "sha256:new", "NGINX_IMAGE": "sha256:newer"}
    wanted = "# a comment\nA=1\nPYTHON_IMAGE=python:3@sha256:new\nNGINX_IMAGE=nginx:1@sha256:newer\n"
    assert compose.pinned(text, digests) == wanted == compose.pinned(wanted, digests)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A machine on which pulling an image ends as told; what is pulled and built is kept."""

    def made(failure: str) -> list[str]:
        events: list[str] = []

        def pull(image: str) -> str:
            events.append(f"pull {image}")
            return failure

        def ensure() -> dict[str, str]:
            events.append("build")
            return dict(BUILT)

        monkeypatch.setattr(compose, "there", lambda image: False)
        monkeypatch.setattr(compose, "pull", pull)
        monkeypatch.setattr(bases, "ensure", ensure)
        return events

    return made


def test_the_official_images_are_taken_where_they_can_be_pulled(world: Callable[[str], list[str]]) -> None:
    events = world("")
    images, words = compose.choose(PINS, {})
    assert images == {name: PINS[name] for name in bases.BASES}
    assert "build" not in events and "official" in words and "by digest: python:" in words


def test_where_none_can_be_pulled_both_are_built_and_it_says_why(world: Callable[[str], list[str]]) -> None:
    world("no such host")
    images, words = compose.choose(PINS, {})
    assert images == BUILT
    assert "no such host" in words and BUILT["PYTHON_IMAGE"] in words


def test_an_image_that_is_there_is_not_asked_for_again(
    world: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = world("no such host")
    monkeypatch.setattr(compose, "there", lambda image: True)
    assert compose.choose(PINS, {})[0] == {name: PINS[name] for name in bases.BASES}
    assert events == []


def test_base_images_of_ones_own_are_neither_pulled_nor_built(world: Callable[[str], list[str]]) -> None:
    events = world("no such host")
    own = {"PYTHON_IMAGE": "mine/python", "NGINX_IMAGE": "mine/nginx"}
    assert compose.choose(PINS, own)[0] == own == compose.own_or_built(own)
    assert events == []
    assert compose.choose(PINS, {"PYTHON_IMAGE": "mine/python"})[0] == {**BUILT, "PYTHON_IMAGE": "mine/python"}


def test_a_base_is_built_again_when_what_goes_into_it_changes(tmp_path: Path) -> None:
    certificates = tmp_path / "ca.crt"
    certificates.write_text("one")
    before = bases.inputs("PYTHON_IMAGE", str(certificates))
    certificates.write_text("two")
    assert len({before, bases.inputs("PYTHON_IMAGE", str(certificates)), bases.inputs("PYTHON_IMAGE", None)}) == 3
    assert bases.inputs("PYTHON_IMAGE", None) != bases.inputs("NGINX_IMAGE", None)


# Docker Compose itself


@pytest.mark.parametrize(
    ("answering", "argv"),
    [
        ({"docker compose version", "docker-compose version"}, ["docker", "compose"]),
        ({"docker-compose version"}, ["docker-compose"]),
    ],
)
def test_the_plugin_goes_before_the_program_of_its_own(
    monkeypatch: pytest.MonkeyPatch, answering: set[str], argv: list[str]
) -> None:
    monkeypatch.setattr(compose, "output", lambda words: "2" if " ".join(words) in answering else None)
    assert compose.command() == argv


@pytest.mark.parametrize(
    ("offered", "installed"), [({"docker-compose"}, "docker-compose"), (set(compose.PACKAGES), "docker-compose-v2")]
)
def test_where_it_is_missing_the_distribution_has_it(
    monkeypatch: pytest.MonkeyPatch, offered: set[str], installed: str
) -> None:
    there: list[str] = []

    def output(words: list[str]) -> str | None:
        if words[0] == "apt-cache":
            return "Package: ..." if words[-1] in offered else None
        return "1" if there and words[0] == "docker-compose" else None

    monkeypatch.setattr(compose, "output", output)
    monkeypatch.setattr(compose, "apt_install", there.extend)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert compose.command() == ["docker-compose"] and there == [installed]


def test_a_person_who_may_not_install_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "output", lambda words: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Problem, match="No Docker Compose: install it .*apt install docker-compose"):
        compose.command()
