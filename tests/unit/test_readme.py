"""Every command of the README is run: here, by `make test` itself, or on the test hosts.

A command without an entry in RUN_BY fails the first test, so that nobody adds one that nothing runs.
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

# the command's first words, and where it is run
RUN_BY = {
    "make demo": "tools/check.py, stage demo",
    "make test": "CI",
    "git clone": "CI starts from a clone",
    "$EDITOR": "a person",
    "rm inventory/production": "test_a_vault_of_ones_own_takes_the_place_of_the_example",
    "ansible-vault create": "test_a_vault_of_ones_own_takes_the_place_of_the_example",
    "ansible-playbook -i inventory/production": "test_the_production_inventory_loads_with_its_documented_password",
    "flaskctl hello": "test_flaskctl_knows_the_commands and tests/integration",
}


def commands() -> list[str]:
    """Return the commands of the README's indented blocks, without their comments."""
    lines = re.findall(r"(?m)^    (\S.*)$", README)
    return [part.strip() for line in lines for part in re.sub(r"\s+#\s.*", "", line).split("&&")]


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_command_of_the_readme_is_run_somewhere() -> None:
    assert commands()
    strangers = [command for command in commands() if not command.startswith((*RUN_BY, "cd "))]
    assert not strangers, f"not run by anything: {strangers}"


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


def test_a_vault_of_ones_own_takes_the_place_of_the_example(password: Path, tmp_path: Path) -> None:
    vault = tmp_path / "vault.yml"
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho 'vault_secret_key: mine' > \"$1\"\n")
    editor.chmod(0o755)
    terminal, side = pty.openpty()  # ansible-vault opens an editor on a terminal only
    subprocess.run(
        [str(BIN / "ansible-vault"), "create", f"--vault-password-file={password}", str(vault)],
        env={**os.environ, "EDITOR": str(editor)},
        stdin=side,
        stdout=side,
        stderr=side,
        check=True,
    )
    os.close(side)
    os.close(terminal)
    assert vault.read_text().startswith("$ANSIBLE_VAULT")
    assert "mine" in run("ansible-vault", "view", f"--vault-password-file={password}", str(vault)).stdout


def test_the_documentation_of_the_variables_can_be_read_as_the_readme_says() -> None:
    assert "`ansible-doc -t role -r roles flask_gunicorn_nginx`" in README
    done = run("ansible-doc", "-t", "role", "-r", "roles", "flask_gunicorn_nginx")
    assert done.returncode == 0, done.stderr
    assert "flask_gunicorn_nginx_health_path" in done.stdout


def test_flaskctl_knows_the_commands_that_the_readme_names() -> None:
    flaskctl = ROOT / "roles/flask_gunicorn_nginx/files/flaskctl.py"
    named = {command.split()[2] for command in commands() if command.startswith("flaskctl hello")}
    assert {"status", "rollback"} <= named
    for name in named:
        argv = [sys.executable, str(flaskctl), "hello", name, "--help"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
