"""The units of systemd: what must stand in them, and what must never."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils import spec

from tests.rendering import ROLE, SCENARIOS, evaluate, render
from tests.unit.flaskctl.fake_host import flaskctl

UNITS = ("app.socket", "app.service", "app@.service")


def directives(text: str) -> list[tuple[str, str]]:
    """Return (name, value) of each directive, sections left out."""
    return [
        (name, value)
        for name, _, value in (line.partition("=") for line in text.splitlines() if re.match(r"[A-Za-z]+=", line))
    ]


def values(text: str, name: str) -> list[str]:
    return [value for found, value in directives(text) if found == name]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("unit", UNITS)
def test_each_line_is_a_comment_a_section_or_a_directive(unit: str, scenario: str) -> None:
    text = render(unit, SCENARIOS[scenario])
    strange = [line for line in text.splitlines() if line and not re.match(r"#|\[[A-Z]\w+\]$|[A-Z]\w+=", line)]
    assert not strange
    assert "{{" not in text and "{%" not in text


def test_the_socket_listens_on_the_loopback_only() -> None:
    assert values(render("app.socket", {"port": "5007"}), "ListenStream") == ["127.0.0.1:5007"]


def test_the_first_connection_starts_the_current_release() -> None:
    assert values(render("app.socket"), "Service") == ["hello.service"]
    assert values(render("app.service"), "ExecStart") == ["/usr/local/bin/flaskctl hello start"]


def test_a_crash_loop_cannot_stop_the_shared_socket() -> None:
    assert values(render("app.socket"), "TriggerLimitIntervalSec") == ["0"]
    for unit in ("app.service", "app@.service"):
        text = render(unit)
        assert values(text, "StartLimitIntervalSec") == ["0"]
        assert text.index("StartLimitIntervalSec") < text.index("[Service]")


def test_the_starter_does_not_look_as_if_it_served() -> None:
    text = render("app.service")
    assert values(text, "Type") == ["oneshot"]
    assert not values(text, "RemainAfterExit")


def test_both_come_up_at_boot_and_a_release_only_through_them() -> None:
    assert values(render("app.socket"), "WantedBy") == ["sockets.target"]
    assert values(render("app.service"), "WantedBy") == ["multi-user.target"]
    assert not values(render("app@.service"), "WantedBy")


def test_a_unix_socket_is_for_root_and_nginx() -> None:
    text = render("app.socket", {"unix_socket": True})
    assert values(text, "ListenStream") == ["/run/flaskfleet-apps/hello.sock"]
    assert [values(text, f"Socket{what}") for what in ("User", "Group", "Mode")] == [["root"], ["www-data"], ["0660"]]
    assert values(text, "Service") == ["hello.service"] and not values(text, "NoDelay")


def test_a_release_shares_the_socket_and_says_itself_when_it_is_ready() -> None:
    text = render("app@.service")
    assert values(text, "Sockets") == ["hello.socket hello.unix.socket"]
    assert values(text, "Type") == ["notify"]
    assert values(text, "NotifyAccess") == ["main"]


def test_everything_a_release_runs_lies_in_its_own_directory() -> None:
    text = render("app@.service", {"name": "a-b"})
    (start,) = values(text, "ExecStart")
    paths = re.findall(r"/srv/\S+", start)
    assert paths and all(path.startswith("/srv/a-b/releases/%i/") for path in paths)
    assert values(text, "WorkingDirectory") == ["/srv/a-b/releases/%i/app"]
    assert values(text, "EnvironmentFile") == ["/srv/a-b/releases/%i/environment"]
    assert values(text, "User") == ["a-b"]


def test_no_release_is_ever_reloaded() -> None:
    """A HUP onto code that cannot be imported takes the healthy workers down."""
    assert not values(render("app@.service"), "ExecReload")


@pytest.mark.parametrize(
    ("settings", "seconds"), [({}, 40), ({"graceful_timeout": 90}, 100), ({"graceful_timeout": "7"}, 17)]
)
def test_systemd_waits_longer_than_gunicorn_drains(settings: dict[str, Any], seconds: int) -> None:
    assert values(render("app@.service", {"settings": settings}), "TimeoutStopSec") == [str(seconds)]


def test_a_list_gives_one_line_for_each_item_and_comes_after_the_roles_own() -> None:
    text = render(
        "app@.service", {"service_settings": {"IPAddressAllow": ["10.0.0.5", "10.0.0.2"], "MemoryMax": "512M"}}
    )
    assert values(text, "IPAddressAllow") == ["10.0.0.5", "10.0.0.2"]
    assert values(text, "MemoryMax") == ["80%", "512M"]
    assert text.index("MemoryMax") > text.index("[Service]")


@pytest.mark.parametrize(
    ("settings", "shut", "opened"),
    [
        ({}, "", []),
        ({"ReadWritePaths": "-/srv/media /srv/a"}, " -/srv/media -/srv/a", []),
        ({"ReadWritePaths": ["/srv/media/", "+/srv/a"], "Nice": 5}, " -/srv/media -/srv/a", []),
        ({"BindPaths": "/mnt/nfs:/data:rbind /x"}, " -/data -/x", []),
        ({"TemporaryFileSystem": "/scratch:size=1G"}, " -/scratch", []),
        ({"RuntimeDirectory": "hello", "CacheDirectory": "a b:c"}, " -/var/cache/a -/var/cache/b -/run/hello", []),
        ({"LogsDirectory": "hello", "ConfigurationDirectory": "hello"}, " -/etc/hello -/var/log/hello", []),
        ({"ReadWritePaths": '"/srv/my media"'}, ' "-/srv/my media"', []),
        ({"ReadWritePaths": '"/srv/my media'}, "", []),  # which systemd does not take either
        ({"ReadWritePaths": "/"}, "", []),
        # what is opened below what is shut is a line of its own; what nobody has shut would be writable with it
        ({"ExecPaths": "/var/lib/hello/bin /opt"}, "", ["/var/lib/hello/bin"]),
        ({"ExecPaths": "/opt"}, "", []),
        ({"ExecPaths": "", "NoExecPaths": "/data"}, "", [""]),
        ({"NoExecPaths": "/", "ExecPaths": "/usr /srv/hello"}, "", ["/usr /srv/hello"]),
    ],
)
def test_nothing_runs_from_where_the_app_may_write(settings: dict[str, Any], shut: str, opened: list[str]) -> None:
    text = render("app@.service", {"service_settings": settings})
    assert values(text, "NoExecPaths")[0] == f"/var/lib/hello /tmp /var/tmp -/dev/shm{shut}"
    assert values(text, "ExecPaths") == opened


@pytest.mark.parametrize(
    ("opened", "left", "stays"),
    [
        ("/tmp", "/var/lib/hello /var/tmp -/dev/shm", ["/tmp"]),
        ("/var/lib/hello/ -/dev/shm", "/tmp /var/tmp", ["/var/lib/hello/ -/dev/shm"]),
        (["/var"], "/tmp -/dev/shm", []),
        ("/", None, []),
    ],
)
def test_of_a_path_that_is_shut_and_opened_systemd_would_shut_it(
    opened: object, left: str | None, stays: list[str]
) -> None:
    """And a path that a host has mounted noexec is opened as well."""
    text = render("app@.service", {"service_settings": {"ExecPaths": opened}})
    assert values(text, "NoExecPaths") == ([left] if left else [])
    assert values(text, "ExecPaths") == stays


@pytest.mark.parametrize(
    ("outbound", "deny", "allow"),
    [
        ("none", ["any"], []),
        (["10.0.0.5", "10.2.0.0/16"], ["any"], ["localhost 10.0.0.5 10.2.0.0/16"]),
    ],
)
def test_what_an_app_may_connect_to_is_the_same_for_its_processes(
    outbound: object, deny: list[str], allow: list[str]
) -> None:
    settings = {"outbound": outbound, "processes": [{"name": "worker", "command": "x"}]}
    release = evaluate("__flask_gunicorn_nginx_release", settings)
    for text in (render("app@.service", settings), release["processes"]["worker"]["service"]):
        assert (values(text, "IPAddressDeny"), values(text, "IPAddressAllow")) == (deny, allow)


def test_a_directory_in_run_that_releases_share_outlives_each_of_them() -> None:
    settings = {"service_settings": {"RuntimeDirectory": "hello-metrics"}, "processes": [{"name": "w", "command": "x"}]}
    release = evaluate("__flask_gunicorn_nginx_release", settings)
    for text in (release["service"], release["processes"]["w"]["service"]):
        assert (values(text, "RuntimeDirectory"), values(text, "RuntimeDirectoryPreserve")) == (
            ["hello-metrics"],
            ["yes"],
        )


def test_what_was_due_while_a_host_was_down_runs_when_it_is_up() -> None:
    release = evaluate("__flask_gunicorn_nginx_release", SCENARIOS["processes beside the web server"])
    assert values(release["processes"]["nightly"]["timer"], "Persistent") == ["true"]


def test_a_setting_of_the_role_can_be_overridden() -> None:
    assert (
        values(render("app@.service", {"service_settings": {"TimeoutStartSec": 120}}), "TimeoutStartSec")[-1] == "120"
    )


SECRET = {
    "env": {"TOKEN": "canary-1"},
    "credentials": {"KEY": "canary-2"},
    "pip": {"index_url": "https://u:canary-3@index.test/"},
    "processes": [{"name": "worker", "command": "x"}, {"name": "tick", "command": "x", "schedule": "daily"}],
}


def test_a_secret_reaches_the_release_and_none_of_its_files_that_others_can_read() -> None:
    release = evaluate("__flask_gunicorn_nginx_release", SECRET)
    kept = {name for name, value in release.items() if "canary" in str(value)}
    assert kept == {"environment", "credentials", "index_url"}
    for number in (1, 2, 3):
        assert f"canary-{number}" in str(release)
    for unit in (*UNITS, "gunicorn.conf.py", "app.nginx.conf", "needrestart.conf"):
        assert "canary" not in render(unit, SECRET), unit


# What stands around an app, with the values that systemd 247, the oldest, knows and that keep it closed. Where it does
# not know a value it ignores the whole line, and the wall is open.
WALLS = {
    "AmbientCapabilities": {""},
    "CapabilityBoundingSet": {""},
    "DevicePolicy": {"closed"},
    "IPAddressDeny": {"169.254.0.0/16 fe80::/64 fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192"},
    "KeyringMode": {"private"},
    "LimitCORE": {"0"},
    "LockPersonality": {"yes"},
    "MemoryDenyWriteExecute": {"yes"},
    "NoNewPrivileges": {"yes"},
    "PrivateDevices": {"yes"},
    "PrivateMounts": {"yes"},
    "PrivateTmp": {"yes"},
    "PrivateUsers": {"yes"},
    "ProcSubset": {"pid"},
    "ProtectClock": {"yes"},
    "ProtectControlGroups": {"yes"},
    "ProtectHome": {"yes"},
    "ProtectHostname": {"yes"},
    "ProtectKernelLogs": {"yes"},
    "ProtectKernelModules": {"yes"},
    "ProtectKernelTunables": {"yes"},
    "ProtectProc": {"invisible"},
    "ProtectSystem": {"strict"},
    "RemoveIPC": {"yes"},
    "RestrictAddressFamilies": {"AF_UNIX AF_INET AF_INET6"},
    "RestrictNamespaces": {"yes"},
    "RestrictRealtime": {"yes"},
    "RestrictSUIDSGID": {"yes"},
    "SystemCallArchitectures": {"native"},
    "SystemCallErrorNumber": {"EPERM"},
    "SystemCallFilter": {"@system-service", "~@privileged @resources memfd_create"},
    "UMask": {"0077"},
}
# the other directives of systemd 247, whose values are names, paths and numbers
OTHERS = frozenset(
    [
        "CPUWeight",
        "Environment",
        "EnvironmentFile",
        "ExecStart",
        "Group",
        "InaccessiblePaths",
        "KillMode",
        "LimitNOFILE",
        "MemoryMax",
        "NotifyAccess",
        "OOMPolicy",
        "Restart",
        "RestartSec",
        "RuntimeDirectoryPreserve",
        "Slice",
        "Sockets",
        "StateDirectory",
        "StateDirectoryMode",
        "SyslogIdentifier",
        "TimeoutStartFailureMode",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "Type",
        "User",
        "WorkingDirectory",
    ]
)


def services() -> list[str]:
    """The units that run the app's code, of every scenario in which the user opens or shuts nothing by hand."""
    texts = []
    for scenario in SCENARIOS.values():
        if not {"service_settings", "outbound"} & set(scenario):
            release = evaluate("__flask_gunicorn_nginx_release", scenario)
            texts += [release["service"], *(process["service"] for process in release["processes"].values())]
    return [text[text.index("[Service]") :] for text in texts]


@pytest.mark.parametrize("wall", WALLS)
def test_no_setting_but_one_of_systemd_opens_a_wall(wall: str) -> None:
    assert {frozenset(values(text, wall)) for text in services()} == {frozenset(WALLS[wall])}


def test_every_directive_is_one_of_the_oldest_systemd_or_known_to_flaskctl_as_newer() -> None:
    """flaskctl leaves those out of the units that it starts by command, where an older systemd refuses them."""
    newer = flaskctl.KNOWN_SINCE
    used = {name for text in services() for name, _value in directives(text)}
    assert used - set(WALLS) - OTHERS == used & set(newer)
    assert set(WALLS) | OTHERS <= used and not (set(WALLS) | OTHERS) & set(newer)


def test_what_nginx_may_write_is_what_the_documentation_says() -> None:
    (open_to_it,) = values((ROLE / "files" / "nginx.service.conf").read_text(), "ReadWritePaths")
    (option,) = [each for name, each in spec.options().items() if name == "flask_gunicorn_nginx_harden_nginx"]
    told = re.search(r"outside C\((.*?)\) and C\((.*?)\)", " ".join(option["description"]))
    assert told and {path.lstrip("-") for path in open_to_it.split()} == {"/run", *told.groups()}


def test_a_process_differs_from_the_web_server_in_what_makes_it_none() -> None:
    release, process = (
        {pair for pair in directives(text[text.index("[Service]") :])}
        for text in (
            render("app@.service", SECRET),
            evaluate("__flask_gunicorn_nginx_release.processes", SECRET)["worker"]["service"],
        )
    )
    assert {name for name, _value in release - process} == {
        *("ExecStart", "NotifyAccess", "Restart", "Sockets", "SyslogIdentifier"),
        *("TimeoutStartFailureMode", "TimeoutStartSec", "Type"),
    }
    assert {(name, value.partition("=")[0]) for name, value in process - release} == {
        *(("Environment", "PATH"), ("ExecStart", "/srv/hello/releases/%i/venv/bin/x")),
        *(("Restart", "always"), ("SyslogIdentifier", "hello.worker"), ("Type", "exec")),
    }


def test_systemd_waits_longer_for_a_release_than_gunicorn_does_by_itself() -> None:
    (own,) = re.findall(r"(?m)^graceful_timeout = (\d+)$", render("gunicorn.conf.py"))
    assert values(render("app@.service"), "TimeoutStopSec") == [str(int(own) + 10)]


# Processes beside the web server


def processes(**values_: Any) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = evaluate("__flask_gunicorn_nginx_release.processes", values_)
    return found


def test_a_worker_runs_as_often_as_asked_and_is_kept_alive() -> None:
    units = processes(processes=[{"name": "worker", "command": "celery --app app worker", "count": 2}])
    assert sorted(units) == ["worker-1", "worker-2"]
    text = units["worker-1"]["service"]
    assert values(text, "ExecStart") == ["/srv/hello/releases/%i/venv/bin/celery --app app worker"]
    assert values(text, "Restart") == ["always"]
    assert "timer" not in units["worker-1"]


def test_each_process_has_a_label_of_its_own_in_the_journal() -> None:
    workers = [{"name": "worker", "command": "x", "count": 2}, {"name": "nightly", "command": "y", "schedule": "daily"}]
    texts = [render("app@.service"), *(unit["service"] for unit in processes(processes=workers).values())]
    found = [label for text in texts for label in values(text, "SyslogIdentifier")]
    assert found == [f"hello.{name}" for name in (flaskctl.WEB, "worker-1", "worker-2", "nightly")]


def test_a_job_runs_when_its_schedule_says() -> None:
    (unit,) = processes(
        name="a-b", processes=[{"name": "nightly", "command": "./clean 10%", "schedule": "*-*-* 03:00"}]
    ).values()
    assert values(unit["timer"], "OnCalendar") == ["*-*-* 03:00"]
    assert values(unit["timer"], "Unit") == ["a-b.nightly@%i.service"]
    assert values(unit["service"], "Type") == ["oneshot"]
    assert values(unit["service"], "ExecStart") == ["./clean 10%%"]
    assert not values(unit["service"], "Restart")


def test_a_process_has_the_sandbox_and_the_environment_of_the_release() -> None:
    settings = {"service_settings": {"MemoryMax": "1G", "IPAddressAllow": ["10.0.0.5"]}}
    (unit,) = processes(processes=[{"name": "worker", "command": "rq worker"}], **settings).values()
    release, process = (directives(text) for text in (render("app@.service", settings), unit["service"]))
    sandbox = release[release.index(("NoNewPrivileges", "yes")) :]
    assert process[process.index(("NoNewPrivileges", "yes")) :] == sandbox
    for name in ("User", "Group", "WorkingDirectory", "EnvironmentFile", "StateDirectory"):
        assert [pair for pair in process if pair[0] == name] == [pair for pair in release if pair[0] == name]
