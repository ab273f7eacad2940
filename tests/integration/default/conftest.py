"""A scratch directory on the host, and what the templates have to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.rendering import TLS, render

Rendered = Callable[..., str]


@pytest.fixture(scope="module")
def scratch(site: Site) -> Iterator[str]:
    """A directory that goes again, with a certificate in it."""
    directory = site.root("mktemp -d")
    site.root(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=example.com"
        f" -keyout {directory}/key.pem -out {directory}/chain.pem 2>&1"
        f" && cat {directory}/chain.pem {directory}/key.pem > {directory}/pair.pem"
    )
    yield directory
    site.root(f"rm -r {directory}")


@pytest.fixture(scope="module")
def rendered(site: Site, scratch: str) -> Rendered:
    """Render a site for this host's nginx, its logs and certificate in the scratch directory."""
    version = site.root("nginx -V 2>&1")
    nginx = re.search(r"nginx/([\d.]+)", version)
    openssl = re.search(r"running with OpenSSL ([\w.]+)", version) or re.search(r"OpenSSL ([\w.]+)", version)
    assert nginx and openssl, version
    facts: dict[str, Any] = {"nginx": nginx[1], "openssl": openssl[1]}

    def rendered_site(values: dict[str, Any], ipv6: bool = True) -> str:
        text = render("app.nginx.conf", values, {**facts, "ipv6": ipv6})
        text = text.replace("/var/log/nginx/", f"{scratch}/")
        text = re.sub(r"/var/lib/flaskfleet/tls/[\w-]+\.pem", f"{scratch}/pair.pem", text)  # one of a directory
        return text.replace(TLS["certificate"], f"{scratch}/chain.pem").replace(TLS["key"], f"{scratch}/key.pem")

    return rendered_site
