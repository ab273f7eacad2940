"""Ansible's own loader of collections, before a test imports a plugin: later it finds no plugin of ours any more."""

import tests.rendering  # noqa: F401
