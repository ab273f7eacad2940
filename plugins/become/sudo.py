# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""sudo with a password, whichever of the two a host has: Ansible's own plugin does not see the prompt of sudo-rs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sudo
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: Become another user with sudo or sudo-rs
description:
  - As P(ansible.builtin.sudo#become), and it also gives the password to sudo-rs, which is C(sudo) on Ubuntu 25.10 and
    newer. That prints words of its own before the prompt it was given, and Ansible waits for a line that begins with
    the prompt until it gives up (U(https://github.com/ansible/ansible/issues/86849)).
options:
  become_user:
    description: The user to become.
    type: str
    default: root
    ini:
      - {section: privilege_escalation, key: become_user}
      - {section: sudo_become_plugin, key: user}
    vars:
      - name: ansible_become_user
      - name: ansible_sudo_user
    env:
      - name: ANSIBLE_BECOME_USER
      - name: ANSIBLE_SUDO_USER
    keyword:
      - name: become_user
  become_exe:
    description: The program.
    type: str
    default: sudo
    ini:
      - {section: privilege_escalation, key: become_exe}
      - {section: sudo_become_plugin, key: executable}
    vars:
      - name: ansible_become_exe
      - name: ansible_sudo_exe
    env:
      - name: ANSIBLE_BECOME_EXE
      - name: ANSIBLE_SUDO_EXE
    keyword:
      - name: become_exe
  become_flags:
    description: Options for the program. Without a password C(-n) makes it fail instead of asking for one.
    type: str
    default: -H -S -n
    ini:
      - {section: privilege_escalation, key: become_flags}
      - {section: sudo_become_plugin, key: flags}
    vars:
      - name: ansible_become_flags
      - name: ansible_sudo_flags
    env:
      - name: ANSIBLE_BECOME_FLAGS
      - name: ANSIBLE_SUDO_FLAGS
    keyword:
      - name: become_flags
  become_pass:
    description: The password it asks for.
    type: str
    ini:
      - {section: sudo_become_plugin, key: password}
    vars:
      - name: ansible_become_password
      - name: ansible_become_pass
      - name: ansible_sudo_pass
    env:
      - name: ANSIBLE_BECOME_PASS
      - name: ANSIBLE_SUDO_PASS
  sudo_chdir:
    description: A directory to go to before.
    type: str
    ini:
      - {section: sudo_become_plugin, key: chdir}
    vars:
      - name: ansible_sudo_chdir
    env:
      - name: ANSIBLE_SUDO_CHDIR
"""

from ansible.plugins.become.sudo import BecomeModule as Sudo


class BecomeModule(Sudo):  # type: ignore[misc]
    """Ansible's plugin, which recognizes what sudo-rs says too."""

    fail = (*Sudo.fail, "Authentication failed, try again.")

    def check_password_prompt(self, b_output: bytes) -> bool:
        """Whether the prompt is in the output, at the beginning of a line or not; its key is random."""
        return bool(self.prompt) and self.prompt.strip().encode() in b_output
