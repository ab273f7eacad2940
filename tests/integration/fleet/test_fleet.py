"""A rollout is one transaction: every host has the new release at its end, or none has; users notice neither."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

import pytest

from tests.documentation import RUN, commands
from tests.integration.fleet.conftest import Fleet, lines_of_table
from tests.load.fleet import REPOSITORY, Host, Played

# code that fails on one host: always, or only once it is to serve
ON_HOST = 'import os, socket\nif socket.gethostname() == "{host}"{more}:\n    raise RuntimeError("not on {host}")'
SERVING = ' and "FLASKFLEET_TRY" not in os.environ'
# healthy, and bad in real traffic, though not so often that the load balancer leaves the host alone
WORSE = """import random, socket
from flask import abort

@app.before_request
def get_worse() -> None:
    if socket.gethostname() == "{host}" and request.path != "/healthz" and random.random() < 0.4:
        abort(500)
"""


def took(fleet: Fleet, results: dict[str, str], result: str) -> list[int]:
    """The numbers of the hosts, from one, that have a result in the report."""
    return [number for number, host in enumerate(fleet.hosts, 1) if results.get(host.name) == result]


def nothing_moved(fleet: Fleet, before: list[str]) -> None:
    assert fleet.current() == before
    assert len(set(fleet.versions())) == 1


def test_a_first_release_shows_a_line_of_each_file_that_it_makes(fleet: Fleet) -> None:
    assert len(fleet.first.splitlines()) <= 150 * len(fleet.hosts), fleet.first
    assert re.search(r"/usr/local/lib/flaskctl/\w+/flaskctl: \d+ new files", fleet.first), fleet.first
    assert "/etc/nginx/sites-available/hello.conf: new" in fleet.first


def few_lines(played: Played, most: int) -> bool:
    """Tell whether a person reads no more than so many lines, blank ones and how far a slow run is left out."""
    lines = [line.strip() for line in played.out.splitlines()]
    return len([line for line in lines if line and not line.endswith(" ...")]) <= most


def test_a_good_release_reaches_every_host(fleet: Fleet) -> None:
    report, before = fleet.place / "report.json", fleet.current()
    version = fleet.new()
    note = "- name: Note what is current\n  ansible.builtin.command: cp -P /srv/hello/current /run/{0}\n"
    played = fleet.read(
        rollout={"bake": {"seconds": 5, "min_requests": 5}, "report": str(report)},
        hooks={name: fleet.hook(note.format(name)) for name in ("before_batch", "after_batch")},
    )
    assert played.rc == 0 and few_lines(played, 40), played.out
    noted = [host.run("basename -a $(readlink /run/before_batch /run/after_batch)").split() for host in fleet.hosts]
    assert noted == [[old, new] for old, new in zip(before, fleet.current(), strict=True)]
    assert set(fleet.versions()) == {version}
    assert took(fleet, lines_of_table(played.out), "released") == [1, 2, 3, 4, 5], played.out
    written = json.loads(report.read_text())
    assert [row["result"] for row in written["hosts"]] == ["released"] * 5 and written["stop"] == ""
    assert not fleet.leases()


def test_a_second_run_changes_nothing_and_goes_to_each_host_at_most_eight_times(fleet: Fleet) -> None:
    played = fleet.play("site.yml", "-vvv")
    assert played.rc == 0 and played.out.count("changed=0 ") == 5, played.out
    trips = [len(re.findall(rf"(?m)^<{re.escape(host.address)}> SSH: EXEC", played.out)) for host in fleet.hosts]
    assert all(0 < count <= 8 for count in trips), trips


def test_when_one_host_cannot_stage_none_switches(fleet: Fleet) -> None:
    before = fleet.current()
    fleet.new(ON_HOST.format(host=fleet.hosts[3].name, more=""))
    played = fleet.read()
    assert played.rc == 2 and few_lines(played, 60), played.out
    nothing_moved(fleet, before)
    results = lines_of_table(played.out)
    assert took(fleet, results, "failed") == [4] and took(fleet, results, "staged") == [1, 2, 3, 5], played.out
    assert played.out.count(f"RuntimeError: not on {fleet.hosts[3].name}") == 1, played.out
    assert not fleet.leases()


@pytest.mark.parametrize(
    ("code", "seconds", "result", "says"),
    [
        (ON_HOST.format(host="{host}", more=SERVING), 5, "failed", "RuntimeError: not on {host}"),
        (WORSE, 15, "reverted", "percentage points more requests fail"),
    ],
    ids=["fails", "is worse in real traffic"],
)
def test_no_other_is_touched_when_the_canary(fleet: Fleet, code: str, seconds: int, result: str, says: str) -> None:
    before, canary = fleet.current(), fleet.hosts[0].name
    fleet.new(code.format(host=canary))
    played = fleet.play(rollout={"bake": {"seconds": seconds, "min_requests": 5}})
    assert played.rc == 2
    nothing_moved(fleet, before)
    results = lines_of_table(played.out)
    assert took(fleet, results, result) == [1] and took(fleet, results, "staged") == [2, 3, 4, 5], played.out
    assert says.format(host=canary) in played.out


def test_without_revert_what_went_wrong_is_left_to_be_looked_at(fleet: Fleet) -> None:
    before, canary = fleet.current(), fleet.hosts[0]
    fleet.new(WORSE.format(host=canary.name))
    played = fleet.play(rollout={"bake": {"seconds": 5, "min_requests": 5}, "revert": False})
    assert played.rc == 2 and "percentage points more requests fail" in played.out, played.out
    assert took(fleet, lines_of_table(played.out), "failed") == [1], played.out
    after = fleet.current()
    assert after[0] != before[0] and after[1:] == before[1:] and not fleet.leases()
    assert canary.flaskctl("rollback").rc == 0
    nothing_moved(fleet, before)


def test_when_the_fourth_host_fails_the_three_before_go_back(fleet: Fleet) -> None:
    before = fleet.current()
    fleet.new(ON_HOST.format(host=fleet.hosts[3].name, more=SERVING))
    played = fleet.read(batches=[1, 2, 1, "100%"])
    assert played.rc == 2 and few_lines(played, 60), played.out
    assert played.out.count(f"RuntimeError: not on {fleet.hosts[3].name}") == 1, played.out
    nothing_moved(fleet, before)
    results = lines_of_table(played.out)
    assert took(fleet, results, "reverted") == [1, 2, 3], played.out
    assert took(fleet, results, "failed") == [4] and took(fleet, results, "staged") == [5]
    assert not fleet.leases()


def test_when_a_host_dies_in_its_batch_the_others_go_back(fleet: Fleet) -> None:
    """It is left out where it may be, and catches up when it is there again."""
    victim, others = fleet.hosts[2], [host for host in fleet.hosts if host is not fleet.hosts[2]]
    before = fleet.current(others)
    version = fleet.new()
    kill = f"""
- name: Switch a host off
  ansible.builtin.command: docker kill {victim.name}
  delegate_to: localhost
  become: false
  changed_when: true
  when: inventory_hostname == "{victim.name}"
"""
    played = fleet.play(hooks={"before_batch": fleet.hook(kill)})
    assert played.rc != 0
    assert fleet.current(others) == before
    results = lines_of_table(played.out)
    assert took(fleet, results, "reverted") == [1, 2] and took(fleet, results, "lost") == [3], played.out

    refused = fleet.play()
    assert refused.rc != 0 and fleet.current(others) == before, refused.out
    allowed = fleet.done(rollout={"bake": {"seconds": 0}, "max_unreachable": 1})
    assert took(fleet, lines_of_table(allowed.out), "down") == [3], allowed.out
    assert set(fleet.versions(others)) == {version}

    fleet.start(victim)
    again = fleet.done()
    assert set(fleet.versions()) == {version}
    results = lines_of_table(again.out)
    assert took(fleet, results, "released") == [3] and took(fleet, results, "unchanged") == [1, 2, 4, 5], again.out


def test_when_the_control_node_dies_the_next_run_goes_on(fleet: Fleet) -> None:
    version = fleet.new()
    kill = f"""
- name: Kill ansible-playbook
  ansible.builtin.command: kill -9 {{{{ lookup('flaskfleet.web.holder').pid }}}}
  delegate_to: localhost
  become: false
  changed_when: true
  when: inventory_hostname == "{fleet.hosts[1].name}"
"""
    played = fleet.play(hooks={"before_batch": fleet.hook(kill)})
    assert played.rc == -9, played.out
    assert fleet.versions(fleet.hosts[:1]) == [version] and fleet.versions(fleet.hosts[3:4]) != [version]
    again = fleet.done()
    assert "This run takes over" in again.out
    assert set(fleet.versions()) == {version}
    assert not fleet.leases()


def test_of_two_rollouts_at_once_one_is_told_of_the_other(fleet: Fleet) -> None:
    go = fleet.place / "go"
    version = fleet.new()
    wait = f"""
- name: Wait for the test
  ansible.builtin.wait_for:
    path: {go}
    timeout: 120
  delegate_to: localhost
  become: false
"""
    with fleet.begun(hooks={"before_batch": fleet.hook(wait)}) as first:
        assert first.stdout
        for line in first.stdout:
            if "Switch batch by batch" in line:
                break
        fleet.new()
        second = fleet.play()
        fleet.back()
        assert second.rc == 2, second.out
        assert f"(pid {first.pid}) rolls out hello since" in second.out and "flaskfleet.web.unlock" in second.out
        go.touch()
        rest = first.stdout.read()
        assert first.wait(120) == 0, rest
    assert set(fleet.versions()) == {version}
    assert not fleet.leases()


def test_a_lease_that_somebody_left_is_ended_by_its_playbook(fleet: Fleet) -> None:
    holder = json.dumps({"id": "1.2.3", "by": "ada", "from": "elsewhere", "pid": "2"})
    answer = fleet.hosts[4].flaskctl("lock", "--holder", holder)
    assert answer.rc == 0, answer.story
    fleet.new()
    refused = fleet.play()
    assert refused.rc == 2 and "ada on elsewhere" in refused.out, refused.out
    fleet.done("playbooks/unlock.yml")
    fleet.back()
    assert not fleet.leases()


def test_the_fleet_rolls_back(fleet: Fleet) -> None:
    before, version = fleet.current(), fleet.version
    fleet.new()
    fleet.done()
    played = fleet.done("playbooks/rollback.yml")
    fleet.back()
    assert fleet.current() == before and set(fleet.versions()) == {version}
    assert took(fleet, lines_of_table(played.out), "rolled back") == [1, 2, 3, 4, 5], played.out
    assert not fleet.leases()


def test_a_rollback_that_would_split_the_fleet_is_refused(fleet: Fleet) -> None:
    before = fleet.current()
    nowhere = fleet.play("playbooks/rollback.yml", "-e", "release=ffffffffffff")
    assert nowhere.rc == 2 and fleet.current() == before, nowhere.out
    assert not fleet.leases()


def test_every_host_restarts_and_nobody_waits(fleet: Fleet) -> None:
    def workers(host: Host) -> str:
        return host.run("systemctl show -p MainPID --value 'hello@*.service'")

    before = [workers(host) for host in fleet.hosts]
    release = fleet.current()
    fleet.done("playbooks/restart.yml")
    after = [workers(host) for host in fleet.hosts]
    assert all(new and new != old for new, old in zip(after, before, strict=True)), (before, after)
    assert fleet.current() == release and not fleet.leases()


def test_status_is_content_with_a_fleet_that_agrees(fleet: Fleet) -> None:
    report = fleet.place / "status.json"
    fleet.done("playbooks/status.yml", "-e", f"report={report}")
    seen = json.loads(report.read_text())
    assert seen["agrees"] and [line["host"] for line in seen["hosts"]] == [host.name for host in fleet.hosts]


def test_status_finds_a_unit_edited_by_hand_and_a_host_on_another_release(fleet: Fleet) -> None:
    edited, other = fleet.hosts[1], fleet.hosts[4]
    unit = "/etc/systemd/system/hello@.service"
    edited.run(f"cp {unit} /root/kept && echo '# by hand' >> {unit}")
    before = other.run("basename $(readlink /srv/hello/current)")
    assert other.flaskctl("rollback").rc == 0
    try:
        played = fleet.play("playbooks/status.yml")
        assert played.rc == 2
        assert "the hosts serve different releases" in played.out and unit in played.out, played.out
        assert edited.name in played.out and other.name in played.out
    finally:
        edited.run(f"cp /root/kept {unit}")  # newer than what systemd has read
        assert other.flaskctl("activate", before).rc == 0
    assert "not as systemd has read it" in fleet.play("playbooks/status.yml").out
    repaired = fleet.done()
    assert repaired.changed("Stage the release") == [edited.name], repaired.out
    fleet.done("playbooks/status.yml")


@pytest.mark.users_see_it
def test_maintenance_answers_for_the_app_until_it_is_over(fleet: Fleet) -> None:
    def ask(host: Host, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{host.address}{path}", timeout=10) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Retry-After", "")

    fleet.done("playbooks/maintenance.yml", "-e", "mode=on")
    assert {ask(host, "/") for host in fleet.hosts} == {(503, "60")}
    assert {ask(host, "/healthz") for host in fleet.hosts} == {(200, "")}
    fleet.done("playbooks/maintenance.yml", "-e", "mode=off")
    assert {ask(host, "/") for host in fleet.hosts} == {(200, "")}
    time.sleep(3)  # the load balancer asks those again that it has left out


def test_an_upgrade_of_the_system_drains_reboots_and_comes_back(fleet: Fleet) -> None:
    host, others = fleet.hosts[0], fleet.hosts[1:]
    before, elsewhere = fleet.current(), [other.run("wc -l < /var/log/flaskctl/hello.jsonl") for other in others]
    # a virtualenv as it is when the Python below it is another one
    host.run("rm /srv/hello/current/venv/.complete")
    # a kernel that waits for a reboot; a container's boot id is that of the machine, which its reboot does not change
    host.run("touch /run/reboot-required; echo 0 > /tmp/id; mount --bind /tmp/id /proc/sys/kernel/random/boot_id")
    with fleet.switched_on_again(host):
        fleet.done("playbooks/upgrade_os.yml", "--limit", host.name, "-e", "drain_seconds=3")
    assert host.run("cat /proc/sys/kernel/random/boot_id") != "0", "it was rebooted"
    events = [json.loads(line)["event"] for line in host.run("tail -n 20 /var/log/flaskctl/hello.jsonl").splitlines()]
    assert events.index("drain") < events.index("undrain"), events
    assert fleet.current() == before and not host.status()["problems"], host.status()
    assert host.run("test -e /srv/hello/current/venv/.complete && echo whole") == "whole"
    assert [other.run("wc -l < /var/log/flaskctl/hello.jsonl") for other in others] == elsewhere
    assert not fleet.leases()


PULLED = ("ansible.cfg", "site.yml", "playbooks", "plugins", "roles", "collections", "galaxy.yml", "meta", "files")
ONE_OWN = """\
flask_gunicorn_nginx_name: pulled
flask_gunicorn_nginx_source: "{{ inventory_dir }}/../../files/app"
flask_gunicorn_nginx_server_names: [pulled.test]
flask_gunicorn_nginx_port: 5010
flask_gunicorn_nginx_listen: 8081
flask_gunicorn_nginx_pip: {ca_bundle: "%s"}
"""

(PULL,) = (pattern for pattern, who in RUN.items() if who == "tests/integration/fleet/test_fleet.py")
WITH_PULL = [command.line for command in commands() if re.fullmatch(PULL, command.line)]


def of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def test_a_host_that_comes_up_alone_rolls_out_to_itself(fleet: Fleet) -> None:
    """With the units of the documentation, from a repository, an app beside the one of the fleet."""
    # not on the last one: nginx loads a site there, and the load balancer is that nginx
    host, ca = fleet.hosts[1], "/etc/ssl/control-node.crt"
    repository = fleet.place / "repository"
    repository.mkdir()
    for name in PULLED:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, repository / name, symlinks=True)
        else:
            shutil.copy(REPOSITORY / name, repository / name)
    values = repository / "inventory/production/group_vars/flask_app/app.yml"
    values.parent.mkdir(parents=True)
    ca = ca if host.run(f"test -e {ca} && echo yes", check=False) else ""
    values.write_text(ONE_OWN % ca)
    shutil.copytree(REPOSITORY / "inventory/pull", repository / "inventory/pull", symlinks=True)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-C", str(repository)]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--force", "."],
        ["commit", "--quiet", "-m", "All"],
    ):
        subprocess.run([*git, *words], check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(repository, "repository", filter=of_root)
    host.put("/root/repository.tar.gz", packed.getvalue())
    host.run("tar xzf /root/repository.tar.gz -C /root && apt-get update", timeout=200)
    host.put("/root/repository/vault-password", b"none is used here\n")
    for unit in ("flaskfleet-pull.service", "flaskfleet-pull.timer"):
        text = (REPOSITORY / "docs/ansible-pull" / unit).read_text().replace("REPOSITORY", "file:///root/repository")
        host.put(f"/root/repository/docs/ansible-pull/{unit}", text.encode())
    try:
        # as the page has it, word by word
        for line in WITH_PULL:
            host.run(f"cd /root/repository && {f'export PIP_CERT={ca} && ' if ca else ''}{line}", timeout=400)
        host.run("systemctl daemon-reload && systemd-analyze verify /etc/systemd/system/flaskfleet-pull.*")
        journal = "journalctl -u flaskfleet-pull --no-pager -o cat"
        host.run(f"systemctl start flaskfleet-pull.service || {{ {journal}; exit 1; }}", timeout=300)
        request = (
            "import urllib.request as r; q = r.Request('http://127.0.0.1:8081/', headers={'Host': 'pulled.test'});"
        )
        assert "Hello Flask!" in host.run(f'python3 -c "{request} print(r.urlopen(q).read().decode())"')
        host.run(f"systemctl start flaskfleet-pull.service || {{ {journal}; exit 1; }}", timeout=300)
        assert "changed=0 " in host.run(f"{journal} | grep changed= | tail -n 1")
    finally:
        host.run("systemctl disable --now flaskfleet-pull.timer; flaskctl pulled remove", check=False)
        host.run("rm -f /etc/nginx/sites-*/pulled.conf /etc/systemd/system/flaskfleet-pull.*", check=False)
