# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a host is asked about the site of an app; the answers are of plugins/module_utils/site_answers.py."""

from __future__ import annotations


class ModuleDocFragment:
    """Ansible's way to find it."""

    DOCUMENTATION = r"""
options:
  nginx_site:
    description:
      - The site of an app. RV(nginx_site) tells where it goes, and what is in its way.
    type: dict
    suboptions:
      names:
        description:
          - Its host names.
        type: list
        elements: str
        required: true
      ports:
        description:
          - The ports it listens on.
        type: list
        elements: int
        required: true
      default:
        description:
          - Whether it is to answer for any other name.
        type: bool
        required: true
      default_site:
        description:
          - The link to the distribution's default site, which is set aside then.
        type: str
        required: true
      modules:
        description:
          - The modules of nginx that it needs and not every nginx has, by name what needs them.
        type: dict
        default: {}
      shared:
        description:
          - Where a file for the sites of all apps can be, the best place first.
        type: list
        elements: str
        required: true
      paths:
        description:
          - Where a site can be. C(available) with a link from C(enabled), or C(alone).
        type: dict
        required: true
      catch_all:
        description:
          - Of the server for all other names, where it can be, and what of the app goes with it.
        type: dict
        required: true
  certificate:
    description:
      - A certificate and its key that a site has, or is to have. Where they are not fit, RV(nginx_site) says why, or,
        of those that the site has already, a warning.
    type: dict
    suboptions:
      path:
        description:
          - The file of the certificate and those that signed it; nothing is looked at where this is empty.
        type: str
        required: true
      key:
        description:
          - The file of the key.
        type: str
        required: true
      names:
        description:
          - The host names that it has to be for.
        type: list
        elements: str
        required: true
"""
