"""The way of the README to one's own hosts, word for word, in a clone and up to the hosts; and what else it names.

Who runs its other commands, and those of all pages: tests/documentation.py.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent

# what the hosts of a fleet are reached with; nobody is reached from here
NOBODY = "-o ProxyCommand=false"


def blocks() -> list[list[str]]:
    """Return the commands of each indented block, whole but for their comments."""
    found = [text.splitlines() for text in re.findall(r"(?m)(?:^    \S.*\n)+", README)]
    return [[re.sub(r"\s+#\s.*", "", line).strip() for line in lines] for lines in found]


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def block(command: str) -> list[str]:
    """Return the commands of the block that has this one."""
    (found,) = [lines for lines in blocks() if command in " ".join(lines)]
    return found


FLEET = block("git clone")


def answered(command: str, where: Path, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, answer a question for a password; return exit code and what it said."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(where)
        os.execve(
            "/bin/sh", ["sh", "-c", command], {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
        )
    said = ""
    while True:
        try:
            part = os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # how Linux tells that the other side has closed a terminal
            break
        said += part
        if not part:
            break
        if re.search(r"(?i)password(?: \(.*\))?: ?$", said):
            os.write(terminal, b"my own\n")
            said += "\n"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


def test_the_way_to_ones_own_hosts_is_gone_word_for_word(tmp_path: Path) -> None:
    """Up to the hosts, which nobody reaches from here: everything before the first contact has been right then."""
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\ncase $1 in\n*/hosts.yml|*/flask_gunicorn_nginx.yml) test -s $1 ;;\n"
        "*) echo 'vault_secret_key: mine' >$1 ;;\nesac\n"
    )
    editor.chmod(0o755)
    environment = {"EDITOR": str(editor), "ANSIBLE_SSH_EXTRA_ARGS": NOBODY, "ANSIBLE_NOCOLOR": "1", "TERM": "dumb"}
    where, runs = tmp_path, []
    for line in FLEET:
        command = line.replace("REPOSITORY", str(ROOT))
        code, said = answered(command, where, **environment)
        if " && cd " in command:
            where = tmp_path / command.rpartition(" ")[2]
        if command.startswith("ansible-playbook"):
            runs.append(said)
            assert code == 4 and "unreachable=1" in said and "failed=0" in said, said
            assert not re.search(r"failed=[1-9]", said), said
        else:
            assert code == 0, f"{command}: {said}"
    assert len(runs) == 2 and (where / "site.yml").exists()
    vault = where / "inventory/production/group_vars/flask_app/vault.yml"
    assert vault.read_text().startswith("$ANSIBLE_VAULT")


def test_the_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:inventory|roles|plugins|playbooks|tools|tests|molecule|files|docs)/[\w./@-]*)`", README)
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert named and links
    missing = [name for name in [*named, *links] if not (ROOT / name).exists()]
    assert not missing


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("example")
    return path


def test_the_production_inventory_loads_with_its_documented_password(password: Path) -> None:
    vault = f"--vault-password-file={password}"
    done = run("ansible-playbook", "-i", "inventory/production", vault, "--list-hosts", "--syntax-check", "site.yml")
    assert done.returncode == 0, done.stderr
    shown = run("ansible-inventory", "-i", "inventory/production", vault, "--host", "web1.example.com")
    assert "not-a-secret-this-is-the-example" in shown.stdout, shown.stderr


def test_the_documentation_of_the_variables_can_be_read_as_the_readme_says() -> None:
    assert "`ansible-doc -t role -r roles flask_gunicorn_nginx`" in README
    done = run("ansible-doc", "-t", "role", "-r", "roles", "flask_gunicorn_nginx")
    assert done.returncode == 0, done.stderr
    assert "flask_gunicorn_nginx_health_path" in done.stdout
