"""What stands on two sides because one of them is a program on the host: each is read here, and they must agree.

flaskctl has the Python of a host and no Ansible, so it cannot read the role's files; nor does the role run on the host.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.action import flaskctl as action
from ansible_collections.flaskfleet.web.plugins.module_utils import alterations, file_record, file_state
from ansible_collections.flaskfleet.web.plugins.plugin_utils import spec
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import app as refusals
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.rules import problems

from tests.rendering import TLS, evaluate, prefixed, render
from tests.unit.flaskctl.conftest import cheap  # noqa: F401
from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl, note
from tests.unit.flaskctl.given import archive

SOUND: dict[str, Any] = {"source": "/tmp", "default_server": True}


def role_takes(**values: Any) -> bool:
    found: list[str] = problems(prefixed({**SOUND, **values}))
    return not found


def flaskctl_takes(**config: Any) -> bool:
    try:
        flaskctl.parse_config(json.dumps(config))
    except flaskctl.Refused:
        return False
    return True


# names


def one_character_apart() -> list[str]:
    """Names in which each character stands first, later and last, and names of every length."""
    characters = [chr(code) for code in range(1, 256)]
    return [text for c in characters for text in (c, f"a{c}", f"a{c}a")] + ["a" * length for length in range(80)]


@pytest.mark.parametrize(
    ("variable", "field"),
    [("env", "environment"), ("credentials", "credentials")],
)
def test_the_role_and_flaskctl_take_the_same_names(variable: str, field: str) -> None:
    for name in one_character_apart():
        assert role_takes(**{variable: {name: "x"}}) == flaskctl_takes(**{field: {name: "x"}}), repr(name)


def test_the_role_and_flaskctl_reserve_the_same_names() -> None:
    assert refusals.RESERVED_BY_FLASKCTL == flaskctl.RESERVED
    for name in flaskctl.RESERVED | refusals.RESERVED_BY_THE_ROLE:
        assert not role_takes(env={name: "x"}), name


def test_what_the_role_reserves_beside_is_what_its_own_files_set() -> None:
    unit, conf = render("app@.service"), render("gunicorn.conf.py", {"url_prefix": "/api", "default_server": True})
    sets = {
        "PYTHONPATH": "Environment=PYTHONPATH=" in unit,
        "STATE_DIRECTORY": "StateDirectory=" in unit,
        "SCRIPT_NAME": 'os.environ["SCRIPT_NAME"] =' in conf,
    }
    assert set(sets) == refusals.RESERVED_BY_THE_ROLE and all(sets.values()), sets


@pytest.mark.parametrize("count", [1, 2, 10, 100])
def test_the_names_of_processes_that_the_role_makes_are_those_that_flaskctl_takes(count: int) -> None:
    for name in one_character_apart():
        entry = {"name": name, "command": "x", **({"count": count} if count > 1 else {})}
        units = [f"{name}-{copy}" for copy in range(1, count + 1)] if count > 1 else [name]
        taken = flaskctl_takes(processes={unit: {"service": "x"} for unit in units})
        assert role_takes(processes=[entry]) == taken, repr(name)


def test_the_role_and_flaskctl_take_the_same_names_of_apps() -> None:
    for name in one_character_apart():
        if name.startswith("-") or not name:
            continue  # an option, or nothing
        said = " ".join(problems(prefixed({**SOUND, "name": name})))
        try:
            flaskctl.parse([name, "status"])
            taken = True
        except flaskctl.Refused:
            taken = False
        assert ("lower-case" not in said) == taken, repr(name)


@pytest.mark.parametrize(("variable", "field"), [("env", "environment"), ("credentials", "credentials")])
def test_no_value_passes_the_role_that_flaskctl_refuses(variable: str, field: str) -> None:
    """The other way round the role may be stricter: it knows of all credentials together."""
    edge = [128 * 1024 - len("NAME=") - less for less in range(3)] + [1024**2 - less for less in range(-1, 8)]
    characters = [*range(0x300), *range(0xD7F0, 0x10000), *(p << 16 | n for p in range(1, 17) for n in (0, 0xFFFD))]
    characters += [plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)]
    values = ["x" * size for size in edge] + [chr(code) for code in characters]
    passed = [value for value in values if role_takes(**{variable: {"NAME": value}})]
    assert passed
    refused = [value for value in passed if not flaskctl_takes(**{field: {"NAME": value}})]
    assert not refused, [(ascii(value[:3]), len(value)) for value in refused]


@pytest.mark.parametrize("size", [128 * 1024 - len("NAME=") - less for less in range(3)])
def test_both_take_an_environment_variable_up_to_the_same_length(size: int) -> None:
    assert role_takes(env={"NAME": "x" * size}) == flaskctl_takes(environment={"NAME": "x" * size})


# files of a release, and how the record has a file


def test_preflight_and_flaskctl_expect_the_same_files_of_a_release(host: FakeHost) -> None:
    given = {
        "gunicorn_conf": "workers = 2\n",
        "environment": {"A": "b", "QUOTED": 'a"b\\c$d`e\nf'},
        "credentials": {"K.1": "v", "J": "w"},
        "processes": {"worker": {"service": "[Service]\nExecStart=x\n"}, "job": {"service": "y", "timer": "z"}},
    }
    release, config = "0123456789ab", flaskctl.parse_config(json.dumps(given))
    app, home = flaskctl.App(host, "hello"), host.root / f"srv/hello/releases/{release}"
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps(config._asdict()))
    expected = {str(home / name): file for name, file in flaskctl.release_files(config).items()}
    units = flaskctl.unit_files(app, release, config)
    # by the size of this host, which preflight does not ask
    expected |= {str(path): file for path, file in units.items() if path.name != "ceilings.conf"}
    found = alterations.release_files(str(home), str(host.root / "etc/systemd/system/hello"))
    # on a host the root is /
    assert {path: (text.replace(str(host.root), ""), mode) for path, (text, mode) in found.items()} == expected
    assert len(expected) == 10


def test_config_files_and_flaskctl_note_a_file_alike(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("text")
    link.symlink_to("a b")
    for mode in (0o644, 0o4711, 0o600):
        file.chmod(mode)
        assert flaskctl.fingerprint(file) == file_state.read(str(file)).note() != ""
    assert flaskctl.fingerprint(link) == file_state.read(str(link)).note() == "-> a b"
    assert flaskctl.fingerprint(tmp_path / "none") == file_state.State().note() == ""
    noted = flaskctl.fingerprint(file)
    for text in (noted, f"x\n{noted}", noted.split(" ")[0], "x", "", noted.replace("0600", "0644")):
        assert flaskctl.as_noted(file, text) is file_state.as_noted(file_state.read(str(file)), text), text


# defaults


def test_a_canary_is_watched_by_the_role_as_by_a_person() -> None:
    bake = flaskctl.parse(["hello", "bake", "--seconds", "1"])
    documented = {name: option["default"] for name, option in spec.options("rollout", "bake").items()}
    assert {name: getattr(bake, name) for name in documented if name != "seconds"} == {
        name: value for name, value in documented.items() if name != "seconds"
    }


def test_what_a_rollout_leaves_out_is_what_the_specification_says() -> None:
    documented = spec.options("rollout")
    found = evaluate("__flask_gunicorn_nginx_rollout", {"rollout": {"bake": {"seconds": 60}}})
    bake = {name: option["default"] for name, option in documented["bake"]["options"].items()}
    expected = {name: option.get("default") for name, option in documented.items()} | {"bake": {**bake, "seconds": 60}}
    assert found == expected


def test_nginx_says_how_long_https_counts_as_the_specification_does() -> None:
    default = spec.options("tls")["hsts_max_age"]["default"]
    said = re.findall('"max-age=(\\d+)', render("app.nginx.conf", {"default_server": True, "tls": TLS}))
    assert said and set(said) == {str(default)}


# paths: a host on which the role has put everything where it says, and a flaskctl that has to find it


class Places:
    """Where the role puts things, in its own words."""

    def __init__(self, host: FakeHost) -> None:
        self.root = host.root

    def named(self, name: str) -> Path:
        return self.on_host(evaluate(f"__flask_gunicorn_nginx_paths.{name}"))

    def on_host(self, path: str) -> Path:
        return self.root / path.lstrip("/")


VALUES: dict[str, Any] = {
    "default_server": True,
    "credentials": {"KEY": "secret"},
    "processes": [{"name": "worker", "command": "x"}, {"name": "tick", "command": "y", "schedule": "daily"}],
}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A host as the role leaves it before the first release."""
    host = FakeHost(tmp_path / "host")
    places = Places(host)
    settings = json.dumps(evaluate("__flask_gunicorn_nginx_app", VALUES))
    units = evaluate("__flask_gunicorn_nginx_paths.units")
    for path, text in (
        (places.named("settings"), settings),
        (places.on_host(f"{units}.socket"), render("app.socket", VALUES)),
        (places.on_host(f"{units}.service"), render("app.service", VALUES)),
        (places.on_host(f"{units}@.service"), render("app@.service", VALUES)),
        (places.named("site"), render("app.nginx.conf", VALUES)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    link = places.named("site_link")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(places.named("site"))
    (host.root / "run").mkdir()
    host.set_unit("hello.socket", ActiveState="active", UnitFileState="enabled")
    host.set_unit("hello.service", ActiveState="inactive", UnitFileState="enabled")
    host.commands = ("x", "y")
    return host


@pytest.fixture
def release(host: FakeHost, tmp_path: Path) -> Callable[[str], str]:
    """Return a function that releases a version as the role does, and returns the id."""

    def deployed(version: str) -> str:
        files = {"app.py": version, "requirements.txt": "flask\n", "static/index.html": "x"}
        path = archive(tmp_path / f"{version}.tar.gz", files)
        config = json.dumps(evaluate("__flask_gunicorn_nginx_release", VALUES))
        staged = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config)
        assert staged.rc == 0, staged
        assert call(host, "hello", "activate", staged.json["id"]).rc == 0
        return str(staged.json["id"])

    return deployed


def paths_in(text: str) -> set[str]:
    """The paths below the app's directory that a unit or a site names."""
    return set(re.findall(r"/srv/hello/[^\s;)\"]+", text))


def test_flaskctl_finds_the_app_by_its_settings(host: FakeHost) -> None:
    assert call(host, "apps", "--json").json["apps"] == ["hello"]


def test_flaskctl_is_called_where_the_role_puts_it() -> None:
    path = evaluate("__flask_gunicorn_nginx_paths.flaskctl")
    (start,) = re.findall(r"(?m)^ExecStart=(\S+) hello start$", render("app.service"))
    assert action.FLASKCTL == path == start


def test_what_the_unit_of_a_release_names_is_what_a_release_holds(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    found = release("v1")
    unit = Places(host).on_host(f"{evaluate('__flask_gunicorn_nginx_paths.units')}@.service").read_text()
    named = {path.replace("%i", found) for path in paths_in(unit)}
    site = f"/srv/hello/releases/{found}/site"  # only where the source is a project
    assert site in named and len(named) > 4
    missing = [path for path in named - {site} if not (host.root / path.lstrip("/")).exists()]
    assert not missing
    drop_ins = list((host.root / "etc/systemd/system").glob(f"hello@{found}.service.d/*"))
    assert drop_ins and all(
        Path(f"{host.root}{path}").exists() for file in drop_ins for path in paths_in(file.read_text())
    )


def test_the_unit_that_a_timer_names_is_the_one_that_flaskctl_writes(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    found = release("v1")
    units = Places(host).on_host(evaluate("__flask_gunicorn_nginx_paths.units")).parent
    (timer,) = units.glob("*.timer")
    (named,) = re.findall(r"(?m)^Unit=(.*)$", timer.read_text())
    assert (units / named.replace("%i", found)).exists()
    assert timer.with_suffix(".service").name == named.replace("%i", found)


def test_the_links_that_nginx_serves_from_are_those_that_flaskctl_moves(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    release("v1")
    release("v2")
    aliases = {path for path in paths_in(render("app.nginx.conf", VALUES)) if path.endswith("static/")}
    there = {path for path in aliases if (host.root / path.lstrip("/") / "index.html").exists()}
    assert len(aliases) > 3 and there == {f"/srv/hello/{name}/static/" for name in ("current", "kept/1", "kept/2")}


def test_the_files_that_nginx_looks_for_are_those_that_flaskctl_makes(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    release("v1")
    site = render("app.nginx.conf", VALUES)
    looked_at = {host.root / path.lstrip("/") for path in re.findall(r"\(-f (\S+)\)", site)}
    (page,) = re.findall(r"alias (\S+\.html);", site)
    assert len(looked_at) == 2 and host.root / page.lstrip("/") in looked_at
    assert not any(path.exists() for path in looked_at)
    for words in (("drain",), ("maintenance", "on")):
        done = call(host, "hello", *words, "--json")
        # it looks into the site whether nginx looks for the file
        assert (done.rc, done.json["warnings"]) == (0, []), done
    assert all(path.exists() for path in looked_at)


def test_flaskctl_asks_through_nginx_where_the_role_has_put_a_site(
    host: FakeHost, release: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    answer = host.http_get

    def ask(*words: Any) -> Any:
        asked.append(words)
        return answer(*words)

    monkeypatch.setattr(host, "http_get", ask)
    release("v1")
    assert ("http", 80, "localhost", "/", "10.0.0.5", "") in asked


def test_the_traffic_that_flaskctl_judges_is_what_nginx_logs(host: FakeHost, release: Callable[[str], str]) -> None:
    release("v1")
    site = render("app.nginx.conf", VALUES)
    (path,) = re.findall(r"access_log (\S+) hello;", site)
    form = "".join(re.findall(r"'(.*)'", site[: site.index(";\n")]))
    now = datetime.datetime.fromtimestamp(host.clock, datetime.UTC).isoformat()
    log = host.root / path.lstrip("/")
    log.parent.mkdir(parents=True)
    log.write_text(re.sub(r"\$\w+", "200", form.replace("$time_iso8601", now)) + "\n")
    baked = call(host, "hello", "bake", "--seconds", "5", "--min-requests", "0", "--json").json
    assert baked["before"]["requests"] + baked["after"]["requests"] == 1, baked


def test_flaskctl_compares_with_the_record_that_config_files_keeps(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    release("v1")
    site = evaluate("__flask_gunicorn_nginx_paths.site")
    record = host.root / file_record.RECORD.lstrip("/")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({site: "0" * 64}))
    assert site in " ".join(call(host, "hello", "status", "--json").json["drift"])


def test_what_the_role_and_flaskctl_put_on_a_host_goes_when_the_app_goes(
    host: FakeHost, release: Callable[[str], str]
) -> None:
    release("v1")
    (state,) = re.findall(r"(?m)^StateDirectory=(\S+)$", render("app@.service", VALUES))
    data = host.root / "var/lib" / state
    data.mkdir(parents=True)
    places = Places(host)
    for name in ("site", "site_link"):  # by the role, tasks/remove.yml
        places.named(name).unlink()
    note(host)
    assert call(host, "hello", "remove", "--purge").rc == 0
    left = [path for path in host.root.rglob("*") if "hello" in path.name]
    assert not left


def test_the_action_knows_how_flaskctl_says_that_an_app_is_not_there(tmp_path: Path) -> None:
    said = call(FakeHost(tmp_path / "host"), "--json", "--dry-run", "nosuch", "stage", "--config", "-", stdin="{}\n")
    assert said.rc and said.json["msg"].startswith(action.unknown("nosuch")), said


def test_a_command_of_the_project_itself_is_where_the_host_expects_it(tmp_path: Path) -> None:
    """pip puts it beside the project, in the release; what its packages bring is in the virtualenv."""
    for name in ("venv/bin/celery", "site/bin/shop-init"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for command, there in (("celery -A x", "venv"), ("shop-init --now", "site"), ("none", "venv")):
        text = f"[Service]\nExecStart=/srv/shop/releases/%i/venv/bin/{command}\n"
        config = flaskctl.Config(processes={"a": {"service": text}})
        wrote = flaskctl.own_commands(config, tmp_path)["a"]["service"]
        assert wrote == alterations.own_command(text, str(tmp_path)) == text.replace("/venv/", f"/{there}/")
