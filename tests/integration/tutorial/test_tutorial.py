"""docs/tutorial.md, word by word: by a new user at a desk, from an empty directory to an app with users."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.tutorial import Block, blocks, is_printed
from tools.hosts import control_node_ca
from tools.run import ROOT, copy_tree, output

DESK, HOST, USER = "tutorial-desk-debian13", f"tutorial-{os.environ.get('HOST_1', 'debian13')}", "ada"
REPOSITORY = "/srv/flaskfleet"
PAGE = list(blocks(ROOT / "docs/tutorial.md"))
SECTIONS = list(dict.fromkeys(block.section for block in PAGE))
NAME = "flask_gunicorn_nginx_name: guestbook\n"


def replacements() -> dict[str, str]:
    """What differs from the page here, and nothing else does."""
    address = output(["docker", "container", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", HOST])
    assert address
    table = {"203.0.113.10": address.strip(), "name: REPOSITORY": f"name: git+file://{REPOSITORY}"}
    # where a proxy inspects TLS the hosts' pip has to trust it
    return table | (
        {NAME: f"{NAME}flask_gunicorn_nginx_pip: {{ca_bundle: /etc/ssl/control-node.crt}}\n"}
        if control_node_ca()
        else {}
    )


class Shell:
    """One shell of the new user, as a terminal is open from the first command to the last."""

    def __init__(self) -> None:
        self.table = replacements()
        argv = ["docker", "exec", "-i", "-u", USER, "-w", f"/home/{USER}", DESK, "bash", "--login"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, command: str) -> str:
        """Run a line, which must end well; what it printed."""
        for page, here in self.table.items():
            command = command.replace(page, here)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\nended with %s\\n' $?\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            ended = re.fullmatch(r"ended with (\d+)\n", line)
            if ended:
                assert ended[1] == "0", f"{command} ended with {ended[1]}:\n{said}"
                return said
            said += line
        raise AssertionError(f"the shell ended with {command}:\n{said}")

    def write(self, path: str, text: str) -> None:
        """Write a file as an editor does, into a directory that is there."""
        self.run(f"cat > {path} <<'END OF FILE'\n{text}END OF FILE")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The user's shell, and this repository, uncommitted changes too, where the page says REPOSITORY."""
    home = tmp_path_factory.mktemp("repository") / "flaskfleet"
    copy_tree(home)
    subprocess.run(["docker", "cp", str(home), f"{DESK}:/srv"], check=True, capture_output=True)
    commit = f"chown -R {USER}: {REPOSITORY} && cd {REPOSITORY} && su {USER} -c 'git init -q -b main && git add -A"
    commit += " && git -c user.name=Test -c user.email=test@example.com commit -q -m All'"
    subprocess.run(["docker", "exec", DESK, "sh", "-c", commit], check=True, capture_output=True)
    opened = Shell()
    yield opened
    opened.process.kill()


def go(shell: Shell, section: list[Block]) -> None:
    """Write the files, run the commands, and look for what the page says that they print, in the page's order."""
    said = ""
    missing: list[str] = []
    for block in section:
        if block.path:
            shell.write(block.path, block.text)
        elif block.kind == "sh":
            said = "".join(shell.run(command) for command in block.commands)
        else:
            missing += [f"{line!r} in\n{said}" for line in block.printed if not is_printed(line, said)]
    # at the end, so that what comes then still finds what it builds on
    assert not missing, "not printed: " + "\n".join(missing)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_leads_where_it_says(shell: Shell, section: str) -> None:
    """Each section builds on those before it."""
    go(shell, [block for block in PAGE if block.section == section])
