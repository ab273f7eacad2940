"""No value that is accepted changes the structure of anything that is made of it; tests/structure.py says what that is.

Every variable of the specification that can hold a text is bent: by each piece that means something to one of the
readers, at its beginning, its end, within, in its place; and by what hypothesis makes up. What the role refuses is no
concern of this test, what it takes is rendered, many values at once. `make audit` tries more (EXAMPLES).
"""

from __future__ import annotations

import builtins
import copy
import keyword
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils import spec
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.gunicorn import GUNICORN_SETTINGS
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.rules import problems
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.rendering import SCENARIOS, prefixed, render
from tests.structure import loaded, requirements, structure

EXAMPLES = int(os.environ.get("FLASKFLEET_EXAMPLES", "5"))
MANY = 100  # examples from which on nothing is left out
ROUNDS = 20
Path = tuple[Any, ...]
BASE: dict[str, Any] = {
    "name": "hello",
    "state": "present",
    "source": "/srv/code/hello",
    "exclude": ["*.sqlite3"],
    "requirements": "requirements.txt",
    "python": "python3.12",
    "pip": {
        "index_url": "https://pypi.example.com/simple",
        "ca_bundle": "/etc/ssl/ca.pem",
        "build_requirements": "build.txt",
    },
    "signing": {"key": "/home/ada/.ssh/id_ed25519", "allowed_signers": ["ada@example.com ssh-ed25519 AAAA"]},
    "challenge_peers": ["10.0.0.2", "2001:db8::2"],
    "headers": {"Content-Security-Policy": "default-src 'self'"},
    "packages": ["libpq-dev"],
    "env": {"COLOUR": "green"},
    "credentials": {"PASSWORD": "secret"},
    "wsgi_app": "flaskr:create_app('a', b='c')",
    "port": "5000",
    "health_path": "/healthz",
    "writable": ["instance"],
    "outbound": ["10.0.0.5", "2001:db8::1", "fe80::1"],
    "settings": {"access_log_format": "%(h)s", "of_the_future": ["a", {"b": "c"}]},
    "service_settings": {"Nice": "5", "ReadWritePaths": ["/srv/shared"]},
    "processes": [
        {"name": "worker", "command": "celery --app app worker"},
        {"name": "nightly", "command": "/srv/bin/clean --all", "schedule": "*-*-* 03:00"},
    ],
    "server_names": ["a.test", "*.a.test"],
    "default_server": True,
    "listen": "80",
    "public_url": "https://a.test:8443",
    "tls": {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key", "hsts_max_age": "300"},
    "url_prefix": "/api",
    "static": {"url": "/static/", "dir": "static", "immutable": "assets/.*"},
    "micro_cache": {"seconds": 1, "stale_on_error": True, "megabytes": 64, "user_headers": ["X-Account"]},
    "trusted_proxies": ["10.0.0.0/8", "2001:db8::1"],
    "server_settings": {"gzip_types": "text/css"},
    "metrics": {"textfile": True, "directory": "/var/lib/node_exporter"},
    "migrate_command": "flask db upgrade",
    "hooks": dict.fromkeys(spec.options("hooks"), "/srv/tasks.yml"),
    "batches": ["10%"],
    "rollout": {"migrate_on": "every", "ready_path": "/readyz", "report": "/tmp/report.json", "bake": {}},
}
ACME = {
    "email": "ops@example.com",
    "directory": "https://acme.test/dir",
    "ca_bundle": "/etc/ssl/ca.pem",
    "key_type": "rsa",
    "names": ["b.test"],
    "dns_hook": "/usr/local/bin/hook",
    "eab": {"key_id": "kid-1", "hmac_key": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
}
BASES: list[dict[str, Any]] = [
    BASE,
    {**BASE, "tls": {"acme": ACME}},
]
SOURCES = [
    "/srv/code/hello",
    "hello==1.0; python_version > '3'",
    "hello==1.0 gevent==25.9.1",
    "hello[extra]==1.0 --hash=sha256:00",
    "git+https://git.example.com/hello.git@v1#subdirectory=web",
]
# each is something to nginx, systemd, Python, YAML and Jinja, a shell, pip, a terminal
PIECES = [
    *("\n", "\r", "\r\n", "\0", "\t", "\x0b", "\x0c", "\x1b[2J", "\x1c", "\x7f", "\x85", "\xa0", "\u2028", "\u2029"),
    *(";", " ; ", "{", "}", "{}", "#", " # ", "$", "$host", "${x}", "%", "%n", "%i", "%%", "=", ":", ",", "*", "~"),
    *('"', "'", '"" ', "\\", "\\\\", "\\n", "\\\n", "`", "`id`", "$(id)", "&&", "|", ">", "<", "(", ")", "[", "]"),
    *("{{ 1 }}", "{% x %}", "{# x", "-", "--", " --x=y", " -e .", "+", "@", "!", "!!", "/", "//", "../", "..", "."),
    *(" ", "\u0663", "\u200b", "\u202e", "\ufeff", "\U0001f40d", "\xe9", "\uff0e", "\udc80", "\ufffe", "x" * 300),
    *("\nUser=root", "%a\nUser=root", "\u2028User=root", "\x85User=root", "\n[Install]\nAlias=x.service"),
    *("; return 200 x", "; } server { listen 81;", "\n}\nserver {", " default_server", " ; +/bin/sh -c id", " ;"),
    *('"+/bin/sh"', "'-/bin/sh'", '""+/bin/sh', "\\x2b/bin/sh", "+/bin/sh", "\n--index-url=http://x", "\u2028-e ."),
    *("class", "import", "os", "len", "x", "if", "None"),
]


def options(known: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """Where a text can stand, as the specification has it: of lists the first item, of dictionaries their content."""
    for name, option in known.items():
        here = (*path, name)
        if "options" in option:
            yield from options(option["options"], here)
        elif option["type"] in ("str", "path", "raw", "list", "dict"):
            yield here


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Each text of some values by its path; the name of an entry that the user chose is one too, ("env", None, "A")."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, held in items:
        yield from leaves(held, (*path, key))
        if path[:1] in (
            ("env",),
            ("credentials",),
            ("settings",),
            ("headers",),
            ("service_settings",),
            ("server_settings",),
        ):
            yield from [(*path, None, key)] if isinstance(key, str) else []
    if isinstance(value, str):
        yield path


def text_at(values: Any, path: Path) -> str:
    """The text at a path."""
    for key in path:
        if key is None:
            return str(path[-1])
        values = values[key]
    return str(values)


def with_text(values: dict[str, Any], path: Path, text: str) -> dict[str, Any]:
    """The values with another text at a path."""
    changed = copy.deepcopy(values)
    place: Any = changed
    for key in path[:-1]:
        if key is None:
            place[text] = place.pop(path[-1])
            return changed
        place = place[key]
    place[path[-1]] = text
    return changed


def bent(text: str, piece: str) -> list[str]:
    """The text with a piece in it."""
    half = len(text) // 2
    return [piece + text, text + piece, text[:half] + piece + text[half:], piece]


# a value that says something else by itself: the front page has no location of its own for the health path
ANOTHER_CHOICE = {(("health_path",), "/")}


def taken(base: dict[str, Any], texts: Mapping[Path, str]) -> dict[str, Any]:
    """The values with those of the texts that the role takes."""
    values = base
    for path, text in texts.items():
        if (path, text) in ANOTHER_CHOICE:
            continue
        changed = with_text(values, path, text)
        if not problems(prefixed(changed)):
            values = changed
    return values


def judge(base: dict[str, Any], texts: Mapping[Path, str]) -> None:
    """The structure is that of the base; where it is not, the value that alone changes it is named."""
    wanted = structure(base)
    try:
        assert structure(taken(base, texts)) == wanted
    except Exception:
        for path, text in texts.items():
            try:
                assert structure(taken(base, {path: text})) == wanted
            except Exception as error:
                raise AssertionError(f"{path} with {text!r}: {error}") from None
        raise


def rounds(base: dict[str, Any]) -> Iterator[dict[Path, str]]:
    """Texts for all places at once, until each that is taken has been in one of them, or some of each in short."""
    accepted: dict[Path, list[str]] = {}
    for place, path in enumerate(leaves(base)):
        if base is not BASE and path in leaves(BASE):
            continue
        every = [bent(text_at(base, path), piece) for piece in PIECES]
        if EXAMPLES < MANY:  # each piece once, here at the beginning, there at the end
            every = [[texts[(place + position) % 4]] for position, texts in enumerate(every)]
        fits = [text for texts in every for text in texts if not problems(prefixed(with_text(base, path, text)))]
        random.Random(place).shuffle(fits)
        accepted[path] = fits if EXAMPLES >= MANY else fits[:ROUNDS]
    for turn in range(max(map(len, accepted.values()))):
        yield {path: texts[turn % len(texts)] for path, texts in accepted.items() if texts}


@pytest.mark.parametrize("number", range(len(BASES)))
def test_the_values_that_are_bent_are_taken_as_they_stand(number: int) -> None:
    assert problems(prefixed(BASES[number])) == []


def test_every_variable_that_can_hold_a_text_is_bent() -> None:
    found = {tuple(key for key in path if not isinstance(key, int)) for base in BASES for path in leaves(base)}
    wanted = [(path[0].removeprefix(spec.PREFIX), *path[1:]) for path in options(spec.options(), ())]
    assert [path for path in wanted if not any(each[: len(path)] == path for each in found)] == []


@pytest.mark.parametrize("number", range(len(BASES)))
def test_no_piece_of_another_language_changes_what_is_made(number: int) -> None:
    for texts in rounds(BASES[number]):
        judge(BASES[number], texts)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_to_pip_what_it_is_to_the_role(source: str) -> None:
    for text in (text for piece in PIECES for text in bent(source, piece)):
        if not problems(prefixed({**BASE, "source": text})):
            requirements(text)


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_nothing_that_can_be_made_up_changes_what_is_made(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(BASES))
    text = st.text(st.one_of(st.sampled_from(sorted(set("".join(PIECES)))), st.characters()), min_size=1, max_size=12)
    drawn = {path: data.draw(st.tuples(text, st.integers(0, 3))) for path in leaves(base)}
    judge(base, {path: bent(text_at(base, path), piece)[how] for path, (piece, how) in drawn.items()})


def test_no_setting_has_a_name_that_the_file_itself_uses() -> None:
    used = {name for values in SCENARIOS.values() for name in loaded(render("gunicorn.conf.py", values))}
    names = used | set(dir(builtins)) | set(keyword.kwlist)
    free = [
        name
        for name in sorted(names - GUNICORN_SETTINGS)
        if not problems(prefixed({"source": "/srv/x", "default_server": True, "settings": {name: "x"}}))
    ]
    assert free == []
