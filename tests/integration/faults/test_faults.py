"""Whatever breaks in the middle of a release: users are served, and the next run ends where an undisturbed one does.

`make test` takes a sample of the steps and tasks at which something is killed, one of each kind; FAULTS=all takes all.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from flaskctl import checkpoints

from tests.integration.faults.conftest import Patient
from tests.load.fleet import BASE, NAME, REPOSITORY, Played, Row, begun, play

ALL = os.environ.get("FAULTS") == "all"
SHORT_USERS = ("--users", "get=3,get-new=2,post=2,static=1")


STAGE = checkpoints.STAGE_CHECKPOINTS
TRY = checkpoints.TRY_CHECKPOINTS
ACTIVATE = (*checkpoints.PROOF_CHECKPOINTS, *checkpoints.END_CHECKPOINTS)
RESTART = checkpoints.RESTART_CHECKPOINTS
# engines are pruned only after an update of flaskctl itself
PRUNE = tuple(x for x in checkpoints.REMOVE_CHECKPOINTS if x.startswith("prune") and x != "prune-engine")
IN_VENV = ("venv", "dependencies", "venv-complete")  # met only where the lock file is new
SAMPLE = (
    *("unpack", "dependencies", "publish", "try-start", "intent", "started", "previous", "done"),
    *("restart-again", "prune-release"),
)


def steps(of: tuple[str, ...]) -> list[str]:
    return [step for step in of if ALL or step in SAMPLE]


def nobody_noticed(rows: list[Row], lost: int = 0) -> None:
    """Assert that no more requests failed than were in the hands of what was killed."""
    for row in rows:
        assert row.failed <= lost, f"{row.what}: {row.failed} of {row.requests} failed: {row.slowest_is}"
        assert row.requests > 0


# The app


def master(patient: Patient) -> str:
    release = patient.host.status()["current"]
    return patient.host.run(f"systemctl show -p MainPID --value {NAME}@{release}.service")


def test_kill_9_of_a_worker(patient: Patient) -> None:
    patient.books.close()
    patient.books.open(*SHORT_USERS)
    pid = master(patient)
    with patient.books.row("kill -9 of a worker") as rows:
        time.sleep(2)
        patient.host.run(f"kill -9 $(cut -d' ' -f1 /proc/{pid}/task/{pid}/children)")
        time.sleep(6)
    nobody_noticed(rows, lost=2)  # a short request can be in its hands
    assert master(patient) == pid
    assert len(patient.host.run(f"cat /proc/{pid}/task/{pid}/children").split()) >= 2


def test_kill_9_of_the_master(patient: Patient) -> None:
    pid = master(patient)
    with patient.books.row("kill -9 of the master") as rows:
        time.sleep(2)
        patient.host.run(f"kill -9 {pid}")
        time.sleep(8)
    nobody_noticed(rows, lost=4)
    assert max(row.slowest for row in rows) < 8, "they waited in the queue of the socket"
    assert master(patient) not in (pid, "0")
    patient.books.close()
    patient.books.open()
    patient.is_as_undisturbed()


# flaskctl


def killed(patient: Patient, step: str, *words: str) -> None:
    """Run flaskctl with a SIGKILL at this step."""
    patient.allow_faults()
    answer = patient.host.flaskctl(*words, environment={"FLASKCTL_KILL_AT": step})
    assert answer.rc == 137, f"{step} was not met: {answer}"


@pytest.mark.parametrize("step", steps(STAGE))
def test_flaskctl_killed_while_it_stages_at(step: str, patient: Patient) -> None:
    lock = {"requirements.txt": f"# for {step}\n" + (REPOSITORY / "tests/load/app/requirements.txt").read_text()}
    version = patient.next_version(dict(lock) if step in IN_VENV else None)
    path = patient.put()
    before = patient.host.status()
    with patient.books.row(f"SIGKILL of flaskctl, stage at {step}") as rows:
        killed(patient, step, "stage", path)
        after = patient.host.status()
        assert (after["current"], after["active"]) == (before["current"], before["active"])
        assert not after["locked"], "the kernel lets go of the lock of a killed process"
        patient.again(version)
    nobody_noticed(rows)


@pytest.mark.parametrize("step", steps(ACTIVATE))
def test_flaskctl_killed_while_it_activates_at(step: str, patient: Patient) -> None:
    version = patient.next_version()
    staged = patient.host.stage(patient.archive)
    assert staged.rc == 0, staged.story
    with patient.books.row(f"SIGKILL of flaskctl, activate at {step}") as rows:
        killed(patient, step, "activate", staged.data["id"])
        patient.again(version)
    nobody_noticed(rows)


@pytest.mark.parametrize("step", steps(TRY))
def test_flaskctl_killed_while_it_tries_a_release_at(step: str, patient: Patient) -> None:
    version = patient.next_version()
    path = patient.put()
    with patient.books.row(f"SIGKILL of flaskctl, stage --try at {step}") as rows:
        killed(patient, step, "stage", path, "--try", "health")
        patient.again(version)
        assert not patient.host.run(f"systemctl list-units --plain --no-legend '{NAME}.try-*'")
    nobody_noticed(rows)


@pytest.mark.parametrize("step", steps(RESTART))
def test_flaskctl_killed_while_it_restarts_at(step: str, patient: Patient) -> None:
    version = patient.next_version()
    patient.release()
    with patient.books.row(f"SIGKILL of flaskctl, restart at {step}") as rows:
        killed(patient, step, "restart")
        patient.again(version)
        assert patient.host.flaskctl("restart").rc == 0
        patient.is_as_undisturbed()
    nobody_noticed(rows)


@pytest.mark.parametrize("step", steps(PRUNE))
def test_flaskctl_killed_while_it_prunes_at(step: str, patient: Patient) -> None:
    version = patient.next_version(
        {"requirements.txt": "# for the prune\n" + lock_file()} if step == "prune-venv" else None
    )
    patient.release()
    if step == "prune-venv":  # so that the virtualenv is used by no release that stays
        for _ in range(2):
            version = patient.next_version()
            patient.release()
    with patient.books.row(f"SIGKILL of flaskctl, prune at {step}") as rows:
        killed(patient, step, "prune", "--keep", "2")
        patient.again(version)
    nobody_noticed(rows)


def lock_file() -> str:
    return (REPOSITORY / "tests/load/app/requirements.txt").read_text()


def test_two_releases_at_once_one_wins_and_the_other_names_the_holder(patient: Patient) -> None:
    version = patient.next_version()
    staged = patient.host.stage(patient.archive)
    argv = ["docker", "exec", patient.host.name, "flaskctl", NAME, "activate", str(staged.data["id"])]
    with patient.books.row("two releases at once") as rows:
        first = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not patient.host.status()["locked"]:
            assert first.poll() is None, first.communicate()[0]
        second = patient.host.flaskctl("rollback")
        said = first.communicate()[0]
        assert first.returncode == 0, said
        assert second.rc == 75, second
        assert f"flaskctl {NAME} activate {staged.data['id']}" in second.data["msg"]
        assert "pid" in second.data["msg"] and "since" in second.data["msg"]
        assert patient.host.version() == version
        patient.is_as_undisturbed()
    nobody_noticed(rows)


# The control node

SAMPLE_OF_TASKS = ("Stage the release", "Start the release")
# the files of tasks that a release on a running host comes through, in their order
FILES = ("install", "stage", "switch", "unlock")


def tasks() -> list[str]:
    """The names of the tasks at which the control node is killed; from the role, so that a new one is tried too."""
    found = []
    for file in FILES:
        for outer in yaml.safe_load((REPOSITORY / f"roles/flask_gunicorn_nginx/tasks/{file}.yml").read_text()):
            for task in outer.get("block", [outer]):
                if "ansible.builtin.include_tasks" not in task:
                    found.append(task["name"].partition("| ")[2])
    return [name for name in found if ALL or name.startswith(SAMPLE_OF_TASKS)]


@pytest.mark.parametrize("task", tasks())
def test_ansible_playbook_killed_at(task: str, patient: Patient, place: Path) -> None:
    patient.number += 1
    source = patient.workshop.source(str(patient.number), stylesheet=False)
    variables = {"flask_gunicorn_nginx_source": str(source)}
    options = ["--limit", patient.host.name]
    with patient.books.row(f"SIGKILL of ansible-playbook at {task}") as rows:
        with begun(variables, place, options=options) as run:
            assert run.stdout
            said = []
            for line in run.stdout:
                said.append(line)
                if line.startswith("TASK [") and task in line:
                    break
            else:
                raise AssertionError(f"no task {task}:\n{''.join(said)}")
            time.sleep(1)
        played = play(variables, place, options=options)
        assert played.rc == 0, played.out
        assert patient.host.version() == str(patient.number)
        patient.is_as_undisturbed()
    nobody_noticed(rows)


# The power


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("publish", "stage"),
        ("started", "activate"),
        ("drain", "activate"),
        *([("dependencies", "stage"), ("current", "activate"), ("done", "activate")] if ALL else []),
    ],
)
def test_power_cut_in_the_middle_of(step: str, words: str, patient: Patient) -> None:
    before = patient.host.version()
    files = {"requirements.txt": f"# cut at {step}\n" + lock_file()} if step in IN_VENV else None
    version = patient.next_version(dict(files) if files else None)
    what = patient.put()
    if words == "activate":
        what = str(patient.host.stage(patient.archive).data["id"])
    patient.allow_faults()
    argv = ["docker", "exec", "-e", f"FLASKCTL_HANG_AT={step}", patient.host.name, "flaskctl", NAME, words, what]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as hanging:
        with patient.books.row(f"flaskctl hangs, {words} at {step}") as rows:
            time.sleep(10)
            assert hanging.poll() is None and patient.host.status()["locked"], f"{step} was not met"
        nobody_noticed(rows)
        patient.power_cut()
        hanging.wait()
    answered = patient.host.version()
    assert answered in ((before, version) if words == "activate" else (before,)), "old or new, never neither"
    with patient.books.row(f"the run after a power cut, {words} at {step}") as rows:
        assert patient.host.run(f"systemctl is-active {NAME}.socket") == "active"
        patient.again(version)
    nobody_noticed(rows)


# The disk


@pytest.mark.on("small")
@pytest.mark.parametrize(
    ("where", "left"), [("fetch", 0), ("unpack", 300_000), ("virtualenv", 8_000_000), ("switch", 0)]
)
def test_disk_full_at(where: str, left: int, patient: Patient) -> None:
    files: dict[str, str | None] = {"large.txt": "x" * 2_000_000}
    if where == "virtualenv":
        files = {"requirements.txt": "# on a full disk\n" + lock_file()}
    version = patient.next_version(files)
    before = patient.host.status()
    staged = patient.host.stage(patient.archive).data.get("id") if where == "switch" else ""
    path = "" if where in ("fetch", "switch") else patient.put()
    with patient.books.row(f"disk full at {where}") as rows:
        patient.host.run("dd if=/dev/zero of=/srv/filler bs=1M status=none", check=False)
        patient.host.run(f"truncate -s -{left} /srv/filler")
        try:
            if where == "fetch":
                path = f"/srv/{patient.archive.name}"
                patient.host.run(f"cat > {path}", patient.archive.read_bytes(), check=False)
                answer = patient.host.flaskctl("stage", path)
                patient.host.run(f"rm {path}")
            else:
                answer = patient.host.flaskctl(*(["activate", str(staged)] if staged else ["stage", path]))
        finally:
            patient.host.run("rm /srv/filler")
        if where == "switch":  # it needs no room: a rollback must not fail for want of it
            assert answer.rc == 0 and "No space left" in str(answer.data["warnings"]), answer
        else:
            assert answer.rc == 1, answer
            assert where == "fetch" or "No space left" in answer.story or "disk is full" in answer.story, answer.story
            after = patient.host.status()
            assert (after["current"], after["active"]) == (before["current"], before["active"])
        patient.again(version)
    nobody_noticed(rows)


# Careless hands


def damaged(patient: Patient, what: str, command: str, words: str, restart: bool = False) -> None:
    """Damage the host, let the next run mend it, and see that it says so.

    `restart`: what runs still holds files that are gone, which `status` is to tell, and a restart to end.
    """
    with patient.books.row(what) as rows:
        patient.host.run(command)
        time.sleep(1)
        mended = patient.host.stage(patient.archive)
        assert mended.rc == 0, mended.story
        assert mended.data["changed"] and words in str(mended.data["repairs"]), mended.data["repairs"]
        assert patient.host.stage(patient.archive).data["changed"] is False, "once"
        if restart:
            assert "restart" in str(patient.host.status()["problems"])
            assert patient.host.flaskctl("restart").rc == 0
        patient.is_as_undisturbed()
    nobody_noticed(rows)


def test_a_deleted_virtualenv(patient: Patient) -> None:
    key = patient.host.run(f"basename $(readlink {BASE}/current/venv)")
    damaged(patient, "the virtualenv deleted", f"rm -r {BASE}/venvs/{key}", key, restart=True)


def test_a_deleted_current(patient: Patient) -> None:
    damaged(patient, "the link `current` deleted", f"rm {BASE}/current", "current")


def test_an_environment_that_anybody_may_read(patient: Patient) -> None:
    damaged(patient, "chmod 777 on the environment", f"chmod 777 {BASE}/current/environment", "environment")


def test_a_changed_file_of_the_app(patient: Patient) -> None:
    damaged(patient, "a file of the app changed", f"echo >> {BASE}/current/app/version.txt", "app")


@pytest.fixture(scope="module")
def released_by_playbook(patient: Patient, place: Path) -> Callable[..., Played]:
    """A function that runs the playbook for the release that it has made current."""
    source = patient.workshop.source(str(patient.number + 1), stylesheet=False)
    patient.next_version()
    options = ["--limit", patient.host.name]

    def run(**more: object) -> Played:
        played = play({"flask_gunicorn_nginx_source": str(source), **more}, place, options=options)
        assert played.rc == 0, played.out
        return played

    run()
    return run


def test_a_hand_edited_unit_is_put_back_by_a_run_that_is_told_to(
    patient: Patient, released_by_playbook: Callable[..., Played]
) -> None:
    unit = f"/etc/systemd/system/{NAME}@.service"
    with patient.books.row("the unit edited by hand") as rows:
        patient.host.run(f"echo 'Environment=BY_HAND=1' >> {unit}; systemctl daemon-reload")
        played = released_by_playbook(flask_gunicorn_nginx_overwrite=True)
        assert played.changed("Install flaskctl") == [patient.host.name]
        assert "BY_HAND" not in patient.host.run(f"cat {unit}")
        patient.is_as_undisturbed()
    nobody_noticed(rows)


def test_a_deleted_site_is_put_back_by_the_playbook(
    patient: Patient, released_by_playbook: Callable[..., Played]
) -> None:
    """To put it back nginx has to load it, and then it closes the connections that wait for a next request.

    Browsers open a new one; this client counts each. A release never makes nginx load anything.
    """
    with patient.books.row("the site deleted") as rows:
        patient.host.run(f"rm /etc/nginx/sites-enabled/{NAME}.conf")
        played = released_by_playbook()
        assert played.changed("Install the site") == [patient.host.name]
        patient.is_as_undisturbed()
    nobody_noticed(rows, lost=25)  # as many as there are users
    reasons = patient.books.loads[patient.host.name].report().reasons
    assert all("reused connection" in reason for reason in reasons), reasons
    patient.books.close()
    patient.books.open()


def test_port_taken(patient: Patient) -> None:
    """An outage of somebody's making: no user is on the host. The message names the port, the next run ends it."""
    patient.books.close()
    version = patient.next_version()
    staged = patient.host.stage(patient.archive)
    host = patient.host
    host.run(f"systemctl stop {NAME}.socket '{NAME}@*.service' {NAME}.service")
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 5000)); time.sleep(600)"
    host.run(f'systemd-run --quiet --unit=squatter python3 -c "{listen}"; sleep 1')
    answer = host.flaskctl("activate", staged.data["id"])
    assert answer.rc == 1 and f"{NAME}.socket does not start" in answer.data["msg"]
    assert "5000" in answer.story and "python3" in answer.story, answer.story
    host.run("systemctl stop squatter.service")
    patient.again(version)
    patient.books.open()
