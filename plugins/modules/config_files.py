# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Change a set of configuration files together, or not at all.

A program that its action (plugins/action/config_files.py) sends to the host: a JSON object in, one out, Python 3.9.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Change a set of configuration files together, or not at all
version_added: 0.1.0
description:
  - Puts all O(files) in place, has O(validate) judge the whole set, and then has O(apply) make the running program read
    it.
  - When a step fails, every file is put back as it was (content, mode, owner, link, time, or its absence) and the task
    fails with the words of the command that refused it. A file that is not listed is never touched.
  - Each file is written beside its place, flushed to the disk and moved there in one step, so that nobody reads half a
    file.
  - What is put in place is noted in C(/var/lib/flaskfleet/files.json), by path the SHA-256, mode and owner of a file or
    the target of a link, before it stands, so that what was made here can be told from what was not, and a change by
    hand later. A directory that was made for a file is too, and goes when that leaves it empty. Of a file that
    somebody else owns, edited by O(files[].regexp), the lines before and after are.
  - A run that was cut is undone by the next one, or, when the files were already found good, its O(apply) is caught up
    on.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - O(validate) does not run in check mode, because it judges the files that are in place.
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: full
    details:
      - A file that comes or goes whole is a line, and so are many new files in one directory. With C(-v) their text is
        shown.
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  files:
    description:
      - The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions: &entry
      path:
        description:
          - The absolute path. Directories that are missing above it are made with mode V(0755).
        type: str
        required: true
      content:
        description:
          - What the file holds, to the last line break.
        type: str
      link:
        description:
          - The target of a symbolic link, as it is to be written.
        type: str
      regexp:
        description:
          - Change what this regular expression of Python matches, line by line, in a file that somebody else owns. It
            keeps its mode and its owner. Where nothing matches there is nothing to change. Where a line that was
            changed is not there any more, whoever owns the file has changed it since, and it stays.
          - With O(files[].state=absent), the lines that were changed are put back, where they still look like that.
        type: str
      replace:
        description:
          - What takes the place of each match of O(files[].regexp). What comes of it must stay the same when it is done
            again.
        type: str
      disabled_as:
        description:
          - Where the file waits with O(files[].state=disabled), and comes back from with O(files[].state=restored).
        type: str
      state:
        description:
          - V(present) needs exactly one of O(files[].content), O(files[].link) and O(files[].regexp).
          - V(offered) is V(present) where nothing stands, or what was put there by the record. What somebody else has
            put there or changed stays, and is theirs from then on.
          - V(absent) removes a file or a link that is on the record and still has that content, never a directory. One
            that is not was made or changed by somebody else, and stays; RV(left) names it.
          - V(disabled) moves it to O(files[].disabled_as) and V(restored) moves it back from there. Where nothing is to
            be moved nothing happens.
        type: str
        choices: [present, offered, absent, disabled, restored]
        default: present
      mode:
        description:
          - The mode of a file with O(files[].content), in octal digits and quoted.
        type: str
        default: "0644"
      owner:
        description:
          - The name of the file's owner. Without it the file belongs to the user that the module runs as.
        type: str
      group:
        description:
          - The name of the file's group. Without it the file belongs to the group that the module runs as.
        type: str
  validate:
    description:
      - A command with its arguments. It runs with the whole set in place; exit code 0 lets the set stay.
    type: list
    elements: str
  apply:
    description:
      - A command with its arguments. It runs once after a change. When it fails the files are put back and it runs
        again, so that the program has read what is in place.
    type: list
    elements: str
  overwrite:
    description:
      - Treat what somebody else has changed since as if it had not been, remove such a file and edit such lines again.
        Content and links of O(files) are put in place with or without this.
    type: bool
    default: false
  preview:
    description:
      - What a later task of this module is to do. Nothing of it is done now. RV(preview_changed) tells whether that
        task would change anything, so that it can be left out.
    type: dict
    suboptions:
      files:
        description:
          - Its O(files).
        type: list
        elements: dict
        required: true
        suboptions: *entry
      validate:
        description:
          - Its O(validate).
        type: list
        elements: str
      apply:
        description:
          - Its O(apply).
        type: list
        elements: str
notes:
  - Two runs on one host wait for each other.
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Publish the site
  flaskfleet.web.config_files:
    files:
      - path: /etc/nginx/sites-available/hello.conf
        content: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
      - path: /etc/nginx/sites-enabled/hello.conf
        link: ../sites-available/hello.conf
      - path: /etc/nginx/sites-enabled/default
        disabled_as: /etc/nginx/sites-available/default.replaced-by-hello
        state: disabled
    validate: [nginx, -t]
    apply: [systemctl, reload, nginx]

- name: Install the units
  flaskfleet.web.config_files:
    files:
      - path: /etc/systemd/system/hello.socket
        content: "{{ lookup('ansible.builtin.template', 'app.socket.j2') }}"
    apply: [systemctl, daemon-reload]
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/sites-available/hello.conf]
applied:
  description: Whether O(apply) ran, or would run in check mode.
  returned: success
  type: bool
preview_changed:
  description: Whether a task with O(preview) would change anything.
  returned: with O(preview)
  type: bool
undo:
  description: What was at those paths, in the form of O(files), so that a later task can put it back. A file that was
    only edited, or that is not UTF-8, is not among them.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /etc/nginx/sites-available/hello.conf
      state: absent
left:
  description: The paths that were to be removed, and are not on the record or not what it has.
  returned: success
  type: list
  elements: str
put_back:
  description: The paths that were put back.
  returned: failure of O(validate), of O(apply) or of a write
  type: list
  elements: str
msg:
  description: What failed, with the words of the command, and what was put back.
  returned: failure
  type: str
"""

import errno
import json
import sys
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.file_entries import Entry, diff_of, entry_problem, undo_of
from ansible_collections.flaskfleet.web.plugins.module_utils.file_record import during, noted, write_record
from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import ConfigError
from ansible_collections.flaskfleet.web.plugins.module_utils.file_transaction import (
    Command,
    Transaction,
    directories_for,
    locked,
    tidied,
)


def work(
    files: list[Entry], validate: Command, apply: Command, overwrite: bool, preview: Entry | None, check: bool
) -> dict[str, Any]:
    """Do all of it, and return the result for Ansible."""
    every = [*files, *(preview["files"] if preview else [])]
    problems = [f"{entry['path']} {entry_problem(entry)}" for entry in every if entry_problem(entry)]
    paths = [path for entry in every for path in (entry["path"], entry["disabled_as"]) if path]
    problems += [f"{path} is listed twice" for path in sorted(set(paths)) if paths.count(path) > 1]
    if problems:
        raise ConfigError("The list of files is not usable: " + "; ".join(problems) + ".")
    if check:
        transaction = Transaction(files, validate, apply, overwrite)
        changes, applied = transaction.predict()
    else:
        with locked():
            transaction = Transaction(files, validate, apply, overwrite)
            applied = transaction.recover()
            changes = transaction.plan()
            after = noted(transaction.record, files, changes, transaction.theirs)
            after.update(dict.fromkeys(directories_for(changes), "directory"))
            both = during(transaction.record, after)
            # before anything is made: what a cut run leaves is ours too
            write_record(transaction.record, both)
            try:
                if changes or transaction.marker.present:
                    applied = transaction.run(changes)
            except ConfigError:
                write_record(both, transaction.record)
                raise
            write_record(both, tidied(after, changes))
    edited_paths = {entry["path"] for entry in files if entry["regexp"] is not None}
    result: dict[str, Any] = {
        "changed": bool(changes) or applied,
        "changed_paths": [change.path for change in changes],
        "applied": applied,
        "left": transaction.left,
        "warnings": [
            *(f"{path} stays: it is not what was put in place here, by the record." for path in transaction.left),
            *transaction.kept,
        ],
        "undo": [entry for change in changes for entry in undo_of(change, edited_paths)],
        "diff": [diff_of(change) for change in changes],
    }
    if preview:
        result["preview_changed"] = any(
            Transaction(preview["files"], preview["validate"], preview["apply"], overwrite).predict()
        )
    return result


def main() -> None:
    """Run on the host."""
    given = json.load(sys.stdin)
    try:
        result = work(**given["params"], check=given["check"])
    except ConfigError as error:
        result = {"failed": True, "changed": False, "msg": str(error), **error.result}
    except OSError as error:
        hint = " Run the task as root (become: true)." if error.errno in (errno.EACCES, errno.EPERM) else ""
        msg = f"Cannot change the files: {error.strerror}: {error.filename}.{hint}"
        result = {"failed": True, "changed": False, "msg": msg}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
