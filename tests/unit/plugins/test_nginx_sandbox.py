"""Whether nginx would start and serve in its sandbox: what is tried, and what comes of what was found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import nginx_sandbox
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_needs import Need

DROPIN = "/etc/systemd/system/nginx.service.d/flaskfleet.conf"
CAT = f"""\
# /lib/systemd/system/nginx.service
# Stop dance for nginx
[Unit]
Description=nginx
[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t -q
ExecStart=/usr/sbin/nginx
TimeoutStopSec=5
KillMode=mixed
PrivateTmp=no
[Install]
WantedBy=multi-user.target

# {DROPIN}
[Service]
ProtectHome=yes

# /etc/systemd/system/nginx.service.d/override.conf
[Service]
; a comment
ProtectHome=no
ReadWritePaths=/data \\
  /cache
RuntimeDirectoryPreserve=no
ExecPaths=/usr
RestrictAddressFamilies=AF_UNIX
"""
NEW = "[Service]\nProtectHome=tmpfs\nRestart=on-failure\n"
HOME = [1, 2]


def seen(may: str = "", worker: str | None = None, what: Any = HOME, path: str = "/home/anna") -> dict[str, Any]:
    """What a probe says of one path."""
    return {"root": {path: [may, what]}, "worker": {path: [may if worker is None else worker, what]}}


NOTHING = seen("", what=None)


def need(how: str, **more: Any) -> Need:
    return Need("/home/anna", how, "root in /etc/nginx/a", **more)


def test_the_trial_has_the_settings_of_the_next_start_in_the_order_in_which_they_count() -> None:
    assert nginx_sandbox.next_start(CAT, DROPIN, NEW) == [
        "PrivateTmp=no",
        "ProtectHome=tmpfs",
        "ProtectHome=no",
        "ReadWritePaths=/data    /cache",
        "ExecPaths=/usr",
        "RestrictAddressFamilies=AF_UNIX",
    ]


def test_a_host_without_the_unit_has_the_drop_in_alone() -> None:
    assert nginx_sandbox.next_start("", DROPIN, NEW) == ["ProtectHome=tmpfs"]


@pytest.mark.parametrize(
    ("what", "outside", "inside", "is_lost"),
    [
        (need("read"), seen("rwx"), seen("rx"), False),
        (need("read"), seen("rwx"), seen("w"), True),
        (need("read"), seen("rwx"), NOTHING, True),
        (need("read"), NOTHING, NOTHING, False),
        (need("write"), seen("rwx"), seen("rx"), True),
        (need("write"), seen("rx"), seen("rx"), False),
        (need("connect"), seen("rw"), NOTHING, True),
        # root may more than the workers, and it is the workers who read a site
        (need("read", worker=True), seen("rwx", worker=""), NOTHING, False),
        (need("read"), seen("rwx", worker=""), NOTHING, True),
        (need("read", worker=True), seen("rwx"), seen("rwx", worker=""), True),
        # an empty directory in place of the one that was meant
        (need("read", same=True), seen("rx"), seen("rx", what=[3, 4]), True),
        (need("read", same=True), seen("rx"), seen("rx"), False),
        (need("read"), seen("rx"), seen("rx", what=[3, 4]), False),
        # a socket that will be made in a directory is reached through that
        (need("connect", same=True), seen("rx"), seen("rx", what=[3, 4]), True),
        (need("write", same=True), seen("rx"), seen("rx", what=[3, 4]), False),
    ],
)
def test_what_is_possible_outside_and_not_inside_is_lost(what: Need, outside: Any, inside: Any, is_lost: bool) -> None:
    assert nginx_sandbox.lost(what, outside, inside) is is_lost


def test_a_reason_names_path_and_directive() -> None:
    said = nginx_sandbox.reasons([need("read"), need("write", shown="/home/anna/log")], seen("rwx"), NOTHING)
    assert said == [
        "/home/anna could not be read (root in /etc/nginx/a)",
        "/home/anna/log could not be written (root in /etc/nginx/a)",
    ]
    assert not nginx_sandbox.reasons([need("read")], seen("rx"), {**seen("rx"), "code": 0, "said": "ok"})


def test_what_nginx_says_is_told_where_no_path_tells_it() -> None:
    refused = {**NOTHING, "code": 1, "said": 'nginx: [emerg] 7#7: mkdir() "/var/x" failed (30)\nnginx: test failed\n'}
    assert nginx_sandbox.reasons([need("read")], seen("rx"), refused) == [
        'nginx would not start: mkdir() "/var/x" failed (30)',
        "/home/anna could not be read (root in /etc/nginx/a)",
    ]
    refused["said"] = 'nginx: [emerg] open() "/home/anna" failed (13)'
    assert nginx_sandbox.reasons([need("read")], seen("rx"), refused) == [
        "/home/anna could not be read (root in /etc/nginx/a)"
    ]


def test_a_warning_says_what_to_do_and_names_no_more_than_can_be_read() -> None:
    said = nginx_sandbox.warning([f"reason {number}" for number in range(15)], sandboxed=False)
    assert "reason 9; and 5 more" in said and "reason 10" not in said
    assert "flask_gunicorn_nginx_harden_nginx: false" in said and "restart" not in said
    assert "systemctl restart nginx" in nginx_sandbox.warning(["a reason"], sandboxed=True)


def test_what_is_not_there_yet_is_judged_by_the_directory_above_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "a/b/socket")
    settled = nginx_sandbox.settled(Need(missing, "connect", "w"))
    assert settled and (settled.path, settled.shown, settled.same) == (str(tmp_path), missing, True)
    assert nginx_sandbox.settled(Need(missing, "read", "w", guess=True)) is None
    there = nginx_sandbox.settled(Need(f"{tmp_path}/", "read", "w", guess=True))
    assert there and (there.path, there.same) == (str(tmp_path), False)


def test_a_link_out_of_a_site_is_found_however_deep(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    (top / "a/b").mkdir(parents=True)
    elsewhere.mkdir()
    (top / "a/b/out").symlink_to(elsewhere)
    (top / "a/within").symlink_to("b")
    needs = nginx_sandbox.standing_needs([Need(str(top), "read", "root in x", worker=True, same=True)])
    assert [each.path for each in needs] == [str(top), str(top / "a/b/out")]
    assert needs[1].worker and needs[1].where == "a link in the root in x"
    # the directory above one that is missing is no site
    above = nginx_sandbox.standing_needs([Need(str(top / "missing"), "read", "root in x", worker=True, same=True)])
    assert [each.path for each in above] == [str(top)]


class Host:
    """This machine, with an nginx and a systemd that say what they are told to; the trial sees what `hidden` leaves."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.hidden, self.trials, self.refused = root, "", 0, ""
        self.dump, self.code = "", 0
        (root / "nginx").mkdir()
        monkeypatch.setattr(nginx_sandbox, "STATE", str(root / "state"))
        monkeypatch.setattr(nginx_sandbox, "UNITS", str(root / "units"))
        monkeypatch.setattr(nginx_sandbox, "CONFIGURATION", str(root / "nginx"))
        monkeypatch.setattr(nginx_sandbox, "run", self.run)

    def run(self, argv: Any, data: str = "") -> nginx_sandbox.Done:
        if argv[0] == nginx_sandbox.PYTHON:
            done = subprocess.run(argv, input=data, capture_output=True, text=True, check=True)
            return nginx_sandbox.Done(0, done.stdout, "")
        if argv[:2] == ["nginx", "-T"]:
            return nginx_sandbox.Done(self.code, self.dump, "nginx: [emerg] 1#1: bad")
        if argv[:2] == ["systemctl", "start"]:
            return self.start(argv[2])
        return nginx_sandbox.Done(0, "", "")

    def start(self, name: str) -> nginx_sandbox.Done:
        self.trials += 1
        text = (self.root / "units" / name).read_text()
        files = dict(line.split("=file:") for line in text.splitlines() if "=file:" in line)
        question = Path(files["StandardInput"]).read_text()
        if self.refused:
            return nginx_sandbox.Done(1, "", self.refused)
        if self.hidden:
            question = question.replace(self.hidden, "/nowhere")
        answer = json.loads(self.run([nginx_sandbox.PYTHON, "-I", "-"], question).out)
        whole = json.loads(json.dumps(answer).replace("/nowhere", self.hidden or "/nowhere"))
        Path(files["StandardOutput"]).write_text(json.dumps({**whole, "code": 0, "said": ""}))
        return nginx_sandbox.Done(0, "", "")

    def judge(
        self, said: str = "nginx/1.22.1", content: str = NEW, check: bool = False, **site: str
    ) -> tuple[str, str]:
        asked = {"path": str(self.root / "dropin"), "content": content, "site": site}
        dropin, warnings = nginx_sandbox.judge(asked, said, nginx_sandbox.configuration(said), CAT, check)
        return dropin, " ".join(warnings)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_sandbox_that_fits_is_armed_and_is_tried_once(machine: Host) -> None:
    machine.dump = "user root;\nroot /etc;\n"
    assert machine.judge() == (NEW, "")
    assert machine.judge() == (NEW, "")
    assert machine.trials == 1
    machine.dump += "# anything else\n"
    machine.judge()
    machine.judge(content=NEW.replace("tmpfs", "yes"))
    assert machine.trials == 3
    assert os.listdir(machine.root / "units") == [] and os.listdir(machine.root / "state") == ["nginx-sandbox.json"]


def test_a_sandbox_that_does_not_fit_is_not_armed_and_told_each_time(machine: Host) -> None:
    site = machine.root / "site"
    site.mkdir()
    machine.dump, machine.hidden = f"user root;\nroot {site};\n", str(site)
    for _time in range(2):
        dropin, said = machine.judge()
        assert dropin == "" and f"{site} could not be read (root)" in said
    assert machine.trials == 1


def test_a_change_outside_of_the_configuration_is_noticed(machine: Host) -> None:
    site = machine.root / "site"
    machine.dump = f"user root;\nroot {machine.root}/site;\n"
    machine.judge()
    site.mkdir()
    machine.judge()
    (site / "link").symlink_to("/etc")
    machine.judge()
    machine.judge()
    assert machine.trials == 3


def test_a_site_that_was_moved_and_looks_the_same_is_tried_again(machine: Host) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as elsewhere:
        top = machine.root / "top"
        (top / "site").mkdir(parents=True)
        machine.dump = f"user root;\nroot {top}/site;\n"
        machine.judge()
        shutil.move(top, f"{elsewhere}/top")
        top.symlink_to(f"{elsewhere}/top")
        machine.judge()
        machine.judge()
    assert machine.trials == 2


def test_another_release_behind_the_same_link_is_no_other_place(machine: Host) -> None:
    link = machine.root / "current"
    for release in ("a", "b"):
        (machine.root / release).mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(release)
        machine.dump = f"user root;\nroot {link};\n"
        machine.judge()
    assert machine.trials == 1


def test_what_the_site_of_the_app_will_need_counts_before_it_is_there(machine: Host) -> None:
    key = machine.root / "key.pem"
    key.write_text("")
    machine.hidden = str(key)
    assert (
        f"{key} could not be read (ssl_certificate_key in the site of this app)"
        in machine.judge(ssl_certificate_key=str(key))[1]
    )


def test_check_mode_leaves_nothing(machine: Host) -> None:
    machine.dump = "root /etc;"
    assert machine.judge(check=True) == (NEW, "")
    assert os.listdir(machine.root / "state") == []


def test_without_a_verdict_what_stands_is_left(machine: Host) -> None:
    (machine.root / "dropin").write_text("as before")
    machine.code = 1
    dropin, said = machine.judge()
    assert dropin == "as before" and "`nginx -t` fails: bad" in said
    # nginx is to be installed over what somebody configured
    assert machine.judge(said="") == ("as before", "")
    (machine.root / "dropin").unlink()
    assert machine.judge(said="") == ("", "")
    assert machine.trials == 0


def test_on_a_host_without_nginx_only_the_site_of_the_app_counts(machine: Host) -> None:
    (machine.root / "nginx").rmdir()
    assert machine.judge(said="") == (NEW, "")
    assert machine.trials == 1


def test_what_systemd_does_not_start_is_not_armed_and_is_tried_again(machine: Host) -> None:
    machine.dump, machine.refused = "root /etc;", "Failed to set up mount namespacing"
    for _time in range(2):
        dropin, said = machine.judge()
        assert dropin == "" and "not start a unit in it: Failed to set up mount namespacing" in said
        assert "security.nesting=true" in said and "Move that" not in said
    assert machine.trials == 2


def test_who_wants_none_is_not_asked_for_anything(machine: Host) -> None:
    machine.dump = "root /etc;"
    assert machine.judge(content="") == ("", "")
    assert nginx_sandbox.judge(None, "nginx/1.22.1", nginx_sandbox.Done(0, "", ""), "", False) == ("", [])
    assert machine.trials == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker_rlimit_nofile 200000;", "worker_rlimit_nofile 200000 could not be had (LimitNOFILE 65536"),
        ("worker_rlimit_nofile 65536; worker_priority 5;", ""),
        ("worker_priority -5;", "worker_priority -5 could not be had"),
        ("http { worker_rlimit_nofile 200000; }", ""),
        ("worker_rlimit_nofile auto; worker_priority", ""),
    ],
)
def test_what_the_workers_ask_the_kernel_for_is_looked_at(text: str, words: str) -> None:
    """They would do without it after the next start of nginx, and one line of its log would say so."""
    lines = ["LimitNOFILE=1024:524288", "CapabilityBoundingSet=CAP_CHOWN", "LimitNOFILE=65536"]
    found = nginx_sandbox.not_granted(directives(text), lines)
    assert len(found) == bool(words) and words in " ".join(found)
    assert nginx_sandbox.not_granted(directives(text), ["LimitNOFILE=infinity"]) == []
