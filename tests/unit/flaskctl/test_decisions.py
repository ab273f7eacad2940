"""The decisions, without a host: what to do with a state, never how."""

from __future__ import annotations

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import TRACEBACK

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12
Intent, State, Recovery = flaskctl.Intent, flaskctl.State, flaskctl.Recovery


@pytest.mark.parametrize(
    ("state", "to", "plan"),
    [
        (State(None, None), B, (True, True, ())),
        (State(A, None, (A,), (A,)), B, (True, True, (A,))),
        (State(A, B, (A,), (A,)), A, (False, False, ())),
        (State(A, B), A, (True, False, ())),
        (State(A, B, (A, B), (A,)), A, (False, False, (B,))),
        (State(A, B, (A, B), (A, B)), B, (False, True, (A,))),
        (State(A, B, (B,), ()), B, (True, True, ())),
    ],
)
def test_an_activation_starts_switches_and_drains_just_what_it_must(
    state: object, to: str, plan: tuple[object, ...]
) -> None:
    assert flaskctl.plan_activation(state, to) == plan


@pytest.mark.parametrize(
    ("state", "last", "action", "release", "stop"),
    [
        # nothing to put right
        (State(None, None), None, "none", None, ()),
        (State(A, B, (A,), (A,)), A, "none", None, ()),
        (State(A, B), A, "none", None, ()),
        # cut before the switch: back to what was
        (State(A, None, (A, B), (A,), intent=Intent(B, A, None)), A, "undo", A, (B,)),
        (State(A, None, (A,), (A,), intent=Intent(B, A, None)), A, "undo", A, ()),
        (State(None, None, (B,), (B,), intent=Intent(B, None, None)), None, "undo", None, (B,)),
        (State(A, B, (A,), (A,), intent=Intent(A, A, B)), A, "finish", A, ()),
        # cut after the switch: on to the end
        (State(B, A, (A, B), (A, B), intent=Intent(B, A, None)), A, "finish", B, ()),
        (State(B, A, (B,), (B,), intent=Intent(B, A, None)), A, "finish", B, ()),
        (State(B, A, intent=Intent(B, A, None)), A, "finish", B, ()),
        # after the switch the new one died and the old one still serves
        (State(B, A, (A,), (A,), intent=Intent(B, A, None)), A, "undo", A, ()),
        # a missing link: what serves is what was meant, else what was activated last
        (State(None, None, (A,), (A,)), A, "relink", A, ()),
        (State(None, None, (A,), (A,)), B, "relink", A, ()),
        (State(None, None, (A, B), (A, B)), B, "relink", B, ()),
        (State(None, B), A, "relink", A, ()),
        # strays go, but never the only one that serves
        (State(A, B, (A, C), (A, C)), A, "stop", A, (C,)),
        (State(A, B, (C,), (C,)), A, "none", None, ()),
    ],
)
def test_what_was_cut_is_finished_or_undone(
    state: object, last: str | None, action: str, release: str | None, stop: tuple[str, ...]
) -> None:
    plan = flaskctl.plan_recovery(state, last)
    assert (plan.action, plan.release, plan.stop) == (action, release, stop)
    assert bool(plan.why) == (action != "none")


def events(text: str) -> list[dict[str, str]]:
    """Read "+a +b -a xc" as activate a, activate b, roll back to a, refuse c."""
    names = {"+": "activate", "-": "rollback", "x": "refuse", "s": "stage"}
    return [{"event": names[word[0]], "release": word[1] * 12} for word in text.split()]


@pytest.mark.parametrize(
    ("history", "good", "walk"),
    [
        ("+a +b +c", "abc", "cba"),
        ("+a +b +c +d", "abcd", "dcba"),
        ("+a +b +c +d", "acd", "dca"),  # b was refused since, or pruned
        ("+a +b -a +c", "abc", "ca"),  # b was left by a rollback: not again
        ("+a +b +a +b", "ab", "ba"),
        ("+a sb xb +c", "abc", "ca"),  # b was never activated
        ("+a", "a", "a"),
    ],
)
def test_rollbacks_in_a_row_walk_back_and_never_meet_a_refused_release(history: str, good: str, walk: str) -> None:
    log = events(history)
    seen = walk[0]
    for _ in range(len(walk) + 2):
        current = seen[-1] * 12
        line = flaskctl.lineage(log, None, current)
        target = flaskctl.rollback_target(line, current, [letter * 12 for letter in good])
        if target is None:
            break
        log.append({"event": "rollback", "release": target})
        seen += target[0]
    assert seen == walk


def test_without_an_audit_log_a_rollback_goes_to_the_recorded_previous_one() -> None:
    assert flaskctl.rollback_target(flaskctl.lineage([], B, A), A, [A, B]) == B
    assert flaskctl.rollback_target(flaskctl.lineage([], B, A), A, [A]) is None
    assert flaskctl.rollback_target(flaskctl.lineage(events("+d"), B, A), A, [A, B, D]) == B


def test_a_damaged_line_of_the_audit_log_is_passed_over() -> None:
    assert flaskctl.lineage([{}, {"event": "activate"}, {"event": "rollback", "release": 7}], None, A) == [A]


def release(name: str, when: int, refused: str = "") -> object:
    return flaskctl.Release(name, f"2026-11-{when:02}", venv=f"v-{name[0]}", refused=refused)


def test_prune_keeps_what_must_stay_then_the_newest_good_ones_then_refused_ones() -> None:
    found = [release(A, 1), release(B, 2), release(C, 3), release(D, 4)]
    refused = [release("e" * 12, 5, "bad"), release("f" * 12, 6, "bad")]
    venvs = [f"v-{letter}" for letter in "abcdefx"]
    plan = flaskctl.plan_pruning([*found, *refused], venvs, keep=2, bound=[A])
    assert plan == ((B, C, "e" * 12, "f" * 12), ("v-b", "v-c", "v-e", "v-f", "v-x"), ())
    assert flaskctl.plan_pruning([*found, *refused], venvs, keep=5, bound=[A]).releases == ("e" * 12,)
    assert flaskctl.plan_pruning(found, venvs[:4], keep=4, bound=[]) == ((), (), ())


def test_what_must_stay_stays_beyond_the_number_and_the_last_ones_are_named() -> None:
    found = [release(A, 1), release(B, 2), release(C, 3), release(D, 4)]
    plan = flaskctl.plan_pruning(found, ["v-a"], keep=1, bound=[C, A, B, C, "gone"])
    assert (plan.releases, plan.beyond) == ((D,), (A, B))


def test_two_releases_that_share_a_virtualenv_keep_it_for_the_one_that_stays() -> None:
    found = [flaskctl.Release(A, "1", venv="v"), flaskctl.Release(B, "2", venv="v")]
    assert flaskctl.plan_pruning(found, ["v"], keep=1, bound=[]) == ((A,), (), ())


def test_of_a_failed_start_the_cause_and_the_apps_own_frames_are_shown_once() -> None:
    said = flaskctl.extract_traceback((TRACEBACK * 2).replace("{id}", A))
    assert said.splitlines() == [
        "ModuleNotFoundError: No module named 'nosuchthing'",
        f'  File "/srv/hello/releases/{A}/app/app.py", line 1, in <module>',
        "    import nosuchthing",
    ]


def frame(path: str, line: int) -> str:
    return f'  File "{path}", line {line}, in f\n    call_{line}()\n'


def test_frames_of_libraries_around_the_apps_own_are_left_out_and_many_are_cut() -> None:
    own, library = f"/srv/hello/releases/{A}/app/app.py", f"/srv/hello/releases/{A}/venv/lib/x.py"
    frames = [frame(library, 1), frame(own, 2), frame(library, 3), frame(own, 4), frame(library, 5)]
    text = "Traceback (most recent call last):\n" + "".join(frames) + "ValueError: x\n"
    assert flaskctl.extract_traceback(text) == "ValueError: x\n" + "".join(frames[1:4]).rstrip()
    many = "".join(frame(own, number) for number in range(50))
    lines = flaskctl.extract_traceback(f"Traceback (most recent call last):\n{many}ValueError: x\n").splitlines()
    assert len(lines) == 1 + 15 and lines[0] == "ValueError: x" and lines[5] == "  ..." and lines[-1] == "    call_49()"


def test_of_the_configuration_that_starts_the_app_no_frame_is_shown() -> None:
    home = f"/srv/hello/releases/{A}"
    configuration, own = frame(f"{home}/gunicorn.conf.py", 1), frame(f"{home}/app/app.py", 3)
    library = frame(f"{home}/venv/lib/x.py", 2)
    begin = "Traceback (most recent call last):\n"
    text = f"{begin}{configuration}{library}{own}{library}ValueError: x\n"
    assert flaskctl.extract_traceback(text) == f"ValueError: x\n{own}".rstrip()
    text = f"{begin}{library}{configuration}RuntimeError: health check\n"
    assert flaskctl.extract_traceback(text) == "RuntimeError: health check", "its words say all"
    text = f"{begin}{library}{configuration}{library}{configuration}{library}ValueError: x\n"
    assert flaskctl.extract_traceback(text) == f"ValueError: x\n{library}".rstrip(), "where what it called failed"
    others = f"{begin}{library}OSError: of another\n{begin}{configuration}RuntimeError: health check\n"
    assert flaskctl.extract_traceback(others) == "RuntimeError: health check"


def test_what_an_exception_was_raised_from_is_told_with_it() -> None:
    own, library = frame(f"/srv/hello/releases/{A}/app/app.py", 1), frame("/usr/lib/logging/config.py", 2)
    direct = "\nThe above exception was the direct cause of the following exception:\n\n"
    begin = "Traceback (most recent call last):\n"
    missing = "FileNotFoundError: [Errno 2] No such file or directory: '/etc/hello/key.pem'"
    text = (
        f"{begin}{library}{missing}\n{direct}{begin}{own}KeyError: 'key'\n{direct}{begin}{own}ValueError: no handler\n"
    )
    said = flaskctl.extract_traceback(text * 2).splitlines()
    assert said[-5:] == ["ValueError: no handler", "from KeyError: 'key'", f"from {missing}", *own.splitlines()]
    during = text.replace("The above exception was the direct cause of the following", "During handling of the above")
    assert "from " not in flaskctl.extract_traceback(during)
    assert "from " not in flaskctl.extract_traceback(f"{begin}{library}{missing}\n\n{begin}{own}ValueError: x\n")


GUNICORN = """\
[2026-11-27 12:22:58 +0000] [{0}] [INFO] Starting gunicorn 23.0.0
[2026-11-27 12:22:58 +0000] [{0}] [INFO] Listening at: unix:/tmp/tmp27oz8yfx/socket ({0})
[2026-11-27 12:22:58 +0000] [{1}] [INFO] Booting worker with pid: {1}
Failed to find attribute 'nothing' in 'app'.
[2026-11-27 12:22:59 +0000] [{1}] [INFO] Worker exiting (pid: {1})
[2026-11-27 12:22:59 +0000] [{0}] [ERROR] Worker (pid:{1}) exited with code 4
[2026-11-27 12:22:59 +0000] [{0}] [ERROR] Shutting down: Master
[2026-11-27 12:22:59 +0000] [{0}] [ERROR] Reason: App failed to load.
"""


def test_a_log_without_a_traceback_is_what_may_say_why_and_the_same_on_each_host() -> None:
    for pids in ((1, 2), (3426, 3428)):
        assert flaskctl.extract_traceback(GUNICORN.format(*pids)) == "Failed to find attribute 'nothing' in 'app'."
    quiet = "".join(f"{line}\n" for line in GUNICORN.format(1, 2).splitlines() if "Failed" not in line)
    assert flaskctl.extract_traceback(quiet) == quiet.strip(), "where nothing says why, all is shown"


def test_without_a_traceback_the_last_lines_are_shown() -> None:
    journal = "\n".join(f"line {number}" for number in range(100))
    assert flaskctl.extract_traceback(journal, 3) == "line 97\nline 98\nline 99"
    assert flaskctl.extract_traceback("") == ""


def test_a_traceback_that_is_not_the_apps_is_shown_whole() -> None:
    text = 'Traceback (most recent call last):\n  File "/usr/lib/x.py", line 1, in f\n    boom()\nValueError: x\ndone'
    assert flaskctl.extract_traceback(text) == 'ValueError: x\n  File "/usr/lib/x.py", line 1, in f\n    boom()'


UNIT = """\
[Unit]
Description=hello
[Service]
Type=notify
NotifyAccess=main
Sockets=hello.socket
User=hello
WorkingDirectory=/srv/hello/releases/%i/app
# Environment=COMMENT=1
Environment=FLASKFLEET_RELEASE=%i PERCENT=%%
EnvironmentFile=/srv/hello/releases/%i/environment
ExecStart=/srv/hello/releases/%i/venv/bin/python \\
  -m gunicorn
KillMode=mixed
TimeoutStartSec=30
TimeoutStopSec=40
Restart=on-failure
RestartSec=1
CapabilityBoundingSet=
NoExecPaths=/
ExecPaths=/usr /srv/hello
PrivateIPC=yes
SocketBindDeny=any
OOMPolicy=continue
[Install]
WantedBy=x
"""


def properties(argv: list[str]) -> list[str]:
    return [word.partition("=")[2] for word in argv if word.startswith("--property=")]


@pytest.mark.parametrize(
    ("systemd", "known"),
    [
        (247, []),
        (248, ["NoExecPaths=/", "ExecPaths=/usr /srv/hello", "PrivateIPC=yes"]),
        (252, ["NoExecPaths=/", "ExecPaths=/usr /srv/hello", "PrivateIPC=yes", "SocketBindDeny=any"]),
    ],
)
def test_run_has_the_units_sandbox_as_far_as_this_systemd_knows_it(systemd: int, known: list[str]) -> None:
    drop_in = "[Service]\nLoadCredential=K:/x\n"
    argv = flaskctl.run_argv(f"hello@{A}.service", [UNIT, drop_in], systemd, ["/bin/true"], "hello-run-1", False)
    assert properties(argv) == [
        "User=hello",
        f"WorkingDirectory=/srv/hello/releases/{A}/app",
        f"Environment=FLASKFLEET_RELEASE={A} PERCENT=%",
        f"EnvironmentFile=/srv/hello/releases/{A}/environment",
        "CapabilityBoundingSet=",
        *known,
        "LoadCredential=K:/x",
        "RuntimeDirectoryPreserve=yes",
    ]
    assert argv[:6] == ["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--unit=hello-run-1"]
    assert f"--setenv=PATH=/srv/hello/releases/{A}/venv/bin:{flaskctl.PATH}" in argv
    assert argv[-2:] == ["--", "/bin/true"]


@pytest.mark.parametrize("systemd", [247, 262])
def test_a_try_has_the_whole_unit_but_its_socket_and_its_second_chance(systemd: int) -> None:
    argv = flaskctl.try_argv(f"hello@{A}.service", [UNIT], systemd, "hello.try-1", "import")
    found = properties(argv)
    assert {"Type=notify", "NotifyAccess=main", "User=hello", "KillMode=mixed", "TimeoutStartSec=30"} <= set(found)
    assert not [setting for setting in found if setting.startswith(("Sockets", "Restart", "ExecStart"))]
    assert ("ExecPaths=/usr /srv/hello" in found) == (systemd > 247)
    assert "--setenv=FLASKFLEET_TRY=import" in argv and "--wait" not in argv and "--collect" not in argv
    assert found[-1] == "KillSignal=SIGQUIT", "nobody is connected: it is stopped at once"
    assert argv[argv.index("--") + 1 :] == [f"/srv/hello/releases/{A}/venv/bin/python", "-m", "gunicorn"]


def test_run_passes_dollars_on_to_the_command_on_each_systemd() -> None:
    words = ["/bin/sh", "-c", "echo $HOME"]
    old = flaskctl.run_argv(f"hello@{A}.service", [], 252, words, "x", True)
    new = flaskctl.run_argv(f"hello@{A}.service", [], 254, words, "x", False)
    assert old[-1] == "echo $$HOME" and "--pty" in old and "--expand-environment=no" not in old
    assert new[-1] == "echo $HOME" and "--expand-environment=no" in new


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "make the lock again"),
        ("Package 'x' requires a different Python: 3.9 not in '>=3.10'", "another Python"),
        ("No matching distribution found for flask==99", "no such version"),
        ("NewConnectionError: Failed to establish a new connection", "reachable"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ensurepip is not available", "python3-venv"),
        ("something else", ""),
    ],
)
def test_what_pip_says_becomes_what_to_do(output: str, says: str) -> None:
    remedy = flaskctl.pip_remedy(output)
    assert says in remedy and bool(says) == bool(remedy)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, caf\u00e9 \u65e5\u672c \U0001f600\n\ttab", "plain, caf\u00e9 \u65e5\u672c \U0001f600\n\ttab"),
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("fine\rlie \x7f\x9b31m", "fine\\rlie \\x7f\\x9b31m"),
        ("a\u202egnp.exe\u2066", "a\\u202egnp.exe\\u2066"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_shown(text: str, shown: str) -> None:
    assert flaskctl.printable(text) == shown
    shown.encode()


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_an_app_wrote_reaches_no_terminal_raw(host: FakeHost, words: tuple[str, ...]) -> None:
    result = call(host, "hello", "logs", "--process", "web\x1b[2J", *words)
    said = f"{result.json['msg']}{result.json['detail']}" if words else result.err
    assert result.rc and "\\x1b[2J" in said and "\x1b" not in said
