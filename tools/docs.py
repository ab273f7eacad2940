"""Build the documentation as a site: `make docs`, into .cache/site; it fails on a link that leads nowhere.

The pages are those of docs/, the README, and a reference made of what the code itself says: every variable from the
role's argument specification, every command of flaskctl from its options, every playbook from its first line, every
plugin that has a name for users from its documentation.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools import manual
from tools.environments import Environment, at_hand, ensure_from
from tools.run import CACHE, LOGS, ROOT, Problem, logged, main, short, step, tail

LOCK_FILE = ROOT / "tools" / "docs-requirements.txt"
PAGES, SITE = CACHE / "docs", CACHE / "site"
SPEC = ROOT / "roles" / "flask_gunicorn_nginx" / "meta" / "argument_specs.yml"
# pages that stand at the top of the repository, by their name in the site
TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
MADE = "Made of {source} by tools/docs.py.\n"
# a link of Markdown to a file of this repository
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
# what a browser fetches by itself for a page, from another host; who made a page (canonical) and links are not fetched
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|link(?! rel="canonical"))\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"""
)
IN_STYLES = re.compile(r"""(?:url\(|@import )["']?((?:https?:)?//[^)"']+)""")
# what ansible-doc knows to mark: C(code), V(value), O(option), M(module) ...
MARKUP = re.compile(r"\b(?:[CVOMIBRPEU]|RV)\(([^)]*)\)")


class Wide(argparse.HelpFormatter):
    """Help as wide as a page, whatever terminal this runs in."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def as_markdown(text: str) -> str:
    """Return a sentence of an argument specification in Markdown."""
    return MARKUP.sub(lambda found: f"`{found[1]}`", text).replace("<", "&lt;")


def lines_of(description: str | Iterable[str]) -> list[str]:
    """Return a description, which is one sentence or a list of them, as sentences."""
    return [description] if isinstance(description, str) else list(description)


def variables(options: Mapping[str, Mapping[str, Any]], level: int = 2) -> str:
    """Return a heading and a text for each variable, those below it after it."""
    parts = []
    for name, option in options.items():
        facts = [f"*{option.get('type', 'str')}*"]
        if option.get("required"):
            facts.append("**required**")
        if "choices" in option:
            facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
        if "default" in option:
            facts.append(f"default `{yaml.safe_dump(option['default'], default_flow_style=True).splitlines()[0]}`")
        parts.append(f"{'#' * level} {name}\n\n{', '.join(facts)}\n")
        parts += [f"{as_markdown(text)}\n" for text in lines_of(option.get("description", []))]
        if "options" in option:
            parts.append(variables({f"{name}.{key}": below for key, below in option["options"].items()}, level + 1))
    return "\n".join(parts)


def reference_of_variables() -> str:
    """Return the page of all variables."""
    entries = yaml.safe_load(SPEC.read_text())["argument_specs"]
    known = entries["main"]["options"]
    parts = ["# Variables\n", MADE.format(source=f"`{SPEC.relative_to(ROOT)}`"), variables(known)]
    for name, entry in entries.items():
        own = {key: option for key, option in entry["options"].items() if key not in known}
        if own:
            parts += [f"## Of `tasks_from: {name}` alone\n", variables(own, 3)]
    return "\n".join(parts)


def reference_of_flaskctl() -> str:
    """Return the page of flaskctl's commands, as its help says them."""
    parts = ["# flaskctl\n", MADE.format(source="flaskctl's own options")]
    for name, command in sorted(manual.commands_of(manual.parser()).items()):
        command.prog = f"flaskctl NAME {name}"
        command.formatter_class = Wide
        parts.append(f"## {name}\n\n```text\n{command.format_help().strip()}\n```\n")
    return "\n".join(parts)


def reference_of_playbooks() -> str:
    """Return the page of the playbooks: what each says of itself before its first play."""
    parts = ["# Playbooks\n", MADE.format(source="`playbooks/`")]
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        said = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#")]
        play = yaml.safe_load(path.read_text())[0]["name"]
        text = " ".join(said) or play
        parts.append(f"## {path.stem}\n\n{text}\n\n    ansible-playbook flaskfleet.web.{path.stem}\n")
    return "\n".join(parts)


def documentation_of(path: Path) -> dict[str, Any]:
    """Return what a plugin or module says of itself, as ansible-doc reads it: the constant DOCUMENTATION, not run."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["DOCUMENTATION"]:
            said: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return said
    return {}


def reference_of_plugins() -> str:
    """Return the page of what is set or called by its name, and not only used by the role."""
    parts = ["# Plugins\n", MADE.format(source="what each plugin says of itself")]
    for kind in ("become", "callback", "lookup", "modules"):
        for path in sorted((ROOT / "plugins" / kind).glob("*.py")):
            said = documentation_of(path)
            name = said.get("name") or said["module"]
            text = "\n\n".join(as_markdown(line) for line in lines_of(said["description"]))
            parts.append(
                f"## flaskfleet.web.{name}\n\n*{kind.removesuffix('s')}*. {said['short_description']}.\n\n{text}\n"
            )
            if said.get("options"):
                parts.append(variables(said["options"], 3))
    return "\n".join(parts)


def linked(text: str, source: Path, names: Mapping[Path, str]) -> str:
    """Return a page whose links lead to pages of the site; a file that is none of them is named and not linked."""

    def replaced(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        path = (source.parent / target).resolve()
        if path in names:
            return f"[{words}]({names[path]}{anchor})"
        if not path.exists():
            raise Problem(f"{short(source)} links to {target}, and there is no such file.")
        name = str(path.relative_to(ROOT))
        return f"`{name}`" if words in (name, f"`{name}`", target) else f"{words} (`{name}`)"

    return LINK.sub(replaced, text)


def gather() -> None:
    """Write all pages where MkDocs finds them."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    docs = ROOT / "docs"
    names = {
        path: path.relative_to(docs).as_posix()
        for path in docs.rglob("*")
        if path.suffix in (".md", ".png", ".svg", ".cast", ".css")
    }
    names |= {ROOT / name: page for name, page in TOP.items() if (ROOT / name).exists()}
    for path, name in names.items():
        target = PAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(linked(path.read_text(), path, names))
        else:
            shutil.copy2(path, target)
    made = {
        "variables": reference_of_variables,
        "flaskctl": reference_of_flaskctl,
        "playbooks": reference_of_playbooks,
        "plugins": reference_of_plugins,
    }
    (PAGES / "reference").mkdir()
    for name, page in made.items():
        (PAGES / "reference" / f"{name}.md").write_text(page())


def elsewhere(site: Path) -> list[str]:
    """Return what the pages and style sheets of a site load from other hosts."""
    found = [
        f"{path.relative_to(site)}: {address}"
        for suffix, loads in ((".html", FETCHED), (".css", IN_STYLES), (".svg", IN_STYLES))
        for path in sorted(site.rglob(f"*{suffix}"))
        for address in loads.findall(path.read_text())
    ]
    return list(dict.fromkeys(found))


def build(environment: Environment) -> None:
    """Have MkDocs make the site; raises Problem with what it found wrong."""
    log = LOGS / "docs.log"
    argv = [str(environment.home / "bin" / "mkdocs"), "build", "--strict", "--clean", "--site-dir", str(SITE)]
    if logged(argv, log) != 0:
        raise Problem("The documentation could not be built.", tail(log))
    loaded = elsewhere(SITE)
    if loaded:
        raise Problem("Pages load something from elsewhere.", "\n".join(loaded))


def work() -> int:
    """The command line."""
    argparse.ArgumentParser(description="Build the documentation as a site.").parse_args()
    environment = ensure_from(LOCK_FILE, Environment(".cache/venv-docs", sys.executable, at_hand().version))
    with step("building the documentation"):
        gather()
        build(environment)
    print(f"{short(SITE)}/index.html")
    return 0


if __name__ == "__main__":
    main(work)
