"""Testers of what is in the repository: bandit of its Python, zizmor of its workflows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tools.audit.places import version
from tools.audit.table import Found
from tools.run import ROOT

BANDIT = ("--configfile", "pyproject.toml", "--severity-level", "medium", "--recursive", ".")
ZIZMOR = ("--offline", "--no-progress", "--persona", "regular", ".github/workflows")


def program(name: str) -> str:
    """A program of the environment that runs this."""
    return str(Path(sys.executable).with_name(name))


def bandit() -> Found:
    """Nothing of medium severity or above; what is so on purpose says why in its line."""
    argv = [program("bandit"), "--format", "json", "--quiet", *BANDIT]
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    results = json.loads(said.stdout)["results"]
    wrong = [f"{each['filename']}:{each['line_number']} {each['issue_text']}" for each in results]
    command = f"bandit {' '.join(BANDIT)}"
    return Found(f"bandit {version('bandit')}", command, "the repository", f"{len(wrong)}", "0 medium or high", wrong)


def zizmor() -> Found:
    """Nothing at all."""
    said = subprocess.run([program("zizmor"), *ZIZMOR], cwd=ROOT, capture_output=True, text=True, check=False)
    wrong = [] if said.returncode == 0 else [(said.stdout + said.stderr)[-1500:]]
    figure = "no findings" if not wrong else "findings"
    command = f"zizmor {' '.join(ZIZMOR)}"
    return Found(f"zizmor {version('zizmor')}", command, "the repository", figure, "none", wrong)
