"""The scenarios that hosts judge leave no part of a template out."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from tests.rendering import CATCH_ALL, DEBIAN_12, ROLE, SCENARIOS, evaluate, render
from tools import compose

HOSTS = [DEBIAN_12, {"nginx": "1.26.3", "openssl": "3.5.1", "ipv6": False}]
# hosts with nothing of TLS, with nothing to ask for, with an old nginx and a new one
CATCH_ALLS = [
    {**DEBIAN_12, "nginx": nginx, "nginx_site": {**DEBIAN_12["nginx_site"], "catch_all": {**CATCH_ALL, **changes}}}
    for nginx, changes in [
        ("1.18.0", {}),
        ("1.26.3", {}),
        ("1.26.3", {"listens": CATCH_ALL["listens"][:1], "ready": []}),
    ]
]
WITH = {"app.nginx.conf": HOSTS, "catch_all.nginx.conf": CATCH_ALLS}
TEMPLATES = sorted(path.name.removesuffix(".j2") for path in (ROLE / "templates").iterdir())
# what is not made into a file of its own, and where its text ends up
PROCESSES = "__flask_gunicorn_nginx_release.processes.values()"
INSIDE = {
    **dict.fromkeys(
        ("app.cache.conf", "app.challenges.conf", "app.headers.conf", "app.maps.conf", "app.proxy.conf"),
        "lookup('flaskfleet.web.template', 'app.nginx.conf.j2')",
    ),
    "release.conf": "__flask_gunicorn_nginx_release.service",
    "sandbox.conf": "__flask_gunicorn_nginx_release.service",
    "app.process@.service": f"{PROCESSES} | map(attribute='service') | join('\n')",
    "app.process@.timer": f"{PROCESSES} | selectattr('timer', 'defined') | map(attribute='timer') | join('\n')",
}


def fixed_lines(template: str) -> tuple[set[str], set[str]]:
    """Return (all lines, those inside an if or for) of a template that hold no Jinja, as they appear when rendered."""
    every: set[str] = set()
    conditional: set[str] = set()
    depth = 0
    for line in (ROLE / "templates" / f"{template}.j2").read_text().splitlines():
        tag = re.match(r"{%\s*(\w+)", line)
        if tag:
            depth += {"if": 1, "for": 1, "endif": -1, "endfor": -1}.get(tag[1], 0)
        elif line.strip() and "{{" not in line and not line.startswith("{#"):
            every.add(line)
            if depth:
                conditional.add(line)
    return every, conditional


def text(template: str, values: dict[str, Any], host: dict[str, Any]) -> str:
    return str(evaluate(INSIDE[template], values, host)) if template in INSIDE else render(template, values, host)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_branch_is_taken_in_one_scenario_and_not_in_another(template: str) -> None:
    every, conditional = fixed_lines(template)
    hosts = WITH.get(template, HOSTS[:1])  # no other depends on the host
    rendered = [text(template, values, host) for values in SCENARIOS.values() for host in hosts]
    rendered += [compose.render()[name] for name, source in compose.RENDERED.items() if source == template]
    texts = [Counter(each.splitlines()) for each in rendered]
    assert not {line for line in every if not any(found[line] for found in texts)}
    assert not {line for line in conditional if len({found[line] for found in texts}) == 1}
