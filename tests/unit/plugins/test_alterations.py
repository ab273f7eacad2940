"""What somebody else has changed of what the role made: found on the host, told with the difference, never a secret."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import alterations, file_state
from ansible_collections.flaskfleet.web.plugins.modules import host
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import host as refusal
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.host import host_problems

Json = dict[str, Any]
ID = "0123456789ab"
CONFIG: Json = {
    "gunicorn_conf": "workers = 2\n",
    "environment": {"KEY": "hidden"},
    "credentials": {"TOKEN": "hidden too"},
    "processes": {"worker": {"service": "[Service]\nExecStart=x\n"}},
}


class Machine:
    """A directory with files that the role made, and the record of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record: dict[str, str] = {}
        for path, text in {
            "etc/nginx/sites-available/shop.conf": "listen 80;\n",
            "etc/systemd/system/shop@.service": "[Service]\n",
            "etc/needrestart/conf.d/shop.conf": "1;\n",
            "lib/flaskctl/aaa/cli.py": "pass\n",
            "etc/flaskctl/blog.json": "{}\n",
        }.items():
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
            self.path(path).write_text(text)
            self.path(path).chmod(0o644)
            self.record[str(self.path(path))] = file_state.read(str(self.path(path))).note()
        link = self.path("etc/nginx/sites-enabled/shop.conf")
        link.parent.mkdir()
        link.symlink_to(self.path("etc/nginx/sites-available/shop.conf"))
        self.record |= {str(link): f"-> {os.readlink(link)}", "user shop": "uid 1", str(root / "etc"): "directory"}
        home = self.path(f"srv/shop/releases/{ID}")
        home.mkdir(parents=True)
        self.path("srv/shop/current").symlink_to(f"releases/{ID}")
        (home / "config.json").write_text(json.dumps(CONFIG))
        self.units = str(self.path("etc/systemd/system/shop"))
        for name, (text, mode) in alterations.release_files(str(home), self.units).items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text)
            Path(name).chmod(mode)

    def path(self, name: str) -> Path:
        return self.root / name

    def run(self, command: str) -> None:
        subprocess.run(["sh", "-ec", command], cwd=self.root, check=True)

    def altered(self) -> list[Json]:
        paths = [path for path in self.record if path.startswith("/") and "blog" not in path]
        tree, release = str(self.path("lib/flaskctl")), str(self.path("srv/shop/current"))
        found: list[Json] = alterations.alterations(self.record, paths, tree, release, self.units)
        return found

    def writes(self, **contents: str) -> list[Json]:
        """Return what the next run would write: just what stands, but for what is given."""
        found = []
        for path, note in self.record.items():
            if path.startswith("/") and note != "directory":
                name = Path(path).name
                content = {"content": contents.get(name, WROTE.get(name))}
                what = {"link": note[3:]} if note.startswith("->") else content
                found.append({"path": path, "mode": "0644", **what})
        return found

    def problems(self, files: list[Json] | None) -> str:
        contact = {
            "debian": True,
            "systemd": True,
            "foreign": [],
            "noexec": "",
            "unreadable_schedules": [],
            "listening": [],
        }
        services = {"shop.socket": {"active": False}}
        neighbours = {"nginx_site": {}, "holders": [], "released": True}
        known = {**contact, **neighbours, "services": services, "altered": self.altered()}
        said = "\n".join(host_problems(known, "web1", "shop", 5000, files))
        return said.replace(f"{self.root}/", "/")


WROTE = {"shop@.service": "[Service]\n", "cli.py": "pass\n", "blog.json": "{}\n"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(refusal, "ROOT", f"{os.geteuid()}:{os.getegid()}")
    return Machine(tmp_path)


def test_of_a_host_as_the_role_left_it_nothing_is_told(machine: Machine) -> None:
    assert machine.altered() == [] and machine.problems(machine.writes()) == ""


SITE, UNIT = "etc/nginx/sites-available/shop.conf", "etc/systemd/system/shop@.service"
LINK, HOME = "etc/nginx/sites-enabled/shop.conf", f"srv/shop/releases/{ID}"


@pytest.mark.parametrize(
    ("damage", "told", "keeps"),
    [
        (f"echo x >>{SITE}", f"/{SITE} was changed:", "flask_gunicorn_nginx_server_settings"),
        (f"echo Nice=5 >>{UNIT}", f"/{UNIT} was changed:", "systemctl edit shop@.service"),
        (f"chmod 600 {UNIT}", f"/{UNIT} has mode and owner 0600", "flask_gunicorn_nginx_service_settings"),
        (f"ln -sfn /root/mine {LINK}", f"/{LINK} is a link to /root/mine", "the role's own"),
        (f"rm {SITE}; mkdir {SITE}", f"/{SITE} is no file any more", "flask_gunicorn_nginx_server_settings"),
        (f"rm {LINK}; echo x >{LINK}", f"/{LINK} was changed", "the role's own"),
        ("echo 2 >etc/needrestart/conf.d/shop.conf", "conf.d/shop.conf was changed:", "a file of your own beside it"),
        ("echo print >>lib/flaskctl/aaa/cli.py", "/lib/flaskctl/aaa/cli.py was changed:", "the role's own"),
        (f"echo timeout=9 >>{HOME}/gunicorn.conf.py", f"/{HOME}/gunicorn.conf.py was changed:", "nginx_settings"),
        (f"echo A=b >>{HOME}/environment", f"/{HOME}/environment was changed; not", "flask_gunicorn_nginx_env"),
        (f"echo b >{HOME}/credentials/TOKEN", f"/{HOME}/credentials/TOKEN was changed; not", "nginx_credentials"),
        (
            f"echo Nice=5 >>etc/systemd/system/shop.worker@{ID}.service",
            f"/etc/systemd/system/shop.worker@{ID}.service was changed:",
            "flask_gunicorn_nginx_processes",
        ),
        (
            f"echo Nice=5 >>etc/systemd/system/shop@{ID}.service.d/credentials.conf",
            "credentials.conf was changed:",
            "the role's own",
        ),
    ],
)
def test_each_change_is_named_with_where_it_can_stay(machine: Machine, damage: str, told: str, keeps: str) -> None:
    machine.run(damage)
    said = machine.problems(machine.writes())
    assert told in said and keeps in said and "On web1 somebody has changed" in said
    assert "-e flask_gunicorn_nginx_overwrite=true" in said
    assert "hidden" not in said and "A=b" not in said
    assert machine.problems(None) == "", "who says so may overwrite"


def test_the_difference_is_shown_in_few_lines(machine: Machine) -> None:
    machine.path(SITE).write_text("listen 80;\n" + "x;\n" * 100)
    said = machine.problems(machine.writes(**{"shop.conf": "listen 80;\n"}))
    assert "--- as this run would write it\n    +++ as it stands on web1" in said and "    +x;" in said
    assert "lines more" in said and len(said.splitlines()) < 60


def test_a_password_in_an_address_is_masked(machine: Machine) -> None:
    machine.path(SITE).write_text("proxy_pass http://me:secret@elsewhere/;\n")
    assert "secret" not in machine.problems(machine.writes())


@pytest.mark.parametrize("mode", ["600", "640"])
def test_what_not_everybody_may_read_stays_on_the_host(machine: Machine, mode: str) -> None:
    machine.run(f"echo 'token: abc' >>{SITE}; chmod {mode} {SITE}; chmod 644 {HOME}/environment")
    found = {Path(item["path"]).name: item for item in machine.altered()}
    assert found["shop.conf"]["text"] is None and found["environment"]["text"] is None
    assert "hidden" not in json.dumps(found) and "abc" not in machine.problems(machine.writes())


def test_what_somebody_changed_to_just_what_would_be_written_now_is_no_conflict(machine: Machine) -> None:
    machine.path(SITE).write_text("listen 81;\n")
    assert machine.problems(machine.writes(**{"shop.conf": "listen 80;\n"}))
    assert machine.problems(machine.writes(**{"shop.conf": "listen 81;\n"})) == ""
    machine.run(f"ln -sfn ../sites-available/shop.conf {LINK}")
    assert machine.problems(machine.writes(**{"shop.conf": "listen 81;\n"})) == "", "it leads to the same file"
    machine.path(SITE).chmod(0o666)
    assert "has mode" not in machine.problems(machine.writes(**{"shop.conf": "listen 81;\n"}))
    assert "was changed" in machine.problems(machine.writes(**{"shop.conf": "listen 81;\n"}))


def test_what_this_run_does_not_write_is_nobodys_business(machine: Machine) -> None:
    machine.run("echo x >etc/flaskctl/blog.json; echo x >lib/flaskctl/aaa/cli.py")
    assert machine.problems([entry for entry in machine.writes() if "cli.py" not in entry["path"]]) == ""


def test_a_file_that_would_be_removed_is_a_conflict_too(machine: Machine) -> None:
    machine.run(f"echo x >{SITE}")
    assert f"/{SITE} was changed" in machine.problems([{"path": str(machine.path(SITE)), "state": "absent"}])


def test_certbots_edit_is_told_with_the_certificate_that_certbot_got(machine: Machine) -> None:
    machine.path(SITE).write_text("""\
server {
    listen 443 ssl; # managed by Certbot
    ssl_certificate /etc/letsencrypt/live/shop.example.com/fullchain.pem; # managed by Certbot
    ssl_certificate_key /etc/letsencrypt/live/shop.example.com/privkey.pem; # managed by Certbot
}
""")
    said = machine.problems(machine.writes())
    live = "/etc/letsencrypt/live/shop.example.com"
    assert f"flask_gunicorn_nginx_tls: {{certificate: {live}/fullchain.pem, key: {live}/privkey.pem}}" in said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"gunicorn_conf": 1}', json.dumps(CONFIG | {"processes": [1]})])
def test_a_release_whose_configuration_cannot_be_read_is_flaskctls_to_judge(machine: Machine, text: str) -> None:
    machine.path(f"{HOME}/config.json").write_text(text)
    assert machine.altered() == []


Ask = Callable[..., tuple[list[Json], list[str]]]


@pytest.fixture
def ask(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr(host, "recorded", lambda: machine.record)

    def differences(**more: object) -> tuple[list[Json], list[str]]:
        paths = [name for name in machine.record if name[0] == "/"]
        given = {"app": "shop", "paths": paths, "edits": [], "tree": "", "current": "", "units": ""}
        found: tuple[list[Json], list[str]] = host.differences({**given, **more})
        return found

    return differences


def test_a_deleted_file_is_told_and_stops_nothing(machine: Machine, ask: Ask) -> None:
    machine.run(f"rm {SITE} {LINK}")
    _found, told = ask()
    assert [text.replace(f"{machine.root}/", "/") for text in told] == [
        f"/{name} was deleted: a release puts it back" for name in (SITE, LINK)
    ]
    assert machine.problems(machine.writes()) == ""


def test_a_line_that_its_owner_changed_since_is_told(machine: Machine, ask: Ask) -> None:
    main = machine.path("nginx.conf")
    machine.record[f"line {main}"] = json.dumps([["  w 768;", "  w 8192;"]])
    main.write_text("  w 8192;\n")
    assert ask(edits=[str(main)]) == ([], [])
    main.write_text("  w 1000;\n")
    _found, told = ask(edits=[str(main)])
    assert "somebody has changed `w 8192;`" in told[0] and "It stays as it is" in told[0]


def test_of_no_app_nothing_is_told(ask: Ask, machine: Machine) -> None:
    machine.run(f"rm {SITE}")
    assert ask(app="") == ([], [])
