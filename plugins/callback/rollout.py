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
  - Shows the phases of a run with their hosts and seconds, in place on a terminal and as lines in a log. Of the phase
    that runs, since when, which batch, and how many hosts are done; in a log after 20 seconds.
  - What failed is said once, with the hosts that it failed on, and so is a difference (C(--diff)) or a message that is
    the same on several hosts. A failure that is ignored, or that a C(rescue) takes care of, is said as such.
  - Tasks of others in the same play have lines of their own, by their names.
  - With C(-v) the output is that of P(ansible.builtin.default#callback).
requirements:
  - Set as C(stdout_callback) in C(ansible.cfg) or in E(ANSIBLE_STDOUT_CALLBACK).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

import atexit
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.release import __version__
from ansible_collections.flaskfleet.web.plugins.plugin_utils import spec
from ansible_collections.flaskfleet.web.plugins.plugin_utils.phases import (
    ROLE,
    app_of,
    delegate_of,
    hooked,
    label_of,
    ours,
    phase_for,
    rescuer,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.progress import Batches, Phase, Watch
from ansible_collections.flaskfleet.web.plugins.plugin_utils.told import (
    FAILED_NAMES,
    listed,
    origin,
    plain,
    why,
    words,
)

OLDEST = (2, 19)  # of ansible-core; what results are asked for here is not in older ones
OWN = f"{Path(__file__).resolve().parents[2] / 'roles'}{os.sep}"  # a place there tells a user nothing
COLORS = {
    "failed": constants.COLOR_ERROR,
    "unreachable": constants.COLOR_UNREACHABLE,
    "failed, ignored": constants.COLOR_WARN,
    "changed": constants.COLOR_CHANGED,
    "": constants.COLOR_OK,
}


class Failure(NamedTuple):
    """Why a task failed: the parts of the text, and where."""

    parts: list[str]
    hosts: list[str]


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
        if tuple(int(part) for part in __version__.split(".")[:2]) < OLDEST:
            # or each event would be a warning, and nothing else be shown
            raise AnsibleError(
                f"flaskfleet.web needs ansible-core {'.'.join(map(str, OLDEST))} or newer, and this is {__version__}:"
                " pip install --upgrade ansible-core"
            )
        # so that the processes which Ansible makes for each host and task have it already
        spec.entry_points()
        self.phase: Phase | None = None
        self.running = ""  # the phase that the role is in, also while a task of somebody else runs
        self.role: Any = None  # that the last task was of, where it is this one
        self.failures: dict[str, Failure] = {}
        self.pending: list[str] = []
        self.kept: dict[tuple[str, str | None], list[str]] = {}
        self.tables = ""  # what the role has told of its hosts
        self.selected: set[bool] = set()  # whether of the role, for each task that --tags has chosen
        self.role_was_here = False
        self.terminal = sys.stdout.isatty()
        self.hosts: list[str] = []  # of the play
        self.batches = Batches()
        self.watch = Watch(self.say_so_far)

    # What stands on the screen

    def say(self, text: str, color: str | None = None) -> None:
        """Print a text, above the line that shows the phase that runs."""
        self.clear()
        self._display.display(text, color=color)

    def clear(self) -> None:
        """Take the line that shows the phase that runs off the terminal."""
        if self.terminal:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    def width(self) -> int:
        """Return how wide the terminal is; of a log as wide as is read well."""
        return shutil.get_terminal_size().columns if self.terminal else 80

    def progress(self) -> None:
        """Show on a terminal which phase runs, and since when."""
        if self.terminal and self.phase:
            text = f"  {self.phase.name} {self.phase.so_far()} ..."[: self.width() - 1]  # a line that wraps stays
            print(f"\r\033[K{text}", end="\r", flush=True)

    def say_so_far(self, phase: Phase) -> None:
        """Print in a log how far a phase is that takes long."""
        self.say(f"  {phase.name:<12} {phase.so_far()} ...")
        sys.stdout.flush()

    def begin_phase(self, name: str) -> None:
        """Begin with a phase, or with what is none."""
        self.phase = Phase(name, time.time()) if name else None
        if not self.terminal:
            self.watch.over(self.phase)

    def end_phase(self) -> None:
        """Print the line of the phase that ends here, if any host had something to do in it."""
        self.watch.over(None)
        if self.phase and self.phase.hosts:
            self.say(self.phase.line(time.time(), self.width()), COLORS[self.phase.worst()])
        self.phase = None

    def tell(self, failures: Iterable[str], tables: str = "") -> None:
        """Print failures, each once, with the hosts that it is the same on, but for what a table has told."""
        for text in failures:
            failure = self.failures.pop(text, None)
            if failure and not (tables and all(words(part) in tables for part in failure.parts)):
                hosts = listed(sorted(set(failure.hosts)), FAILED_NAMES)
                self.say(f"{hosts}: {text}", constants.COLOR_ERROR)

    def end_task(self) -> None:
        """Print what was kept of the last task: differences, messages, and failures that nothing takes care of."""
        if self.pending or any(color for _text, color in self.kept):
            self.end_phase()
        for (text, color), hosts in self.kept.items():
            prefix = f"{listed(sorted(set(hosts)))}: " if any(hosts) else ""
            self.say(prefix.rstrip() + "\n" + text if prefix and "\n" in text else prefix + text, color)
        self.tell(self.pending)
        self.kept, self.pending = {}, []

    def keep(self, text: str, host: str, color: str | None = None) -> None:
        """Keep a text until all hosts are through with the task, for it may be the same on all of them."""
        self.kept.setdefault((text, color), []).append(host)

    def keep_failure(self, result: Any, ignored: bool = False) -> None:
        """Keep why a task failed. What the role takes care of its table tells; what is not told then, the end tells."""
        parts = why(result.result, context.CLIARGS.get("inventory") or ())
        if result.result.get("ansible_loop_var"):
            parts[0] = f"(item={plain(str(self._get_item_label(result.result)))}) {parts[0]}"
        rescue = rescuer(result.task)
        if ignored or (rescue and not ours(rescue)):
            note = "ignored" if ignored else "taken care of by a rescue"
            self.keep("\n".join([f"{parts[0]} ({note})", *parts[1:]]), label_of(result), constants.COLOR_WARN)
            return
        place = origin(result.exception)
        text = "\n".join([*parts, *([f"at {place}"] if place and not place.startswith(OWN) else [])])
        self.failures.setdefault(text, Failure(parts, [])).hosts.append(label_of(result))
        if not rescue:
            self.pending.append(text)

    def warn(self, result: Any) -> None:
        """Print the warnings that came with a result."""
        if result.warnings or result.deprecations:
            self.clear()
        self._handle_warnings(result.result)

    def note(self, result: Any, outcome: str) -> None:
        """Keep what happened on a host."""
        if self.phase and result.task.action not in constants._ACTION_SET_FACT:  # which the host hears nothing of
            host = result.host.get_name()
            self.phase.note(delegate_of(result) or host if result.task.run_once else host, outcome)
        self.end_host(result)

    def end_host(self, result: Any) -> None:
        """Keep that a host is through with the task."""
        if self.phase:
            self.phase.done.add(result.host.get_name())
        self.progress()

    def enter(self, task: Any) -> None:
        """Name the app where the role begins with another one."""
        if task._role is not self.role:
            self.role = task._role
            if app_of(task):
                self.end_phase()
                self.say(f"{app_of(task)}:")

    def begin(self, task: Any) -> None:
        """Begin with a task: a phase of its own, or another step of the one that runs."""
        self.end_task()
        name = phase_for(task, self.running)
        if ours(task):
            self.running = name
            self.enter(task)
        if not self.phase or name != self.phase.name:
            self.end_phase()
            self.begin_phase(name)
        if self.phase:
            batch = task.get_vars().get(f"__{ROLE}_batch") if self.batches.hosts and hooked(task) else None
            hosts = batch or self.hosts
            self.phase.begin(hosts[:1] if task.run_once else hosts, self.batches.place(hosts) if batch else "")
        if not task.action.endswith("pause"):  # which asks on this line
            self.progress()

    # What Ansible tells

    @quiet
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Say nothing: what runs is the user's own command."""
        atexit.register(self.cut)

    def cut(self) -> None:
        """Tell what was not told yet, where Ansible ends before the end: on ctrl-C, or on an error of its own."""
        if self.phase:
            name = self.phase.name
            self.tell_the_rest()
            again = " Run the same command again: it finishes or undoes what was begun on a host."
            self.say(f"The run was cut in: {name}.{again if self.role else ''}", constants.COLOR_ERROR)

    @quiet
    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.end_task()
        self.end_phase()
        self._play, self.role, self.running, self.batches = play, None, "", Batches()
        self.hosts = play.get_variable_manager().get_vars(play=play, include_hostvars=False)["ansible_play_batch"]
        self.say(play.get_name().strip() + (" (check mode: nothing is changed)" if play.check_mode else ""))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        of_role = ours(task)
        self.role_was_here = self.role_was_here or of_role
        if "always" not in task.tags:
            self.selected.add(of_role)
        if self._display.verbosity:
            super().v2_playbook_on_task_start(task, is_conditional)
        else:
            self.begin(task)

    @quiet
    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.begin(task)

    @quiet
    def v2_runner_on_ok(self, result: Any) -> None:
        self.warn(result)
        if isinstance(result.task, TaskInclude):
            return
        if result.task.action not in constants._ACTION_DEBUG:
            self.note(result, "changed" if result.result.get("changed") else "")
        elif not (result.task.loop and "results" in result.result):  # each item has told its own
            self.keep_message(result)

    def keep_message(self, result: Any) -> None:
        """Keep what a debug task has to say."""
        text = self.told(result.result)
        if ours(result.task):
            self.tables += f" {words(text)}"
        self.keep(text, "" if result.task.run_once else result.host.get_name())

    def told(self, result: dict[str, Any]) -> str:
        """Return what a debug task has to say."""
        said = result.get("msg")
        if isinstance(said, str):
            return str(plain(said))
        if isinstance(said, list) and all(isinstance(line, str) for line in said):
            return str(plain("\n".join(said)))
        shown = {name: value for name, value in result.items() if name not in ("changed", "failed")}
        return str(self._dump_results(shown)).strip("\n")

    @quiet
    def v2_runner_on_skipped(self, result: Any) -> None:
        self.warn(result)
        self.end_host(result)

    @quiet
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.warn(result)
        self.note(result, "failed, ignored" if ignore_errors else "failed")
        if not (result.task.loop and "results" in result.result):  # each item has told its own
            self.keep_failure(result, ignore_errors)

    @quiet
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.warn(result)
        self.note(result, "unreachable")
        parts = why(result.result)
        self.failures.setdefault("\n".join(parts), Failure(parts, [])).hosts.append(label_of(result))

    @quiet
    def v2_runner_item_on_ok(self, result: Any) -> None:
        self.warn(result)
        if result.task.action in constants._ACTION_DEBUG:
            self.keep_message(result)

    @quiet
    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Say nothing of an item that is skipped."""

    @quiet
    def v2_runner_item_on_failed(self, result: Any) -> None:
        self.warn(result)
        self.keep_failure(result, bool(result.task.ignore_errors))

    @quiet
    def v2_runner_retry(self, result: Any) -> None:
        self.progress()

    @quiet
    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing of files that are included; those of a rollout's batches tell how many there are."""
        batch = included_file._vars.get(f"__{ROLE}_batch")
        if batch:
            self.batches.note(included_file._task._uuid, batch)

    @quiet
    def v2_on_file_diff(self, result: Any) -> None:
        results = result.result["results"] if result.task.loop and "results" in result.result else [result.result]
        for each in results:
            text = self._get_diff(each["diff"]) if each.get("diff") and each.get("changed") else ""
            if text:
                self.keep(text, result.host.get_name())

    @quiet
    def v2_playbook_on_no_hosts_matched(self) -> None:
        asked = [self._play.hosts] if isinstance(self._play.hosts, str) else self._play.hosts
        self.say(f"no hosts matched: the inventory has none in {', '.join(map(str, asked))}", constants.COLOR_SKIP)

    @quiet
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing: why each host left is told."""

    def tell_the_rest(self) -> None:
        """Print all that was kept."""
        self.end_task()
        self.end_phase()
        self.tell(list(self.failures), self.tables)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self.tell_the_rest()
        tags = ",".join(tag for tag in context.CLIARGS.get("tags") or () if tag != "all")
        if tags and not self.selected:
            self.say(f"--tags {tags} selects no task but those that always run: nothing was done.")
        elif tags and self.role_was_here and True not in self.selected:
            self.say(f"--tags {tags} selects nothing of the role {ROLE} but its checks: nothing was released.")
        self.clear()
        super().v2_playbook_on_stats(stats)
