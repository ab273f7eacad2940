"""What is refused before a host is touched, value by value, and what is not."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import gunicorn
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.host import host_problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.rules import RULES, problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX, Options, options
from gunicorn.config import KNOWN_SETTINGS

ROLE = Path(__file__).parents[3] / "roles" / "flask_gunicorn_nginx"
GOOD: dict[str, Any] = {"name": "hello", "source": "/srv/code/hello", "default_server": True}


def told(**options: Any) -> list[str]:
    """Return the problems of good settings with these instead."""
    found: list[str] = problems({PREFIX + option: value for option, value in {**GOOD, **options}.items()})
    return found


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "a"),
        ("name", "hello-2"),
        ("name", "a" * 31),
        ("state", "present"),
        ("source", "git+https://ada:pw@git.example.com/hello.git@v1#subdirectory=web"),
        ("source", "hello==1.2.0"),
        ("source", "hello==1.2.0 gunicorn==23.0.0"),
        ("packages", []),
        ("packages", ["libpq-dev", "g++", "libstdc++6", "python3.13-dev"]),
        ("wheelhouse", True),
        ("signing", {"key": "~/.ssh/releases"}),
        *[
            ("signing", {"key": "/k", "allowed_signers": [line]})
            for line in (
                "ada@example.com ssh-ed25519 AAAAC3Nz",
                "*@example.com,bob cert-authority ssh-rsa AAAA+/x== the comment of it",
                'ada valid-before="20270101" namespaces="flaskfleet,git" sk-ssh-ed25519@openssh.com AAAA',
            )
        ],
        ("source", "~/code"),
        ("exclude", []),
        ("writable", ["instance", "var/up loads", "..data"]),
        ("outbound", "any"),
        ("outbound", "none"),
        ("outbound", ["10.0.0.5", "10.2.0.0/16", "2001:db8::/32"]),
        ("exclude", ["*.sqlite3", "/tests", "with space"]),
        ("wsgi_app", "app:app"),
        ("wsgi_app", "flaskr"),
        ("wsgi_app", "flaskr.web:create_app()"),
        ("wsgi_app", "flaskr:create_app('production', debug=False, hosts=['a'])"),
        ("requirements", "requirements.txt"),
        ("requirements", "deploy/lock file.txt"),
        ("python", "python3.12"),
        ("python", "/opt/python/bin/python3.13"),
        ("pip", {}),
        ("pip", {"index_url": "https://ada:pw@index.example/simple"}),
        ("pip", {"index_url": "file:///srv/wheels", "ca_bundle": ""}),
        ("pip", {"index_url": "", "ca_bundle": "/etc/ssl/certs/ca-certificates.crt"}),
        ("env", {}),
        ("env", {"A": "", "_b9": "a\"b'c\\d$e`f%g#h\n\r\t\x07\x1b {{ jinja }}", "N": 5, "F": 1.5, "U": "ünïcode 🐍"}),
        ("env", {"A": "x" * (128 * 1024 - 3)}),
        ("credentials", {"PASSWORD": "x\ny", "tls-1.key": "x", "BIG": "x" * 900_000}),
        (
            "settings",
            {"timeout": 60, "accesslog": None, "secure_scheme_headers": {"X": "y"}, "worker_class": "gthread"},
        ),
        ("settings", {"a_setting_of_the_year_2030": [1, "two", True]}),
        ("service_settings", {"MemoryMax": "512M", "IPAddressAllow": ["10.0.0.5", "10.0.0.2"], "TasksMax": 100}),
        ("service_settings", {"Restart": "always", "RuntimeDirectory": "a", "ExecPaths": "/opt", "Nice": -5}),
        ("port", 5000),
        ("port", "5001"),
        ("port", 65535),
        ("health_path", "/"),
        ("health_path", "/health-z/~a.b:c@d+e,f=g"),
        ("keep_releases", 2),
        ("keep_releases", "10"),
        ("server_names", ["www.example.com", "*.example.com", "localhost", "xn--bcher-kva.de", "10.0.0.1", "a-b.c"]),
        ("server_names", [".".join(["a" * 49] * 5)]),
        ("default_server", "yes"),
        ("default_server", 1),
        ("listen", 80),
        ("listen", "8080"),
        ("tls", {}),
        ("tls", {"selfsigned": True, "port": 8443}),
        ("tls", {"certificate": "/a", "key": "/b", "selfsigned": False, "port": "4443"}),
        ("tls", {"selfsigned": "yes", "hsts_preload": True, "hsts_include_subdomains": True}),
        ("headers", {"X-Frame-Options": "", "Content-Security-Policy": "default-src 'self'; img-src \"a\" {x}"}),
        ("headers", {"X-Powered": 7}),
        ("challenge_peers", ["10.0.0.11", "2001:db8::12"]),
        ("limits", {"connections": 100, "requests": "20"}),
        ("tls", {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/private/a.key", "hsts_max_age": 0}),
        ("url_prefix", ""),
        ("url_prefix", "/api"),
        ("url_prefix", "/api/v1.0~x"),
        ("static", {}),
        ("static", {"url": "/assets/v1/"}),
        ("static", {"dir": ""}),
        ("static", {"url": "/static/", "dir": "flaskr/static"}),
        ("server_settings", {"client_max_body_size": "20m", "keepalive_requests": 100, "gzip": "on"}),
        ("trusted_proxies", ["10.0.0.0/24", "192.0.2.7", "2001:db8::/32", "::1"]),
        ("harden_nginx", False),
        ("migrate_command", "flask db upgrade"),
        ("migrate_command", ""),
        ("processes", [{"name": "worker", "command": "celery -A app worker", "count": 2}]),
        ("processes", [{"name": "a", "command": "x", "schedule": "*-*-* 04:00"}, {"name": "b", "command": "y"}]),
        ("processes", [{"name": "a", "command": "sh -c 'a ; b' \\; \";\" a;b"}, {"name": "b", "command": "'/a b' c"}]),
        ("migrate_command", "find . -exec touch {} ;"),
        ("hooks", {"pre_release": "/srv/hooks/before.yml", "post_release": "/srv/hooks/after.yml"}),
        ("hooks", {"before_batch": "/srv/hooks/out.yml", "after_batch": "/srv/hooks/in.yml"}),
        ("hooks", {}),
        ("batches", [1, "10%", "100%"]),
        ("batches", ["1", "33.3%"]),
        ("rollout", {}),
        ("rollout", {"bake": {"seconds": 0, "max_errors": 0.5, "max_slower": "2", "min_requests": 1}}),
        ("rollout", {"ready_path": "/ready"}),
        ("rollout", {"migrate_on": "every"}),
        ("rollout", {"max_unreachable": 2, "revert": False, "report": "/tmp/report.json"}),
    ],
)
def test_what_can_work_is_let_through(option: str, value: Any) -> None:
    assert told(**{option: value}) == []


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        # an app's name: a path, another unit, another user
        *[
            ("name", value, "names a user, units and directories")
            for value in (
                *("../../etc", "a/b", "a b", "-.mount", "x" * 201, "app@x", "a" * 32, "Hello", "9x", "", "a.b", "a_b"),
                *("hello\n", "hello\nUser=root", "%n", "ünï", "-a", None, 5, True, ["a"], {"a": 1}),
            )
        ],
        *[
            ("name", value, "belongs to the system")
            for value in ("nginx", "root", "www-data", "default", "daemon", "flaskctl", "apps", "dpkg", "systemd-x")
        ],
        ("state", "latest", "present, absent or purged"),
        ("state", None, "present, absent or purged"),
        ("source", "/srv/a\nb", "line break"),
        ("source", "git+https://x.example/a.git", "names no revision"),
        ("source", "files/app", "relative path"),
        ("source", ["/srv/a"], "is a list"),
        ("packages", "libpq-dev", "must be a list"),
        ("packages", ["--reinstall"], "item 1"),
        ("packages", ["git", "./a.deb"], "item 2"),
        ("packages", [["git"]], "item 1"),
        ("packages", ["git ffmpeg"], "name of a package"),
        ("wheelhouse", "perhaps", "true or false"),
        ("signing", {"key": "keys/releases"}, "absolute path"),
        ("signing", {"key": "/a\nb"}, "absolute path"),
        ("signing", {"keys": "/a"}, "not known"),
        ("signing", {"key": "/k", "allowed_signers": "ada ssh-ed25519 AAAA"}, "must be a list"),
        ("signing", {"key": "/k", "allowed_signers": ["ssh-ed25519 AAAA ada"]}, "item 1"),
        ("signing", {"key": "/k", "allowed_signers": ["a ssh-ed25519 AAAA", "b ssh-ed25519"]}, "item 2"),
        ("signing", {"key": "/k", "allowed_signers": ["a ssh-ed25519 AAAA\nmallory ssh-ed25519 AAAA"]}, "item 1"),
        ("exclude", "*.pyc", "must be a list"),
        ("exclude", [""], "item 1"),
        ("exclude", ["ok", "a\nb"], "item 2"),
        ("exclude", [5], "item 1"),
        ("outbound", "all", "any, none, or a list"),
        ("outbound", [], "any, none, or a list"),
        ("outbound", True, "any, none, or a list"),
        ("outbound", ["db.example.com"], "systemd looks up no names"),
        ("outbound", ["10.0.0.5\nUser=root"], "no address or network"),
        *[
            ("outbound", [zone], "no address or network")
            for zone in ("fe80::1%a\nUser=root", "fe80::1%eth0", "fe80::%\n1")
        ],
        ("outbound", [5], "no address or network"),
        ("outbound", ["10.0.0.5", "0.0.0.0/0"], "Write any instead"),
        ("writable", "instance", "must be a list"),
        ("writable", ["/var/lib/x"], "by its path in the source"),
        ("writable", ["ok", "../up"], "item 2"),
        ("writable", ["a/./b"], "item 1"),
        ("writable", ["uploads/"], "item 1"),
        ("writable", ["var", "var/uploads"], "Name the outer one"),
        ("writable", ["a", "a"], "twice"),
        *[
            ("wsgi_app", value, "MODULE:NAME or a factory")
            for value in (
                *("", "app:", ":app", "app:app\n", "app app:app", "app-x:app", "app:app.x", "app:app; import os"),
                *("app:f(open('/etc/passwd'))", "app:f(x)", "app:(", "app:f(*[1], **{})x", "../app:app", 5, None),
            )
        ],
        *[
            ("requirements", value, "path inside")
            for value in ("", "/etc/passwd", "../x", "a/../../x", "~/x", "a\nb", None, ["a"])
        ],
        *[
            ("python", value, "name of an interpreter")
            for value in ("", "python3 -c x", "./python", "-x", "/usr/bin/py thon", "/usr/bin/", None, 3.12)
        ],
        *[
            ("pip", {"index_url": value}, "must be a URL")
            for value in ("index.example/simple", "ftp://x", "https://", "https://a b", "https://a\nb", None)
        ],
        ("pip", {"ca_bundle": "ca.pem"}, "absolute path"),
        ("pip", {"ca_bundle": "/a\nb"}, "absolute path"),
        ("pip", {"index": "https://x"}, "'index', which is not known. Did you mean index_url? It can have"),
        ("pip", "https://x", "must be a dictionary"),
        # the environment: what systemd skips, cuts or dies of
        ("env", ["A=1"], "must be a dictionary"),
        ("env", "A=1", "must be a dictionary"),
        ("env", None, "must be a dictionary"),
        *[
            ("env", {name: "x"}, "is no name")
            for name in ("bad-name", "9X", "", "a b", "A=B", "Ä", "A\n", "A\nEVIL=1", 5)
        ],
        *[
            ("env", {name: "x"}, "the role or systemd sets")
            for name in (
                *("FLASKFLEET_RELEASE", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"),
                *("PYTHONPATH", "SCRIPT_NAME", "STATE_DIRECTORY"),
            )
        ],
        ("env", {"A": True}, 'Quote it: A: "1"'),
        ("env", {"A": None}, "Quote it"),
        ("env", {"A": ["x"]}, "filter to_json"),
        ("env", {"A": {"b": "c"}}, "filter to_json"),
        ("env", {"A": "a\0b"}, "NUL"),
        ("env", {"A": "\udcff"}, "not UTF-8"),
        ("env", {"A": "\ufdd0"}, "no text"),
        ("env", {"A": "\U0001ffff"}, "no text"),
        ("env", {"A": "x" * 131072}, "131072 bytes"),
        ("env", {"A": "x" * (128 * 1024 - 2)}, "bytes"),
        ("env", {"A": "ü" * 65535}, "131070 bytes"),
        ("credentials", {"-name": "x"}, "is no name"),
        ("credentials", {"../../etc/passwd": "x"}, "is no name"),
        ("credentials", {"A" * 65: "x"}, "up to 64"),
        ("credentials", {"A": "a\0b"}, "NUL"),
        ("credentials", {"A": "x" * 2**20}, "1048576 bytes"),
        ("credentials", {"A": "x" * 600_000, "B": "x" * 600_000}, "1200000 bytes together"),
        # Gunicorn
        ("settings", [], "must be a dictionary"),
        ("settings", {"bad-name": 1}, "no setting of Gunicorn"),
        ("settings", {"import os; x": 1}, "no setting of Gunicorn"),
        ("settings", {"x\ny": 1}, "no setting of Gunicorn"),
        *[
            ("settings", {name: "x"}, "the role's own")
            for name in (
                *("bind", "wsgi_app", "chdir", "daemon", "pidfile", "user", "group", "control_socket", "reload"),
                *("control_socket_disable", "reuse_port", "config", "raw_env", "umask", "proc_name"),
            )
        ],
        *[("settings", {name: "x"}, "a function") for name in ("post_worker_init", "when_ready", "on_starting")],
        ("settings", {"time_out": 60}, "Did you mean timeout?"),
        ("settings", {"worker_connection": 60}, "Did you mean worker_connections?"),
        ("settings", {"loglevel": {1: "x"}}, "not made of"),
        ("settings", {"loglevel": "a\0"}, "not made of"),
        ("settings", {"loglevel": [float("inf")]}, "not made of"),
        ("settings", {"some_rate": float("nan")}, "not made of"),
        *[
            ("settings", {word: 1}, "a word of its configuration file")
            for word in ("import", "os", "len", "print", "is")
        ],
        ("settings", {"workers": "3"}, "whole number, without quotes"),
        ("settings", {"workers": True}, "whole number"),
        ("settings", {"workers": 0}, "One worker"),
        ("settings", {"graceful_timeout": -1}, "whole number"),
        # systemd: a new line is a new directive, a backslash at the end takes the next line in
        ("service_settings", ["MemoryMax=1"], "must be a dictionary"),
        ("service_settings", {"memory_max": 1}, "no directive of systemd"),
        ("service_settings", {"[Unit]": "x"}, "no directive of systemd"),
        ("service_settings", {"Nice=1\nUser": "root"}, "no directive of systemd"),
        *[
            ("service_settings", {"MemoryMax": value}, "No line break")
            for value in ("1\nUser=root", "1\rx", "1\x00", "1\x1b", "1\\", "1\\ ", ["1", "2\nExecStartPost=/bin/sh"])
        ],
        ("service_settings", {"MemoryMax": None}, "must be a text"),
        ("service_settings", {"MemoryMax": {"a": 1}}, "must be a text"),
        ("service_settings", {"MemoryMax": 1.5}, "must be a text"),
        ("service_settings", {"MemoryMax": "x" * 2**20}, "1048576 characters"),
        *[
            ("service_settings", {name: "x"}, "the role's own")
            for name in (
                *("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "Type", "NotifyAccess"),
                *("Sockets", "User", "Group", "EnvironmentFile", "Environment", "WorkingDirectory", "KillMode"),
                *("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "DynamicUser", "RemainAfterExit"),
                "RuntimeDirectoryPreserve",
            )
        ],
        *[
            ("port", value, "from 1024 to 65535")
            for value in (80, 1023, 65536, -1, "x", "5000 ", 5e3, None, True, [1], "²")
        ],
        *[
            ("health_path", value, "must start with /")
            for value in ("", "healthz", "/a b", "/a\n", "/a?x=1", "/a#b", '/a"', "/%41", "/ü", None, "https://x/")
        ],
        *[("keep_releases", value, "set 2 or more") for value in (1, 0, -3, "x", None, 2.5)],
        # nginx: what ends a directive, what is an expression, what is too long
        ("server_names", "www.example.com", "must be a list"),
        *[
            ("server_names", [value], "no host name")
            for value in (
                *("x; return 200 pwn", "x}", "~regex", "~^(.*)$", "_", "$hostname", ".x", "*", "*.*.x", "x.*", "a b"),
                *(
                    "x\ny",
                    "x;",
                    "{x",
                    "-a",
                    "a-",
                    "a..b",
                    "a.",
                    "::1",
                    "[::1]",
                    "a:80",
                    "https://a",
                    "x" * 64,
                    "a_b",
                    "*.",
                ),
            )
        ],
        ("server_names", [""], "must be a host name"),
        ("server_names", [None], "must be a host name"),
        ("server_names", [80], "must be a host name"),
        ("server_names", ["a." * 150 + "de"], "at most 253"),
        ("server_names", ["*." + ".".join(["a" * 50] * 5)], "at most 253"),
        ("server_names", ["bücher.de"], "punycode: xn--bcher-kva.de"),
        ("server_names", ["*.bücher.de"], "punycode: *.xn--bcher-kva.de"),
        ("server_names", ["☃; return"], "punycode."),
        ("server_names", ["ok.de", "x;"], "item 2"),
        ("server_names", ["a.de", "A.de"], "twice"),
        ("default_server", "maybe", "true or false"),
        ("default_server", None, "true or false"),
        ("default_server", 2, "true or false"),
        ("harden_nginx", [], "true or false"),
        ("listen", 0, "from 1 to 65535"),
        ("listen", "80 ssl", "from 1 to 65535"),
        ("tls", "on", "must be a dictionary"),
        ("tls", {"certificate": "/a"}, "has no key"),
        ("tls", {"key": "/a"}, "has no certificate"),
        ("tls", {"certificate": "/a", "key": ""}, "has no key"),
        ("tls", {"hsts_max_age": 1}, "has no certificate"),
        ("tls", {"selfsigned": False}, "has no certificate"),
        ("tls", {"selfsigned": True, "key": "/a"}, "to have one made, or the two files"),
        ("tls", {"selfsigned": True, "acme": {"email": "o@a.test"}}, "has acme and selfsigned"),
        ("tls", {"selfsigned": "on it"}, "true or false"),
        ("tls", {"selfsigned": True, "port": 0}, "from 1 to 65535"),
        ("tls", {"certificate": "/a", "key": "/b", "hsts_preload": True}, "only with hsts_include_subdomains"),
        (
            "tls",
            {"selfsigned": True, "hsts_preload": True, "hsts_include_subdomains": True, "hsts_max_age": 300},
            "31536000 or more",
        ),
        *[
            ("tls", {"acme": {"email": "o@a.test", "eab": value}}, words)
            for value, words in (
                ("s3cr3t", "must have key_id and hmac_key"),
                ({"key_id": "a"}, "must have key_id and hmac_key"),
                ({"key_id": "a", "hmac_key": "s3cr3t"}, "must be base64url"),
                ({"key_id": "a\neab-x = y", "hmac_key": "s3cr3t-s3cr3t_s3cr3t"}, "must be one word"),
                ({"key_id": "a", "hmac_key": "s3cr3t-s3cr3t_s3cr3t", "kid": "s3cr3t"}, "and nothing else"),
            )
        ],
        ("headers", "X-Frame-Options: DENY", "must be a dictionary"),
        ("headers", {"X Frame": "a"}, "no name of a header"),
        ("headers", {"Set-Cookie": "a=b"}, "nginx is not to add"),
        ("headers", {"X-A": "a", "x-a": "b"}, "which are one header"),
        ("headers", {"X-A": True}, "must be a text"),
        ("headers", {"X-A": "x" * 4001}, "nginx reads 4000"),
        *[("headers", {"X-A": held}, "ASCII prints") for held in ("a\nb", "$host", "a\\", "ü", " a", "a\x7f", "a\t")],
        ("limits", {"connections": -1}, "Set it to 0 or more"),
        ("limits", {"rate": 5}, "not known"),
        *[
            ("challenge_peers", value, "the IP address of a host")
            for value in (["web1"], ["10.0.0.1:80"], ["10.0.0.0/24"], ["fe80::1%eth0"], [5], [""])
        ],
        ("challenge_peers", "10.0.0.1", "must be a list"),
        ("challenge_peers", ["10.0.0.1", "10.0.0.1"], "twice"),
        ("tls", {"acme": {}}, "has no email"),
        ("tls", {"acme": {"email": "ops"}}, "one mail address"),
        ("tls", {"acme": {"email": "--config x@y"}}, "one mail address"),
        ("tls", {"acme": {"email": "o@a.test", "directory": "a.test/dir"}}, "the URL of a directory"),
        ("tls", {"acme": {"email": "o@a.test", "key_type": "dsa"}}, "ecdsa or rsa"),
        ("tls", {"acme": {"email": "o@a.test", "names": "b.test"}}, "must be a list"),
        ("tls", {"acme": {"email": "o@a.test", "names": ["-b"]}}, "no host name"),
        ("tls", {"acme": {"email": "o@a.test", "dns_hook": "dns"}}, "absolute path"),
        ("tls", {"acme": {"email": "o@a.test", "ca_bundel": "/a"}}, "Did you mean ca_bundle?"),
        ("tls", {"acme": {"email": "o@a.test"}, "certificate": "/a", "key": "/b"}, "not both"),
        (
            "tls",
            {"certificate": "/a", "key": "/b", "certifcate": "/c"},
            "'certifcate', which is not known. Did you mean certificate?",
        ),
        ("tls", {"certificate": "/a", "key": "/b", "hsts_max_age": "1y"}, "seconds"),
        *[
            ("tls", {"certificate": value, "key": "/k"}, "absolute path")
            for value in ("a.pem", "/a b", "/a;", "/a\n", "/$a", "/a{", '/a"', "/*.pem", 5, "data:x", "engine:x:y")
        ],
        *[
            ("url_prefix", value, "without a slash at its end")
            for value in ("api", "/", "/api/", "//a", "/a b", "/a;", "/a{", "/$a", "/a\n", "/ü", None, "/a//b", "/a%20")
        ],
        *[
            ("static", {"url": value}, "slash at both ends")
            for value in ("", "/", "static/", "/static", "/a b/", "/a;/", "/a\n/", "//", "/a{/", None)
        ],
        *[("static", {"dir": value}, "inside") for value in ("/etc", "..", "a/../b", "~/a", "a\nb", None, 5)],
        ("server_settings", [], "must be a dictionary"),
        ("server_settings", {"bad-name": 1}, "no directive of nginx"),
        ("server_settings", {"a; return": 1}, "no directive of nginx"),
        ("server_settings", {"a\nb": 1}, "no directive of nginx"),
        *[
            ("server_settings", {name: "x"}, "the role's own")
            for name in (
                *("listen", "server_name", "root", "location", "include", "ssl_certificate", "ssl_protocols"),
                *("proxy_pass", "return", "rewrite", "if"),
            )
        ],
        *[
            ("server_settings", {"client_max_body_size": value}, "must not be empty")
            for value in ("1m; return 200 x", "1m}", "{", "$x", "'a'", '"a"', "a\nb", "a\\", "a #", "`x`", "", " ")
        ],
        ("server_settings", {"gzip": True}, 'Quote it: gzip: "on"'),
        ("server_settings", {"gzip": False}, 'Quote it: gzip: "off"'),
        ("server_settings", {"gzip": None}, "text or a number"),
        ("server_settings", {"gzip": ["on"]}, "text or a number"),
        ("trusted_proxies", "10.0.0.1", "must be a list"),
        *[
            ("trusted_proxies", [value], "load balancer")
            for value in (
                "x",
                "10.0.0.1; allow all",
                "unix:",
                "10.0.0.0/33",
                "",
                None,
                167772161,
                "fe80::1%eth0",
                "all",
            )
        ],
        ("trusted_proxies", ["0.0.0.0/0"], "any client could claim"),
        ("trusted_proxies", ["::/0"], "any client could claim"),
        ("trusted_proxies", ["10.0.0.1/8"], "Write 10.0.0.0/8"),
        ("migrate_command", "a\nb", "command on one line"),
        ("migrate_command", None, "command on one line"),
        ("migrate_command", "flask db upgrade \\", "command on one line"),
        ("migrate_command", " ", "names no program"),
        ("migrate_command", "'' \"\"", "names no program"),
        ("processes", [{"name": "a", "command": "+/bin/sh -c id"}], "would mean something to systemd"),
        *[
            ("processes", [{"name": "a", "command": command}], "would mean something to systemd")
            for command in ('"+/bin/sh" -c id', "'-/bin/sh'", '""!/bin/sh', "\\x2b/bin/sh", " ''@x y")
        ],
        *[
            ("processes", [{"name": "a", "command": command}], "another command at a semicolon")
            for command in ("flask a ; +/bin/sh -c id", "flask a ;", "; flask a", "sh -c 'a ; b' ; c")
        ],
        *[("processes", [{"name": "a", "command": command}], "has no end") for command in ("x 'y", 'x "y\\"', "don't")],
        *[
            ("processes", [{"name": "a", "command": command}], "a path from nowhere")
            for command in ("../x", '"bin/x" y')
        ],
        ("processes", [{"name": "a", "command": "x", "schedule": "daily\\"}], "OnCalendar"),
        ("processes", [{"name": "a", "command": "x", "count": 2}, {"name": "a-2", "command": "y"}], "'a-2' twice"),
        ("processes", {}, "must be a list"),
        ("processes", ["celery"], "item 1 is 'celery'. It must be a dictionary"),
        ("processes", [{"command": "x"}], "has no name"),
        ("processes", [{"name": "A b", "command": "x"}], "has name, which is 'A b'"),
        ("processes", [{"name": "a"}], "has no command"),
        ("processes", [{"name": "a", "command": "x\ny"}], "has command, which is"),
        ("processes", [{"name": "a", "command": "x", "count": -1}], "has count, which is -1"),
        ("processes", [{"name": "a", "command": "x", "count": 1, "schedule": "daily"}], "count and schedule"),
        ("processes", [{"name": "a", "command": "x", "schedule": ""}], "OnCalendar"),
        ("processes", [{"name": "a", "command": "x", "shedule": "daily"}], "Did you mean schedule?"),
        ("processes", [{"name": "a", "command": "x"}, {"name": "a", "command": "y"}], "'a' twice"),
        ("hooks", {"pre_release": "before.yml"}, "absolute path"),
        ("hooks", {"pre_relase": "/x"}, "Did you mean pre_release?"),
        ("hooks", [], "must be a dictionary"),
        ("batches", 5, "must be a list"),
        ("batches", [], "is empty"),
        *[("batches", [value], "number of hosts") for value in (0, -1, "0%", "101%", "ten", "10 %", None, True, 1.5)],
        ("rollout", {"max_unreachable": "some"}, "has max_unreachable, which is 'some'"),
        ("rollout", {"revert": "perhaps"}, "true or false"),
        ("rollout", {"report": "report.json"}, "absolute path"),
        ("rollout", {"bake": {"seconds": -1}}, "has bake, which has seconds, which is -1"),
        ("rollout", {"bake": {"max_errors": "few"}}, "such as 1.5"),
        ("rollout", {"bake": {"max_slower": True}}, "such as 1.5"),
        ("rollout", {"bake": 60}, "must be a dictionary"),
        ("rollout", {"ready_path": "/"}, "belongs to the app"),
        ("rollout", {"ready_path": "readyz"}, "must start with /"),
        *[("rollout", {"migrate_on": value}, "first (one host for all) or every") for value in ("all", "", None, True)],
        ("rollout", {"revrt": True}, "Did you mean revert?"),
    ],
)
def test_what_cannot_work_is_refused_with_the_name_and_a_remedy(option: str, value: Any, words: str) -> None:
    found = told(**{option: value})
    assert found, "nothing was said"
    assert all(text.startswith(f"{PREFIX}{option} ") for text in found)
    assert any(words in text for text in found), found
    for text in found:
        assert text.isprintable() and text.endswith((".", "?")) and len(text) < 400
        assert not re.search(r"\{\w+\}|None|<class", text), "a placeholder or Python's own words"


@pytest.mark.parametrize("option", ["env", "credentials"])
@pytest.mark.parametrize(
    "value", ["s3cr3t\0", "s3cr3t\udcff", "s3cr3t" * 175_000, ["s3cr3t"], {"s3cr3t": "s3cr3t"}, "s3cr3t\ufdd0"]
)
def test_no_message_shows_a_secret(option: str, value: Any) -> None:
    found = told(**{option: {"TOKEN": value}})
    assert found and "TOKEN" in found[0] and "s3cr3t" not in str(found)


@pytest.mark.parametrize("eab", ["s3cr3t", ["s3cr3t"], {"s3cr3t": 1}, {"key_id": "a", "hmac_key": "s3cr3t"}])
def test_no_message_shows_the_key_of_an_account(eab: Any) -> None:
    found = told(tls={"acme": {"email": "o@a.test", "eab": eab}}, server_names=["a.test"])
    assert found and "eab" in found[0] and "s3cr3t" not in str(found)


def test_no_message_shows_the_password_of_a_url() -> None:
    found = told(pip={"index_url": "https://ada:s3cr3t@x y"}, source="git+https://ada:s3cr3t@x.example/a.git")
    assert len(found) == 2 and "s3cr3t" not in str(found)


def test_a_long_or_unprintable_value_is_shown_short_and_on_one_line() -> None:
    (text,) = told(url_prefix="a\n\x1b[31m" + "x" * 1000)
    assert "'a\\n\\x1b[31mxxx" in text and "xxx...'" in text and text.isprintable()


# how values fit together


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": ""}, "source is not set"),
        ({"source": None}, "source is not set"),
        ({"server_names": [], "default_server": False}, "server_names is empty"),
        ({"server_names": [], "default_server": "no"}, "server_names is empty"),
        ({"port": 8080, "listen": "8080"}, "port and flask_gunicorn_nginx_listen are both 8080"),
        ({"url_prefix_in_routes": True, "url_prefix": ""}, "url_prefix_in_routes is true"),
        ({"python": "/home/ada/.pyenv/shims/python"}, "python is /home/ada/.pyenv/shims/python, in a home"),
        ({"python": "/root/.local/bin/python3", "service_settings": {"ProtectHome": False}}, "in a home"),
        ({"tls": {"certificate": "/a", "key": "/b"}, "listen": 443}, "listen is 443"),
        ({"tls": {"selfsigned": True, "port": 80}, "listen": "80"}, "listen is 80"),
        ({"tls": {"selfsigned": True, "port": "8443"}, "port": 8443}, "port is 8443"),
        ({"tls": {"acme": {"email": "o@a.test"}}, "default_server": True}, "a certificate is for host names"),
        ({"tls": {"acme": {"email": "o@a.test"}}, "server_names": ["*.a.test"]}, "only where DNS proves it"),
        ({"tls": {"acme": {"email": "o@a.test", "names": ["*.a.test"]}}, "server_names": ["a.test"]}, "*.a.test is a"),
        ({"health_path": "/readyz"}, "health_path is /readyz"),
        ({"health_path": "/ready", "rollout": {"ready_path": "/ready"}}, "health_path is /ready"),
        ({"health_path": "/ready", "url_prefix": "/api", "rollout": {"ready_path": "/ready"}}, "health_path is /ready"),
        (
            {"health_path": "/api/readyz", "url_prefix": "/api", "url_prefix_in_routes": True},
            "health_path is /api/readyz",
        ),
        ({"signing": {"allowed_signers": ["a ssh-ed25519 AAAA"]}}, "allowed_signers and no key"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(options: dict[str, Any], words: str) -> None:
    found = told(**options)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    "options",
    [
        {"server_names": ["a.de"], "default_server": False},
        {"url_prefix_in_routes": True, "url_prefix": "/api"},
        {"tls": {"certificate": "/a", "key": "/b"}, "listen": 80},
        {"tls": {"acme": {"email": "ops@a.test"}}, "server_names": ["a.test"]},
        {
            "tls": {"acme": {"email": "o@a.test", "directory": "https://a.test:14000/dir", "dns_hook": "/bin/x"}},
            "server_names": ["*.a.test"],
        },
        {"listen": 443},
        {
            "tls": {"acme": {"email": "o@a.test", "eab": {"key_id": "kid-1", "hmac_key": "s3cr3t-s3cr3t_s3cr3t="}}},
            "server_names": ["a.test"],
        },
        {"tls": {"selfsigned": True}},
        {"health_path": "/readyz", "rollout": {"ready_path": "/other"}},
        {
            "health_path": "/ready",
            "url_prefix": "/api",
            "url_prefix_in_routes": True,
            "rollout": {"ready_path": "/ready"},
        },
        {"health_path": "/", "rollout": {"bake": {"seconds": 0}}},
        {"python": "/opt/python/bin/python3"},
        {"python": "/home/ada/python/bin/python3", "service_settings": {"ProtectHome": "read-only"}},
    ],
)
def test_values_that_fit_together_are_let_through(options: dict[str, Any]) -> None:
    assert told(**options) == []


def test_an_app_is_removed_whatever_its_other_settings_are() -> None:
    for state in ("absent", "purged"):
        assert told(state=state, source=None, port=1, env={"9": None}, server_names=[], default_server=False) == []
        assert "belongs to the system" in str(told(state=state, name="nginx"))
    assert "no variable" in str(problems({PREFIX + "name": "a", PREFIX + "state": "absent", PREFIX + "prot": 1}))


def test_a_name_that_is_missing_is_said_first() -> None:
    assert problems({})[0].startswith("flask_gunicorn_nginx_name is not set")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prot", "Did you mean flask_gunicorn_nginx_port?"),
        ("server_name", "Did you mean flask_gunicorn_nginx_server_names?"),
        ("enviroment", "no variable of this role."),
        ("keep_release", "Did you mean flask_gunicorn_nginx_keep_releases?"),
        ("zzz", "no variable of this role. All are described by: ansible-doc"),
    ],
)
def test_a_misspelled_name_is_told_with_the_right_one(name: str, words: str) -> None:
    values = {**{PREFIX + option: value for option, value in GOOD.items()}, PREFIX + name: 1}
    (text,) = problems(values)
    assert text.startswith(f"{PREFIX}{name} is no variable") and words in text


def test_many_problems_are_told_at_once() -> None:
    assert len(told(name="A B", port=1, env={"9": "x", "A": None}, server_names=["_", "ok.de"])) == 5


# the role and the filter know the same variables


def test_every_variable_of_the_role_has_a_rule_and_its_default_is_let_through() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert sorted(name.removeprefix(PREFIX) for name in spec) == sorted(RULES)
    values = {**defaults, **{PREFIX + option: value for option, value in GOOD.items()}}
    assert problems(values) == []


def test_the_settings_and_hooks_of_gunicorn_are_all_of_the_installed_one_and_no_others() -> None:
    theirs = {setting.name: setting for setting in KNOWN_SETTINGS}
    hooks = {name for name, setting in theirs.items() if callable(setting.default)}
    assert hooks == gunicorn.GUNICORN_HOOKS
    assert set(theirs) - hooks - set(gunicorn.GUNICORN_OWNED) == gunicorn.GUNICORN_SETTINGS
    assert set(gunicorn.GUNICORN_OWNED) <= set(theirs)
    assert all(isinstance(theirs[name].default, int) for name in gunicorn.GUNICORN_NUMBERS)


def test_the_installed_gunicorn_is_the_one_that_the_role_gives_an_app() -> None:
    """Of Python 3.9 and its older Gunicorn apart: what that has, the newer one has too."""
    pinned = re.findall(r"(?m)^gunicorn==(\S+) ; python_full_version >= ", (ROLE / "files/gunicorn.txt").read_text())
    assert pinned == [version("gunicorn")]


def test_values_as_ansible_reads_them_from_a_file_are_judged_like_plain_ones() -> None:
    options = {
        **GOOD,
        "env": {"A": "x"},
        "server_names": ["a.de"],
        "port": "5000",
        "tls": {},
        "settings": {"workers": 2},
    }

    def judged(**more: Any) -> list[str]:
        text = yaml.safe_dump({PREFIX + option: value for option, value in {**options, **more}.items()})
        values = DataLoader().load(text)
        assert type(values[PREFIX + "name"]) is not str, "Ansible's own kind of text"
        found: list[str] = problems(values)
        return found

    assert judged() == []
    found = judged(port=80, server_names=["x;"], env={"A": True})
    assert [text.split()[0].removeprefix(PREFIX) for text in found] == ["env", "port", "server_names"]


def test_a_play_with_batches_of_its_own_is_refused() -> None:
    (text,) = problems({PREFIX + option: value for option, value in GOOD.items()}, serial=True)
    assert "sets serial" in text and f"{PREFIX}batches" in text


SERVES = {
    "debian": True,
    "systemd": True,
    "distribution": "Debian GNU/Linux 12 (bookworm)",
    "services": {"hello.socket": {"active": True, "enabled": True}},
    "listening": [22, 80, 5000],
    "released": True,
    "holders": [],
    "nginx_site": {"ports": [80, 443], "problems": [], "clashes": []},
    "foreign": [],
    "noexec": "",
    "unreadable_schedules": [],
}


@pytest.mark.parametrize(
    ("contact", "port", "words"),
    [
        (SERVES, 5000, ()),
        (SERVES, "5000", ()),
        ({**SERVES, "debian": False, "distribution": "Fedora 42"}, 5000, ("web1 is Fedora 42, with systemd",)),
        ({**SERVES, "systemd": False}, 5000, ("without systemd",)),
        (SERVES, 5001, ("On web1 hello.socket does not listen on port 5001", "systemctl stop hello.socket 'hello@*")),
        (SERVES, 5001, ("unix_socket: true, then with false",)),
        # a Unix socket, whatever is at the port: it moves there while it serves
        (SERVES, 0, ()),
        ({**SERVES, "services": {"hello.socket": {"active": False, "enabled": True}}}, 5001, ()),
        (
            {**SERVES, "foreign": ["user hello (uid 1001, home /home/hello, shell /bin/bash)", "/srv/hello"]},
            5000,
            (
                "On web1",
                "user hello (uid 1001",
                "\n  /srv/hello\n",
                "Choose another flask_gunicorn_nginx_name",
                "docs/",
            ),
        ),
        # nothing was released: nothing shares the socket
        ({**SERVES, "released": False}, 5001, ()),
        ({**SERVES, "noexec": "/srv"}, 5000, ("On web1 /srv is mounted noexec", "mount -o remount,exec /srv")),
        ({**SERVES, "unreadable_schedules": ["every night"]}, 5000, ("'every night'", "systemd.time(7)")),
        # to be removed: where it listens and what is in the way is all the same
        ({**SERVES, "foreign": ["/srv/hello"], "unreadable_schedules": ["every night"]}, None, ()),
    ],
)
def test_a_host_that_cannot_have_the_app_is_named(contact: dict[str, Any], port: Any, words: tuple[str, ...]) -> None:
    found = host_problems(contact, "web1", "hello", port)
    assert len(found) == bool(words) and all(word in found[0] for word in words)


def held(port: int, unit: str, process: str = "x", address: str = "0.0.0.0", pid: int = 4711) -> dict[str, Any]:
    return {"port": port, "address": address, "process": process, "pid": pid, "unit": unit}


def clash(name: str, app: str = "", site: str = "shop.test on 80 (/etc/nginx/sites-enabled/x)") -> dict[str, Any]:
    return {"name": name, "app": app, "site": site}


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (held(80, "nginx.service", "nginx"), ()),
        (held(5000, "hello.socket", "systemd", "127.0.0.1", 1), ()),
        (held(5000, "hello@0123456789ab.service", "gunicorn", "127.0.0.1"), ()),
        (held(5000, "blog.socket", "systemd", "10.0.0.5", 1), ()),
        (
            held(80, "apache2.service", "apache2"),
            ("apache2, pid 4711, apache2.service listens on port 80", "listen: 8080"),
        ),
        (
            held(443, "docker.service", "docker-proxy"),
            ("docker-proxy", "port 443", "give it another port,", "tls: {port: 8443}"),
        ),
        (held(80, "session-3.scope", "nginx"), ("nginx, pid 4711, session-3.scope",)),
        (held(80, "", "", pid=0), ("a process that cannot be seen listens on port 80",)),
        (held(81, "apache2.service", "apache2"), ("port 81", "a site that nginx has", "default_server: true")),
        (
            held(5000, "docker.service", "docker-proxy"),
            ("0.0.0.0:5000, the port of hello", "flask_gunicorn_nginx_port: 5001"),
        ),
        (held(5000, "nginx.service", "nginx"), ("nginx.service listens on 0.0.0.0:5000, the port of hello",)),
        (
            held(5000, "blog.socket", "systemd", "127.0.0.1", 1),
            ("systemd, pid 1, blog.socket", "Where hello is the new name of blog: docs/"),
        ),
    ],
)
def test_who_holds_a_port_is_named_and_the_ways_out(holder: dict[str, Any], words: tuple[str, ...]) -> None:
    found = host_problems(
        {**SERVES, "holders": [holder, {**holder, "address": holder["address"]}]}, "web1", "hello", 5000
    )
    assert len(found) == bool(words) and all(word in found[0] for word in words), found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (clash("shop.test"), ("another site has the name shop.test: shop.test on 80 (/etc/nginx/sites-enabled/x)",)),
        (clash("shop.test", "shop"), ("the name shop.test belongs to the app shop", "new name of shop")),
        (clash(""), ("another site answers every name already", "default_server: false")),
    ],
)
def test_a_name_that_another_site_has_is_refused(found: dict[str, Any], words: tuple[str, ...]) -> None:
    site = {"ports": [80], "problems": [], "clashes": [found, found]}
    (said,) = host_problems({**SERVES, "nginx_site": site}, "web1", "hello", 5000)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://www.example.com", False),
        ("http://www.example.com:8080", False),
        ("", False),
        ("https://www.example.com/", True),
        ("www.example.com", True),
        ("https://www.example.com:99999", True),
        ("https://a b", True),
        ("https://*.example.com", True),
        ("https://user@www.example.com", True),
        ("https://other.example.org", True),
        (443, True),
    ],
)
def test_the_address_that_users_see_is_scheme_host_and_port(url: Any, refused: bool) -> None:
    for names in (["www.example.com"], ["*.example.com"]):
        values = {**GOOD, "server_names": names, "default_server": False, "public_url": url}
        values["trusted_proxies"] = ["10.0.0.0/8"]
        found = problems({PREFIX + option: value for option, value in values.items()})
        assert bool(found) == refused and all("public_url" in text for text in found), found


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"public_url": "https://a.test"}, True),
        ({"public_url": "https://a.test", "trusted_proxies": ["10.0.0.0/8"]}, False),
        ({"public_url": "https://a.test", "tls": {"certificate": "/a", "key": "/b"}}, False),
        ({"public_url": "http://a.test:8080"}, False),
    ],
)
def test_who_ends_tls_before_nginx_is_to_be_believed(values: dict[str, Any], refused: bool) -> None:
    values = {**GOOD, "trusted_proxies": [], "tls": {}, "server_names": [], "default_server": True, **values}
    found = problems({PREFIX + option: value for option, value in values.items()})
    assert len(found) == refused and all("trusted_proxies" in text for text in found), found


def paths(known: Options, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield where each option of the role stands, those below others too."""
    for name, option in known.items():
        yield (*above, name)
        yield from paths(option.get("options", {}), *above, name)


# of every type that YAML has, alone and one in the other
ANYTHING: list[Any] = [None, "", 0, -1, 5, 5.5, True, "abc", "5", "yes", "/x", "a,b", [], [1], ["a"], [["a"]], [None]]
ANYTHING += [[{}], [{"a": 1}], {}, {"a": 1}, {"a": [1]}, {1: 2}, {"a": None}, {"a": {"b": []}}]


@pytest.mark.parametrize("path", list(paths(options())), ids=".".join)
def test_what_ansible_s_own_check_refuses_is_refused(path: tuple[str, ...]) -> None:
    """The playbooks leave it out. It is the judge here, where it does not stumble over the value itself."""
    for value in ANYTHING:
        values: dict[str, Any] = {PREFIX + name: held for name, held in GOOD.items()}
        place = values
        for name in path[:-1]:
            place[name] = dict(place[name]) if isinstance(place.get(name), Mapping) else {}
            place = place[name]
        place[path[-1]] = value
        found = problems(values)
        try:
            wrong = ArgumentSpecValidator(options()).validate(copy.deepcopy(values)).error_messages
        except TypeError as error:
            wrong = [str(error)]
        assert found or not wrong, (value, wrong)
