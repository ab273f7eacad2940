"""What a test gives to flaskctl: archives, configurations, what a journal says."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TRACEBACK = """\
[2026-11-22 21:16:20 +0000] [676] [INFO] Starting gunicorn 27.0.1
Traceback (most recent call last):
  File "/srv/hello/releases/{id}/venv/lib/python3.11/site-packages/gunicorn/arbiter.py", line 752, in spawn_worker
    worker.init_process()
  File "/srv/hello/releases/{id}/app/app.py", line 1, in <module>
    import nosuchthing
ModuleNotFoundError: No module named 'nosuchthing'
[2026-11-22 21:16:20 +0000] [676] [ERROR] Worker (pid:722) exited with code 3.
Traceback (most recent call last):
  File "/srv/hello/releases/{id}/venv/lib/python3.11/site-packages/gunicorn/arbiter.py", line 683, in reap_workers
    raise HaltServer(reason, self.WORKER_BOOT_ERROR)
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>
"""


def archive(path: Path, files: Mapping[str, str | bytes], members: Sequence[tarfile.TarInfo] = ()) -> Path:
    """Write a .tar.gz of files by name, then of bare members (links, devices)."""
    with gzip.GzipFile(path, "wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def config(**changes: Any) -> str:
    """Return a stage configuration as the role sends it."""
    return json.dumps(
        {
            "gunicorn_conf": "workers = 2\n",
            "environment": {"GREETING": "hi"},
            "server_requirements": "gunicorn==27.0.1 --hash=sha256:0\ngevent==26.9.0 \\\n    --hash=sha256:1\n",
            "service": "[Service]\nUser=hello\n",
            "notes": {"by": "alice", "from": "ctl", "revision": "abc123"},
            **changes,
        }
    )


PROCESSES = {"worker-1": {"service": "[Service]\n"}, "tick": {"service": "[Service]\n", "timer": "[Timer]\n"}}
