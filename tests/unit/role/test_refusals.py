"""Hostile, misspelled and impossible input: refused before the role talks to a host, with the variable's name.

One ansible-playbook run for all: an imaginary host has many cases, each in a variable of its own. Nobody can connect to
such a host: one that is not refused ends as unreachable.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rendering import PREFIX, REPOSITORY

SOUND: dict[str, Any] = {"name": "hello", "source": "/tmp", "server_names": ["example.com"]}
TLS = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
LONG_NAME = ".".join(["a" * 60] * 5)

# what is set (over SOUND), and what the refusal must say beside the name of the variable that it is about
Case = tuple[dict[str, Any], str, list[str]]
# by the argument specification, the first thing that a role does
WRONG_TYPES: dict[str, Case] = {
    "a number that is none": ({"port": "five"}, "port", []),
    "a list that is none": ({"server_names": {"a": 1}}, "server_names", []),
    "a dictionary that is none": ({"settings": ["workers=3"]}, "settings", []),
    "a truth that is none": ({"default_server": "maybe"}, "default_server", []),
    "a cache for a time with a unit": ({"micro_cache": {"seconds": "1s"}}, "micro_cache", []),
    "a choice that is none": ({"state": "gone"}, "state", ["present", "absent", "purged"]),
}
# by the role's preflight
WRONG_VALUES: dict[str, Case] = {
    "a misspelled variable": ({"prot": 5001}, "prot", [f"Did you mean {PREFIX}port?"]),
    "a variable of another role": ({"database_url": "x"}, "database_url", ["is no variable of this role"]),
    # the name of the app becomes a path, a user and a unit
    "no name": ({"name": ""}, "name", []),
    "a name with a path": ({"name": "../../etc"}, "name", ["lower-case"]),
    "a name with a slash": ({"name": "a/b"}, "name", ["lower-case"]),
    "a name with a space": ({"name": "a b"}, "name", ["lower-case"]),
    "a name that is a template unit": ({"name": "app@x"}, "name", ["lower-case"]),
    "a name that is a mount unit": ({"name": "-.mount"}, "name", ["lower-case"]),
    "a name with a line break": ({"name": "hello\n"}, "name", ["lower-case"]),
    "a name that is too long": ({"name": "a" * 200}, "name", ["lower-case"]),
    "the name of the web server": ({"name": "nginx"}, "name", ["belongs to the system"]),
    "the name of root": ({"name": "root"}, "name", ["belongs to the system"]),
    # nginx -t passes most of these
    "a server name that ends its directive": (
        {"server_names": ["x; return 200 pwn"]},
        "server_names",
        ["no host name"],
    ),
    "a server name that ends its block": ({"server_names": ["x}"]}, "server_names", ["no host name"]),
    "a server name that is a pattern": ({"server_names": ["~^(a+)+$"]}, "server_names", ["no host name"]),
    "a server name that is a variable": ({"server_names": ["$hostname"]}, "server_names", ["no host name"]),
    "a server name that is the catch-all": ({"server_names": ["_"]}, "server_names", ["default_server"]),
    "a server name with an empty label": ({"server_names": [".x"]}, "server_names", ["no host name"]),
    "an empty server name": ({"server_names": [""]}, "server_names", ["must be a host name"]),
    "a server name that is too long": ({"server_names": [LONG_NAME]}, "server_names", ["at most 253"]),
    "a server name that is not ASCII": (
        {"server_names": ["bücher.example"]},
        "server_names",
        ["xn--bcher-kva.example"],
    ),
    "no server name at all": ({"server_names": []}, "server_names", ["default_server: true"]),
    "a directive that ends itself": ({"server_settings": {"gzip": "on; root /"}}, "server_settings", ["gzip"]),
    "a directive of the role": ({"server_settings": {"root": "/"}}, "server_settings", ["root", f"{PREFIX}static"]),
    "everybody as a trusted proxy": ({"trusted_proxies": ["0.0.0.0/0"]}, "trusted_proxies", ["any client"]),
    "a trusted proxy by name": ({"trusted_proxies": ["lb.example.com"]}, "trusted_proxies", ["address"]),
    "a certificate without a key": ({"tls": {"certificate": "/a.pem"}}, "tls", ["has no key"]),
    "a certificate that is no path": ({"tls": {**TLS, "certificate": "/a;b"}}, "tls", ["absolute path"]),
    "a prefix with a slash at its end": ({"url_prefix": "/api/"}, "url_prefix", ["such as /api"]),
    "a prefix that ends its location": ({"url_prefix": "/api {"}, "url_prefix", ["such as /api"]),
    "a static address without a slash": ({"static": {"url": "/static"}}, "static", ["such as /static/"]),
    "a static directory outside": ({"static": {"dir": "../secrets"}}, "static", ["leaves the source"]),
    "files that last by a word that is none": ({"static": {"immutable": False}}, "static", ["must be auto, empty"]),
    "files that last by no pattern": ({"static": {"immutable": "assets/(.*"}}, "static", ["no regular expression"]),
    "files that last by two lines": ({"static": {"immutable": "a\nb"}}, "static", ["must be auto, empty"]),
    "a cache without a time": ({"micro_cache": {"stale_on_error": True}}, "micro_cache", ["has no seconds"]),
    "a cache for a day": ({"micro_cache": {"seconds": 86400}}, "micro_cache", ["from 0 to 3600"]),
    "a cache without room": ({"micro_cache": {"seconds": 1, "megabytes": 0}}, "micro_cache", ["such as 64"]),
    "a cache by a header that is none": (
        {"micro_cache": {"seconds": 1, "user_headers": ["X-A; x"]}},
        "micro_cache",
        ["name of a header"],
    ),
    "a cache by too many headers": (
        {"micro_cache": {"seconds": 1, "user_headers": [f"X-{number}" for number in range(21)]}},
        "micro_cache",
        ["are 21", "room for 20"],
    ),
    # systemd would run it as root
    "a directive with a line break": (
        {"service_settings": {"Nice": "5\nExecStartPre=+/bin/sh -c evil"}},
        "service_settings",
        ["Nice", "line break"],
    ),
    "a directive in a name": ({"service_settings": {"Nice=5\nUser": "root"}}, "service_settings", ["no directive"]),
    "another user": ({"service_settings": {"User": "root"}}, "service_settings", ["User", "role's own"]),
    "another command": ({"service_settings": {"ExecStart": "/bin/sh"}}, "service_settings", ["ExecStart"]),
    # the environment
    "an environment name that systemd skips": ({"env": {"bad-name": "1"}}, "env", ["bad-name"]),
    "an environment name that begins with a digit": ({"env": {"9X": "1"}}, "env", ["9X"]),
    "an environment value with a NUL": ({"env": {"A": "1\0002"}}, "env", ["'A'", "NUL"]),
    "an environment value that does not fit": ({"env": {"A": "x" * 131072}}, "env", ["'A'", "131072 bytes"]),
    "an environment value that YAML changed": ({"env": {"DEBUG": True}}, "env", ["'DEBUG'", "Quote it"]),
    "what systemd sets": ({"env": {"LISTEN_FDS": "1"}}, "env", ["LISTEN_FDS"]),
    "a credential with a path": ({"credentials": {"../x": "1"}}, "credentials", ["../x"]),
    # Gunicorn
    "a misspelled setting of Gunicorn": ({"settings": {"worker": 3}}, "settings", ["worker", "workers"]),
    "another socket": ({"settings": {"bind": "0.0.0.0:80"}}, "settings", ["bind", f"{PREFIX}port"]),
    "an app that is code": ({"wsgi_app": "app:__import__('os').system('id')"}, "wsgi_app", ["app:app"]),
    "a health path with a quote": ({"health_path": '/"+x'}, "health_path", ["/healthz"]),
    # relations
    "one port for two": ({"port": 8080, "listen": 8080}, "port", [f"{PREFIX}listen"]),
    "a port that is not the app's": ({"port": 80}, "port", ["1024"]),
    "one release": ({"keep_releases": 1}, "keep_releases", ["2 or more"]),
    "no source": ({"source": ""}, "source", ["is not set"]),
    "a source from nowhere": ({"source": "./app"}, "source", ["relative path"]),
}
CASES = {**WRONG_TYPES, **WRONG_VALUES}
ACCEPTED: dict[str, dict[str, Any]] = {
    "sound values": {},
    "numbers and truths as text, from the command line": {
        "port": "5001",
        "default_server": "yes",
        "keep_releases": "3",
    },
}
SECRETS = {
    "a value too long to show": {
        "env": {"TOKEN": "canary" * 30_000},
        "pip": {"index_url": "ftp://me:canary@index.test/"},
    }
}


def packed(cases: dict[str, Case]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield (names of cases, their values together): as few imaginary hosts as there are cases of one variable."""
    left = dict(cases)
    while left:
        names: list[str] = []
        together: dict[str, Any] = {}
        for name, (values, _variable, _words) in left.items():
            if not set(values) & set(together):
                names.append(name)
                together.update(values)
        yield names, together
        for name in names:
            del left[name]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Ansible said of the host that each case is on, and whether it changed anything."""
    directory = tmp_path_factory.mktemp("refusals")
    alone = [([name], values) for name, values in (*ACCEPTED.items(), *SECRETS.items())]
    hosts = [*packed(WRONG_TYPES), *packed(WRONG_VALUES), *alone]
    variables = {
        f"host-{number}": {PREFIX + tail: value for tail, value in {**SOUND, **values}.items()}
        for number, (_names, values) in enumerate(hosts)
    }
    nobody = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    # with line breaks: a key of YAML ends within 1024 characters
    inventory = json.dumps({"all": {"hosts": variables, "vars": nobody}}, indent=1)
    (directory / "inventory.json").write_text(inventory)
    (directory / "play.json").write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "roles": ["flaskfleet.web.flask_gunicorn_nginx"]}])
    )
    playbook = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [playbook, "--check", "-i", directory / "inventory.json", directory / "play.json"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    answers = {}
    for number, (names, _values) in enumerate(hosts):
        about = re.findall(rf"^(?:fatal: \[)?host-{number}\b.*", done.stdout, re.M)
        for name in names:
            answers[name] = "\n".join(about) or f"nothing about it in\n{done.stdout}\n{done.stderr}"
    return answers


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name_before_a_host_is_touched(said: dict[str, str], case: str) -> None:
    _values, variable, words = CASES[case]
    answer = said[case]
    assert "FAILED!" in answer and "UNREACHABLE!" not in answer, answer
    sentences = json.loads(answer.partition("=> ")[2].partition("\n")[0])["msg"].splitlines()
    about = "\n".join(sentence for sentence in sentences if PREFIX + variable in sentence)
    assert about, answer
    unsaid = [word for word in words if word not in about]
    assert not unsaid, about
    assert re.search(r"changed=0 +unreachable=0 +failed=1", answer), answer


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_sound_passes_and_goes_on_to_the_host(said: dict[str, str], case: str) -> None:
    assert "UNREACHABLE!" in said[case], said[case]


def test_a_refusal_does_not_show_a_value_that_may_be_secret(said: dict[str, str]) -> None:
    answer = said["a value too long to show"]
    assert f"{PREFIX}env" in answer and f"{PREFIX}pip" in answer
    assert "canary" not in answer
