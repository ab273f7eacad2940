"""What the documentation tells people to type, and to write: every block of every page, and what runs each command.

A command that no table here has, and no other test takes from its page, is run by nobody, and a unit test fails
(tests/unit/test_documentation.py).
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.rendering import REPOSITORY
from tests.tutorial import FENCE, joined

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "inventory/production/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
# a page of screens, which a unit test holds to the filter (tests/unit/plugins/test_plan.py), and of pictures
PICTURES = {"docs/architecture.md"}
# words that begin a command, after what is set for it; PLAY is what the page says that it stands for
OURS = (
    "make",
    "ansible-playbook",
    "ansible-vault",
    "ansible-galaxy",
    "ansible-doc",
    "flaskctl",
    "sudo flaskctl",
    "PLAY",
)
PROGRAMS = (
    *OURS,
    *("$EDITOR", "apt", "cat", "cp", "docker", "git", "install", "jq", "journalctl", "man", "mv", "pip-audit"),
    *("promtool", "python", "python3"),
    *("rm", "systemctl", "tail", "usermod"),
)
# of commands that need more words
TALKED_ABOUT = {"flaskctl hello stage", "flaskctl NAME run --"}
SET_FOR_IT = r"(?:[A-Z_]+=(?:\"[^\"]*\"|\S+) )*"
VARIABLE = "flask_gunicorn_nginx_"

ON_A_HOST = "tests/integration/default/test_documented.py"
# Which test runs a command whole, as it stands on the page: a pattern of commands, and the file.
RUN = {
    r"(sudo )?flaskctl (?!.*(certificate|db upgrade|--signature)).*": ON_A_HOST,
    # its page; there is no man on test hosts
    r"man flaskctl": "tests/integration/default/test_host_commands.py",
    r"(tail -f|cat) /var/log/\S+": ON_A_HOST,
    r"flaskctl \w+ certificate": "tests/integration/tls/test_tls.py",
    r"flaskctl hello stage .* --signature .*": "tests/unit/flaskctl/test_signatures.py",
    # as `flask --app guestbook db current`: an app with migrations
    r"flaskctl hello run -- flask db upgrade": "tests/integration/tutorial/test_tutorial.py",
    r"(systemctl|mv|rm|usermod) .*\bshop\b.*|systemctl daemon-reload": ON_A_HOST,
    r"cp -a /var/lib/old/.*|systemctl stop hello\.socket .*": ON_A_HOST,
    r"(apt install -y git|install|cp|systemctl) .*(/opt/ansible|flaskfleet).*": "tests/integration/fleet/test_fleet.py",
    r"(jq|journalctl -o json) .*": "tests/unit/test_metrics_docs.py",
    r"python3 -c .*nginx_status.*": "tests/integration/neighbours/test_everything_else.py",
    r"docker compose .*": "tests/integration/compose/test_compose.py",
    r"python -m tools\.compose render": "tests/unit/tools/test_tools_compose.py",
    r"ansible-doc .* flask_gunicorn_nginx": "tests/unit/test_readme.py",
    r"ansible-doc .* flaskfleet\.web\.flask_gunicorn_nginx": "tests/unit/test_collection.py",
    r"cp -r inventory/production inventory/shop": "tests/unit/test_documentation.py",
}
# What no test runs, and why.
NOT_RUN = {
    r"\$EDITOR .*|ansible-vault (edit|view) .*": "a person writes there; tests/unit/test_readme.py loads the files",
    r"promtool check rules .*": "of Prometheus: tests/unit/test_metrics_docs.py runs it where it is",
    r"pip-audit .*": "asks a service of vulnerabilities; what it writes is read in tests/unit/flaskctl/test_sbom.py",
}
# What a target of make runs, and the stage of `make test` that runs the same; else why none does.
TARGETS = {
    "tools.demo up": "demo",
    "tools.compose up": "compose",
    "tools.check": "unit",
    "tools.demo down": "removes a container: tests/unit/tools/test_tools_demo.py",
    "tools.compose down": "removes containers: test_down_leaves_nothing_but_the_images of the stage compose",
    "tools.docs": "a job of its own in the workflow",
    "tools.collection": "unit",
    "tools.vm": "half an hour and more: docs/platforms.md",
    "tools.apps": "half an hour",
    "tools.audit": "half an hour",
    "tools.mutants": "minutes of all cores",
    "tools.soak": "hours",
    "bench.serving": "half an hour",
    "bench.fleet": "an hour",
}


def begins(line: str, programs: tuple[str, ...]) -> bool:
    """Whether a line begins with one of these programs."""
    names = "|".join(re.escape(name) for name in programs)
    return re.match(rf"{SET_FOR_IT}(?:{names})(?: |$)", line) is not None


@dataclass(frozen=True)
class Command:
    """A command as a page has it, whole but for the comment behind it."""

    page: str
    line: str


@dataclass(frozen=True)
class Block:
    """A block of a page, and what it is."""

    page: str
    text: str
    kind: str  # commands, yaml, python, ini, picture, or unknown; of a fence what it says

    @property
    def commands(self) -> list[str]:
        """Return its commands, without what a comment says."""
        lines = [re.sub(r"(^|\s+)#\s.*", "", line).strip() for line in joined(self.text).splitlines()]
        return [line for line in lines if line] if self.kind == "commands" else []


def kind_of(text: str) -> str:
    """Return what a block without a word of its kind is."""
    lines = [line for line in Block("", text, "commands").commands]
    if lines and all(begins(line, PROGRAMS) for line in lines):
        return "commands"
    try:
        if isinstance(yaml.safe_load(text), dict | list):
            return "yaml"
    except yaml.YAMLError:
        pass
    if re.match(r"\[\w+\]\n", text):
        return "ini"
    try:
        ast.parse(text)
    except SyntaxError:
        return "unknown"
    return "python"


FENCES = {"sh": "commands", "text": "picture", "": "unknown", "bash": "unknown", "console": "unknown"}


@cache
def blocks() -> list[Block]:
    """Return all blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(str(page.relative_to(REPOSITORY)), page.read_text())]


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page, those between fences and those that are indented."""
    for found in FENCE.finditer(text):
        yield Block(page, textwrap.dedent(found[3]), FENCES.get(found[1], found[1]))
    for indented in re.findall(r"(?m)(?:^ {4,}\S.*\n)+", FENCE.sub("", text)):
        block = textwrap.dedent(indented)
        yield Block(page, block, "picture" if page in PICTURES else kind_of(block))


def is_whole(code: str) -> bool:
    """Whether words in a text are a command: `flaskctl stage` alone is a name for what flaskctl does."""
    least = {"flaskctl": 3, "sudo": 4, "PLAY": 2, "ansible-vault": 3}
    return code not in TALKED_ABOUT and len(code.split()) >= least.get(code.split()[0], 2)


def commands() -> list[Command]:
    """Return each command of the pages once for each page: those of blocks, and of our own programs in the text too."""
    found = [Command(block.page, line) for block in blocks() for line in block.commands]
    for page in PAGES:
        text = " ".join(FENCE.sub("", page.read_text()).split())
        inline = (code for code in re.findall(r"`([^`]+)`", text) if begins(code, OURS) and is_whole(code))
        found += [Command(str(page.relative_to(REPOSITORY)), code) for code in inline]
    return list(dict.fromkeys(found))


def expanded(command: Command) -> str:
    """Return a command with what its page says that PLAY stands for."""
    if not command.line.startswith("PLAY"):
        return command.line
    stands = re.search(r"`PLAY`(?: stands)? for `([^`]+)`", (REPOSITORY / command.page).read_text())
    assert stands, f"{command.page} does not say what PLAY stands for"
    return command.line.replace("PLAY", stands[1], 1)


# what Jinja and words of a page stand for in an example
EXAMPLES = {"inventory_dir": "/home/me/site/inventory", "playbook_dir": "/home/me/site", "inventory_hostname": "web1"}
WORDS = {"AAAA...": "AAAAC3NzaC1lZDI1NTE5AAAAIHN0YW5kcyBmb3IgYSBrZXkgb2YgMzIgYnl0ZXM=", ": FILE": ": /home/me/FILE"}


def rendered(text: str) -> str:
    """Return YAML with what it would have in somebody's inventory."""
    for word, stands in WORDS.items():
        text = text.replace(word, stands)
    return re.sub(r"{{ (\w+) }}", lambda found: EXAMPLES.get(found[1], "not-a-secret"), text)


def variables() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the role's variables of each block, and of each one that stands in the text."""
    for block in blocks():
        if block.kind == "yaml":
            for part in alternatives(block.text):
                yield from ((block.page, values) for values in of_role(yaml.safe_load(rendered(part))))
    for page in PAGES:
        text = " ".join(FENCE.sub("", page.read_text()).split())
        for code in re.findall(rf"`({VARIABLE}\w+: [^`]+)`", text):
            yield str(page.relative_to(REPOSITORY)), yaml.safe_load(rendered(code))


def alternatives(text: str) -> list[str]:
    """Return a block that has the same variable on several lines as one for each line: they are alternatives."""
    names = re.findall(r"(?m)^(\w+):", text)
    return text.splitlines() if len(names) > len(set(names)) else [text]


def of_role(data: Any) -> Iterator[dict[str, Any]]:
    """Yield dictionaries of the role's variables, those of plays and roles too."""
    if isinstance(data, list):
        for each in data:
            yield from of_role(each)
    elif isinstance(data, dict):
        found = {name: value for name, value in data.items() if str(name).startswith(VARIABLE)}
        if found:
            yield found
        for name, value in data.items():
            if name not in found:
                yield from of_role(value)
