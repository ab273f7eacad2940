"""The role's templates and derived values, through Ansible's own Templar and the role's own defaults and vars.

Used three times: the unit tests assert on the text, the integration tests have the nginx and systemd of real hosts
judge it, and tools/compose.py makes the files of containers.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

REPOSITORY = Path(__file__).resolve().parent.parent
ROLE = REPOSITORY / "roles" / "flask_gunicorn_nginx"
PREFIX = "flask_gunicorn_nginx_"

# What flaskfleet.web.host tells of a host, as far as templates ask for it.
DEBIAN_12: dict[str, Any] = {
    "nginx": "1.22.1",
    "openssl": "3.0.17",
    "ipv6": True,
    "nginx_site": {
        "file": "/etc/nginx/sites-available/hello.conf",
        "read": "/etc/nginx/sites-enabled/hello.conf",
        "files": [],
        "group": "www-data",
        "catch_all": {"path": "", "gone": [], "listens": [], "ready": [], "limits": {}},
    },
}
# What the host makes of an app with TLS and of another one, for the server for all other names
READY = {"app": "hello", "path": "/readyz", "at": "127.0.0.1:5000", "health": "/", "host": "a.test", "scheme": "https"}
CATCH_ALL: dict[str, Any] = {
    "path": "/etc/nginx/conf.d/00-flaskfleet.conf",
    "gone": [],
    "listens": [{"port": 80, "ssl": False}, {"port": 443, "ssl": True}],
    "ready": [READY, {**READY, "app": "wiki", "path": "/wiki/readyz", "at": "127.0.0.1:5001"}],
    "limits": {"client_header_timeout": "60s"},
}

TLS = {"certificate": "/etc/ssl/hello/chain.pem", "key": "/etc/ssl/hello/key.pem"}

# Every branch of every template is taken in one of these and not taken in another (a unit test holds them to it).
# Values carry no prefix here; `name` is hello unless given.
SCENARIOS: dict[str, dict[str, Any]] = {
    "defaults, the catch-all": {"default_server": True},
    "names": {"server_names": ["example.com", "*.example.com"], "listen": 8080},
    "a dash in the name": {"name": "a-b", "port": 5001, "server_names": ["a-b.test"], "trusted_proxies": ["10.1.2.3"]},
    "names, and any other": {"server_names": ["example.com", "*.example.com"], "default_server": True},
    "TLS": {"server_names": ["example.com"], "tls": TLS},
    "TLS for all": {"default_server": True, "tls": {**TLS, "hsts_max_age": 300}, "static": {"dir": ""}},
    "a certificate of a directory": {
        "server_names": ["example.com"],
        "tls": {"acme": {"email": "ops@example.com", "names": ["mail.example.com"]}},
        "challenge_peers": ["10.0.0.11", "2001:db8::12"],
    },
    "mounted below a path": {"default_server": True, "url_prefix": "/api"},
    "routes with the path": {
        "default_server": True,
        "url_prefix": "/api",
        "url_prefix_in_routes": True,
        "health_path": "/api/healthz",
        "static": {"url": "/assets/"},
    },
    "a Unix socket": {"default_server": True, "unix_socket": True},
    "packages of the system": {"default_server": True, "packages": ["libpq-dev"], "wheelhouse": True},
    "signed archives": {"default_server": True, "signing": {"key": "/k", "allowed_signers": ["a ssh-ed25519 AAAA"]}},
    "no static files, and no way out": {"default_server": True, "static": {"dir": ""}, "outbound": "none"},
    "behind load balancers": {
        "server_names": ["example.com"],
        "tls": TLS,
        "trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"],
    },
    "TLS ends before nginx": {
        "server_names": ["example.com"],
        "public_url": "https://example.com:8443",
        "trusted_proxies": ["10.0.0.0/8"],
    },
    "headers and limits": {
        "server_names": ["example.com"],
        "headers": {"Content-Security-Policy": "default-src 'self'; report-uri \"/csp\"", "X-Frame-Options": ""},
        "limits": {"connections": 200, "requests": 50},
        "trusted_proxies": ["10.0.0.0/8"],
    },
    "a limit of requests alone": {"default_server": True, "limits": {"requests": "5", "burst": 9}},
    "a limit of connections alone": {"default_server": True, "limits": {"connections": 100}},
    "a micro-cache": {
        "server_names": ["example.com"],
        "micro_cache": {"seconds": 1, "user_headers": ["X-Account"]},
        "trusted_proxies": ["10.0.0.0/8"],
        "static": {"immutable": r'(assets|"x"\\)/.+\.(js|css)'},
    },
    "a micro-cache that never goes on with what is old": {
        "default_server": True,
        "micro_cache": {"seconds": 5, "stale_on_error": False},
        "url_prefix": "/api",
        "public_url": "https://example.com",
        "trusted_proxies": ["10.0.0.0/8"],
        "static": {"immutable": ""},
    },
    "a certificate that nobody else has signed": {"default_server": True, "tls": {"selfsigned": True, "port": 8443}},
    "nginx's own words": {
        "default_server": True,
        "server_settings": {"client_max_body_size": "1g", "proxy_read_timeout": "5m", "gzip": "on"},
    },
    "Gunicorn's and systemd's own words": {
        "default_server": True,
        "writable": ["instance"],
        "settings": {"workers": 3, "graceful_timeout": 50, "access_log_format": 'it\'s "%(r)s"', "statsd_host": None},
        "outbound": ["10.0.0.5", "2001:db8::/32"],
        "service_settings": {"IPAddressAllow": ["10.0.0.6", "10.0.0.2"], "MemoryMax": "512M", "Nice": 5},
    },
    "told to monitoring": {
        "server_names": ["example.com"],
        "metrics": {"textfile": True},
        "settings": {"statsd_host": "10.0.0.7:8125"},
        "outbound": ["10.0.0.5"],
    },
    "processes beside the web server": {
        "default_server": True,
        "processes": [
            {"name": "worker", "command": "celery --app app worker", "count": 2},
            {"name": "nightly", "command": "flask cleanup --keep 10%", "schedule": "*-*-* 03:00"},
        ],
    },
}

init_plugin_loader([str(REPOSITORY / "collections")])


def prefixed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values under the role's variable names, with the app's name where it is not given."""
    return {PREFIX + tail: value for tail, value in {"name": "hello", **values}.items()}


@cache
def own_variables() -> dict[str, Any]:
    """Return the role's defaults and vars, trusted to hold templates as Ansible trusts a role's files."""
    loader = DataLoader()
    parts = [
        loader.load_from_file(str(ROLE / part / "main.yml"), trusted_as_template=True) for part in ("defaults", "vars")
    ]
    return {**parts[0], **parts[1]}


@cache
def _evaluate(expression: str, values: str, host: str, internal: str) -> Any:
    variables = {
        **own_variables(),
        **prefixed(json.loads(values)),
        "role_path": str(ROLE),
        "ansible_search_path": [str(ROLE)],
        "__flask_gunicorn_nginx_contact": json.loads(host),
        "__flask_gunicorn_nginx_archive": {"by": "tester", "host": "control", "revision": "1" * 40},
        **json.loads(internal),
    }
    return Templar(DataLoader(), variables=variables).template(trust_as_template("{{ " + expression + " }}"))


def evaluate(
    expression: str,
    values: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
    internal: dict[str, Any] | None = None,
) -> Any:
    """Return what a Jinja expression is worth inside the role, for one scenario on one host.

    `internal` is over the role's own variables, which no user sets.
    """
    return _evaluate(expression, json.dumps(values or {}), json.dumps(host or DEBIAN_12), json.dumps(internal or {}))


def render(
    template: str,
    values: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
    internal: dict[str, Any] | None = None,
) -> str:
    """Return the text of a template (its name without .j2) the way the tasks make it."""
    return str(evaluate(f"lookup('flaskfleet.web.template', '{template}.j2')", values, host, internal))
