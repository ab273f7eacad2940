"""What a release may take of this host: how many tasks it is given, and which ceilings are in force. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flaskctl.server import Server

TASKS = 256  # for what the app starts beside its server: programs, pools, jobs
OF_A_WORKER = 32  # beside its own threads: gevent has ten that look names up, libraries have others
GTHREADS = 16  # what gunicorn.conf.py gives a worker of gthread at most
EVENTS = "memory.events"
# what stands in a control group, by what it limits: its file of cgroup v2, and in words what it counts
FILES = {"memory": "memory.max", "tasks": "pids.max", "cpu_weight": "cpu.weight"}
WORDS = {"memory": "memory", "tasks": "tasks", "cpu_weight": "CPU weight"}


def tasks_max(server: Server, processors: int) -> int:
    """Return how many threads and processes a release may have: what never hinders it, and stops a loop that forks."""
    threads = server.threads or (GTHREADS if "gthread" in server.worker_class else 0)
    return TASKS + (server.workers or max(2, processors)) * (threads + OF_A_WORKER)


def ceilings_drop_in(settings: Sequence[tuple[str, str]], server: Server, processors: int) -> str:
    """Return the drop-in with the tasks of a release; nothing where its unit has them already."""
    if any(key == "TasksMax" for key, _value in settings):
        return ""
    lines = ["# written by flaskctl: by the processors of this host", "[Service]"]
    return "\n".join([*lines, f"TasksMax={tasks_max(server, processors)}", ""])


def in_force(files: Mapping[str, str | None]) -> dict[str, int | None]:
    """Return the ceilings by name, from the files of a control group: 0 is none, None no controller of that kind."""
    found: dict[str, int | None] = {}
    for name, text in files.items():
        word = (text or "").strip()
        found[name] = int(word) if word.isdigit() else 0 if word == "max" else None
    return found


def killed_of(events: str | None) -> int:
    """Return how many processes the kernel has killed for want of memory, from a control group's memory.events."""
    found = dict(line.split() for line in (events or "").splitlines() if len(line.split()) == 2)
    return int(found.get("oom_kill", 0))


def memory_text(value: int, killed: int) -> str:
    """Return an amount in words, and what it has cost."""
    amount = f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    amount = amount if value else "without a limit"
    were = "1 process was" if killed == 1 else f"{killed} processes were"
    return f"{amount}, for want of which {were} killed since it started" if killed else amount


def ceilings_text(found: Mapping[str, int | None], killed: int = 0) -> str:
    """Return in words what is in force, and how many processes the kernel has killed for want of memory."""
    told = []
    for name, value in found.items():
        amount = memory_text(value or 0, killed) if name == "memory" else str(value or "without a limit")
        told += [f"{WORDS[name]} {amount}"] if value is not None else []
    absent = [WORDS[name] for name, value in found.items() if value is None]
    told += [f"not in force: {', '.join(absent)} (this host has no controller for it)"] if absent else []
    return "; ".join(told)
