# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a person reads while a playbook runs: a line for each phase, and each failure once."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: stdout
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: A rollout on one screen
description:
  - Shows the phases of a run with their hosts and seconds, in place on a terminal and as lines in a log.
  - What failed is said once, with the hosts that it failed on, and so is a difference (C(--diff)) that is the same on
    several hosts.
  - With C(-v) the output is that of P(ansible.builtin.default#callback).
requirements:
  - Set as C(stdout_callback) in C(ansible.cfg) or in E(ANSIBLE_STDOUT_CALLBACK).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

import functools
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible import constants, context
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

# The task files of the role that a person would name; a task of the others goes on with the phase that runs.
PHASES = (
    *("preflight", "package", "install", "stage", "migrate", "switch", "bake", "revert"),
    *("rollback", "restart", "remove", "status", "upgrade_os"),
)
ENDS_A_PHASE = ("batch", "unlock", "report")  # each batch has a line of its own
NAMES = 3  # hosts up to this many are named
UNDEFINED = re.compile(r"'(\w+)' is undefined")
LAST_LINES = 15  # of what a failed command printed
COLORS = {
    "failed": constants.COLOR_ERROR,
    "unreachable": constants.COLOR_UNREACHABLE,
    "changed": constants.COLOR_CHANGED,
    "": constants.COLOR_OK,
}


def name_of(task: Any) -> str:
    """Return the name of a task; that of the one which Ansible makes of an argument specification is a sentence."""
    if task.action.endswith("validate_argument_spec"):
        return "preflight | Validate the arguments"
    return str(task.get_name().strip())


def phase_of(name: str, running: str) -> str:
    """Return the phase that a task belongs to: the one that runs, another, or none."""
    name = name.rpartition(" : ")[2]
    file, bar, _ = name.partition(" | ")
    if not bar:
        return name
    if file in ENDS_A_PHASE:
        return ""
    return file if file in PHASES else running


def listed(hosts: Iterable[str]) -> str:
    """Return a few hosts by name, more of them as a number."""
    names = list(hosts)
    return ", ".join(names) if len(names) <= NAMES else f"{len(names)} hosts"


def seconds(duration: float) -> str:
    """Return a duration in seconds as a person reads it."""
    if duration < 60:
        return f"{duration:.1f} s"
    return f"{int(duration) // 60} min {int(duration) % 60:02} s"


def words(text: str) -> str:
    """Return a text without its line breaks and blanks, to see whether another has it."""
    return " ".join(text.split())


def why(result: Mapping[str, Any]) -> str:
    """Return why a task failed, in its own words: the message, and of a command the end of what it printed."""
    said = [str(result.get("msg") or "").strip()]
    for stream in ("module_stderr", "stderr", "stdout"):
        text = str(result.get(stream) or "").strip()
        if text and words(text) not in words(said[0]):
            said.append("\n".join(text.splitlines()[-LAST_LINES:]))
            break
    missing = UNDEFINED.search(said[0])
    if missing:
        said.append(
            f"Define {missing[1]} where the inventory keeps the variables of these hosts, such as"
            " group_vars/flask_app/vault.yml for a secret: ansible-vault edit FILE."
        )
    return "\n".join(filter(None, said)) or "it failed, and says nothing"


class Phase:
    """A part of a run: since when it runs, and how far each host has come in it."""

    WORST = ("failed", "unreachable", "changed", "")

    def __init__(self, name: str, now: float) -> None:
        self.name, self.began = name, now
        self.hosts: dict[str, str] = {}

    def note(self, host: str, outcome: str) -> None:
        """Keep the worst of what happened on a host."""
        self.hosts[host] = min(outcome, self.hosts.get(host, ""), key=self.WORST.index)

    def worst(self) -> str:
        """Return the worst of what happened on any host."""
        return min(self.hosts.values(), key=self.WORST.index)

    def line(self, now: float) -> str:
        """Return what happened, as a line."""
        by: dict[str, list[str]] = {}
        for host, outcome in sorted(self.hosts.items()):
            by.setdefault(outcome, []).append(host)
        parts = [f"{listed(by[outcome])} {outcome}".rstrip() for outcome in self.WORST if outcome in by]
        if len(parts) > 1 and "" in by:
            parts[-1] += " unchanged"
        return f"  {self.name:<12} {'; '.join(parts):<50} {seconds(now - self.began):>12}"


def quiet(method: Callable[..., None]) -> Callable[..., None]:
    """Leave an event to Ansible's own output where more was asked for with -v."""

    @functools.wraps(method)
    def chosen(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if self._display.verbosity:
            getattr(Default, method.__name__)(self, *args, **kwargs)
        else:
            method(self, *args, **kwargs)

    return chosen


class CallbackModule(Default):  # type: ignore[misc]
    """The output of a run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flaskfleet.web.rollout"

    def __init__(self) -> None:
        super().__init__()
        self.phase: Phase | None = None
        self.failures: dict[str, list[str]] = {}
        self.pending: list[str] = []
        self.diffs: dict[str, list[str]] = {}
        self.shown = ""
        self.selected = False
        self.terminal = sys.stdout.isatty()

    # What stands on the screen

    def say(self, text: str, color: str | None = None) -> None:
        """Print a text, above the line that shows the phase that runs."""
        self.clear()
        self._display.display(text, color=color)
        self.shown += f" {words(text)}"

    def clear(self) -> None:
        """Take the line that shows the phase that runs off the terminal."""
        if self.terminal:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    def progress(self) -> None:
        """Show on a terminal which phase runs, and since when. A warning of Ansible's may be written over it."""
        if self.terminal and self.phase:
            since = time.strftime("%H:%M:%S", time.localtime(self.phase.began))
            done = f", {listed(sorted(self.phase.hosts))} so far" if self.phase.hosts else ""
            sys.stdout.write(f"\r\033[K  {self.phase.name} since {since}{done} ...\r")
            sys.stdout.flush()

    def end_phase(self) -> None:
        """Print the line of the phase that ends here, if any host had something to do in it."""
        if self.phase and self.phase.hosts:
            self.say(self.phase.line(time.time()), COLORS[self.phase.worst()])
        self.phase = None

    def tell(self, failures: Iterable[str]) -> None:
        """Print failures, each once, with the hosts that it is the same on."""
        for text in failures:
            if words(text) not in self.shown:
                self.say(f"{listed(sorted(set(self.failures[text])))}: {text}", constants.COLOR_ERROR)

    def end_task(self) -> None:
        """Print what was kept of the last task: differences, and failures that nothing takes care of."""
        for text, hosts in self.diffs.items():
            self.say(f"{listed(hosts)}:\n{text}")
        self.diffs = {}
        if self.pending:
            self.end_phase()
            self.tell(self.pending)
            self.pending = []

    def keep_failure(self, result: Any) -> None:
        """Keep why a task failed: what takes care of it tells it later; what was not told then, the end tells."""
        text = why(result.result)
        self.failures.setdefault(text, []).append(self.host_label(result))
        if not rescued(result.task):
            self.pending.append(text)

    # What Ansible tells

    @quiet
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Say nothing: what runs is the user's own command."""

    @quiet
    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.end_phase()
        self._play = play
        self.say(play.get_name().strip() + (" (check mode: nothing is changed)" if play.check_mode else ""))

    @quiet
    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.end_task()
        self.selected = self.selected or "always" not in task.tags
        name = phase_of(name_of(task), self.phase.name if self.phase else "")
        if not self.phase or name != self.phase.name:
            self.end_phase()
            self.phase = Phase(name, time.time()) if name else None
        self.progress()

    @quiet
    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def note(self, result: Any, outcome: str) -> None:
        """Keep what happened on a host."""
        if self.phase and result.task.action not in constants._ACTION_SET_FACT:  # which the host hears nothing of
            host = (
                result.task.delegate_to if result.task.run_once and result.task.delegate_to else result.host.get_name()
            )
            self.phase.note(host, outcome)
        self.progress()

    @quiet
    def v2_runner_on_ok(self, result: Any) -> None:
        self._handle_warnings(result.result)
        if isinstance(result.task, TaskInclude):
            return
        if result.task.action in constants._ACTION_DEBUG:
            self.end_phase()
            self.say(("" if result.task.run_once else f"{result.host.get_name()}: ") + told(result.result))
        else:
            self.note(result, "changed" if result.result.get("changed") else "")

    @quiet
    def v2_runner_on_skipped(self, result: Any) -> None:
        self._handle_warnings(result.result)

    @quiet
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._handle_warnings(result.result)
        if ignore_errors:
            self.note(result, "")
            return
        self.note(result, "failed")
        if not (result.task.loop and "results" in result.result):  # each item has told its own
            self.keep_failure(result)

    @quiet
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.note(result, "unreachable")
        self.failures.setdefault(why(result.result), []).append(result.host.get_name())

    @quiet
    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._handle_warnings(result.result)
        if result.task.action in constants._ACTION_DEBUG:
            self.end_phase()
            self.say(told(result.result))

    @quiet
    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Say nothing of an item that is skipped."""

    @quiet
    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._handle_warnings(result.result)
        if not result.task.ignore_errors:
            self.keep_failure(result)

    @quiet
    def v2_runner_retry(self, result: Any) -> None:
        self.progress()

    @quiet
    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing of files that are included."""

    @quiet
    def v2_on_file_diff(self, result: Any) -> None:
        results = result.result["results"] if result.task.loop and "results" in result.result else [result.result]
        for each in results:
            text = self._get_diff(each["diff"]) if each.get("diff") and each.get("changed") else ""
            if text:
                self.diffs.setdefault(text, []).append(result.host.get_name())

    @quiet
    def v2_playbook_on_no_hosts_matched(self) -> None:
        self.say("no hosts matched", constants.COLOR_SKIP)

    @quiet
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing: why each host left is told."""

    @quiet
    def v2_playbook_on_stats(self, stats: Any) -> None:
        self.end_task()
        self.end_phase()
        self.tell(self.failures)
        tags = [tag for tag in context.CLIARGS.get("tags") or () if tag != "all"]
        if tags and not self.selected:
            self.say(f"--tags {','.join(tags)} selects no task but those that always run: nothing was done.")
        super().v2_playbook_on_stats(stats)


def rescued(task: Any) -> bool:
    """Tell whether a block around a task takes care of its failure."""
    return any(getattr(block, "rescue", None) for block in parents(task))


def parents(task: Any) -> Iterator[Any]:
    """Yield what a task stands in, from the inside to the outside."""
    block = task._parent
    while block is not None:
        yield block
        block = block._parent


def told(result: Mapping[str, Any]) -> str:
    """Return what a debug task has to say."""
    said = result.get("msg")
    if said is None:
        return "\n".join(
            f"{name}: {value}" for name, value in result.items() if not name.startswith("_") and name != "changed"
        )
    return "\n" + "\n".join(map(str, said)) if isinstance(said, list) else str(said)
