"""What is made of the role's variables, and its structure: what a value must not change, however strange it is.

Structure is which directives, keys, statements and commands there are, as nginx, systemd, Python, pip and flaskctl read
them; the texts that they hold are not. The readers here are strict and written from the manuals, not from the role's.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import symtable
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils import nginx_config
from ansible_collections.flaskfleet.web.plugins.module_utils.source import parse
from flaskctl import acme, release, units

from tests.rendering import evaluate

FILES = ("app.nginx.conf", "app.socket", "app.service", "needrestart.conf")
USERS = "<a name of the user's>"
# a word as systemd reads it (systemd.service(5), "Command lines"; quotes may stand anywhere in it)
WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+""", re.DOTALL)
QUOTED = re.compile(r'"((?:\\["\\`$]|[^"\\`$])*)"', re.DOTALL)


class Broken(AssertionError):
    """A file that its reader would not take, or would take for something else."""


def nginx(text: str, own: Mapping[str, Any]) -> list[str]:
    """Each directive with the blocks around it and how many words follow; of the user's own those are the user's."""
    found = []
    for each in nginx_config.directives(text):
        blocks = " ".join(name for name, _number in each.context)
        # what a map is asked for is a value too: a path, a pattern
        mine = (each.name in own and blocks == "server") or (blocks == "map" and each.name[:1] in "/~")
        found.append(f"{blocks} {USERS}" if mine else f"{blocks} {each.name} {len(each.args)}")
    return found


def words(line: str) -> list[str]:
    """The words of a command line of systemd, as they stand."""
    found = WORD.findall(line)
    if WORD.sub("", line).strip():
        raise Broken(f"a quote without an end: {line!r}")
    return found


def commands(line: str) -> int:
    """How many commands systemd makes of a line; each must be a program by its path, without a prefix."""
    count, first = 1, True
    for word in words(line):
        if first and not re.sub(r"""["']""", "", word).startswith("/"):
            raise Broken(f"systemd would not just run {word!r}: {line!r}")
        first = word == ";"
        count += first
    return count


def unit(text: str, own: Mapping[str, Any]) -> list[str]:
    """Each directive of a unit with its section. A line ends where systemd ends it; none goes on in the next one."""
    section, found = "", []
    for line in re.split(r"[\n\r\0]", text):
        if line.strip()[:1] in ("#", ";", ""):
            continue
        key, equals, value = line.partition("=")
        if line.startswith("["):
            section = line
        elif not equals or not re.fullmatch(r"[A-Z]\w+", key):
            raise Broken(f"no directive: {line!r}")
        elif line.rstrip().endswith("\\"):
            raise Broken(f"goes on in the next line: {line!r}")
        elif key == "ExecStart":
            found.append(f"{section} {key} {commands(value)}")
        else:
            found.append(f"{section} {USERS if key in own else key}")
    return found


def python(text: str, own: Mapping[str, Any]) -> list[str]:
    """Each statement less its constants; what the user sets is one literal each, and equal to what was given."""
    found = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and (name := ast.unparse(statement.targets[0])) in own:
            if ast.literal_eval(statement.value) != own[name]:
                raise Broken(f"{name} is not {own[name]!r}")
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant):
                node.value = type(node.value).__name__
        found.append(ast.dump(statement))
    return found


def loaded(text: str) -> set[str]:
    """The names that a Python file has or looks for in its own module: not to be set by anybody else."""
    tables, names = [symtable.symtable(text, "gunicorn.conf.py", "exec")], set()
    while tables:
        table = tables.pop()
        names |= {each.get_name() for each in table.get_symbols() if table.get_type() == "module" or each.is_global()}
        tables += table.get_children()
    return names


def environment(text: str) -> dict[str, str]:
    """What systemd reads of an EnvironmentFile in which each value stands in double quotes."""
    found, position = {}, 0
    while position < len(text):
        head = re.compile(r"([A-Za-z_]\w*)=").match(text, position)
        value = QUOTED.match(text, head.end()) if head else None
        if not head or not value or text[value.end() : value.end() + 1] != "\n":
            raise Broken(f"no assignment: {text[position : position + 60]!r}")
        found[head[1]] = re.sub(r'\\(["\\`$])', r"\1", value[1])
        position = value.end() + 1
    return found


def of_release(sent: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The files of a release, made by flaskctl of what the role sends it."""
    own = values.get("service_settings", {})
    config = release.parse_config(json.dumps(sent))
    read = environment(release.release_files(config)["environment"][0])
    if read != {key: str(value) for key, value in values.get("env", {}).items()}:
        raise Broken(f"the environment is {read!r}")
    yield "gunicorn.conf.py", python(config.gunicorn_conf, values.get("settings", {}))
    yield "app@.service", unit(config.service, own)
    for number, texts in enumerate(config.processes.values()):
        yield from ((f"process {number} {kind}", unit(text, own)) for kind, text in texts.items())
    drop_in = unit(release.credentials_drop_in("hello", "1" * 12, config.credentials), {})
    if len(drop_in) != len(values.get("credentials", {})):
        raise Broken("a credential is no line of its own")
    # flaskctl starts a trial with what it reads of the unit: it must read what systemd does
    seen = [key for key, _value in units.service_settings(f"hello@{'1' * 12}.service", [config.service], 300)]
    stands = [line.partition("=")[0] for line in config.service.partition("[Service]\n")[2].split("\n") if "=" in line]
    if seen != [key for key in stands if re.fullmatch(r"[A-Z]\w+", key)]:
        raise Broken("flaskctl reads another unit than systemd")


def requirements(source: str) -> None:
    """What pip reads of a source, where it is requirements, are those: no option, and no line more."""
    lines = parse(source).location.split("\n")
    if len("\n".join(lines).splitlines()) != len(lines) or any(line.lstrip().startswith("-") for line in lines):
        raise Broken(f"pip would read other lines than {lines!r}")


def given_to_others(settings: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What other programs get: requirements for pip, words for Ansible's command and for certbot."""
    requirements(str(values["source"]))
    yield "migration", [str(bool(shlex.split(str(values.get("migrate_command", "")))))]
    yield "settings", sorted(settings)
    if settings["acme"]:
        argv = acme.certbot_argv("hello", "hello", settings, "")
        yield "certbot", [word for word in argv if word.startswith("-") or "\0" in word]


def structure(values: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """The structure of all that is made of these values, file by file; an error for one that cannot be read."""
    texts = [f"'{name}': lookup('flaskfleet.web.template', '{name}.j2')" for name in FILES]
    internal = "'release': __flask_gunicorn_nginx_release, 'app': __flask_gunicorn_nginx_app"
    made = evaluate("{" + ", ".join(texts) + f", {internal}}}", dict(values))
    found = [("site", nginx(made["app.nginx.conf"], values.get("server_settings", {})))]
    found += [(name, unit(made[name], {})) for name in ("app.socket", "app.service")]
    found += [("needrestart", re.findall(r"(?m)^[^#\n]+?\{", made["needrestart.conf"]))]
    found += [*of_release(made["release"], values), *given_to_others(made["app"], values)]
    for name in FILES:
        str(made[name]).encode()  # what is no text cannot be written
    return {name: Counter(items) for name, items in found}
