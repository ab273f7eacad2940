"""The demo's host and Molecule's hosts are started with the same options."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tools import hosts
from tools.run import ROOT


@pytest.fixture(scope="module")
def molecule() -> dict[str, Any]:
    """The options of docker_container in the playbook that creates Molecule's hosts."""
    plays = yaml.safe_load((ROOT / "molecule/shared/create.yml").read_text())
    options: dict[str, Any] = plays[0]["tasks"][0]["community.docker.docker_container"]
    return options


def test_molecule_starts_hosts_as_the_demo_does(molecule: dict[str, Any]) -> None:
    assert tuple(molecule["command"]) == hosts.COMMAND
    assert tuple(molecule["capabilities"]) == hosts.CAPABILITIES
    assert tuple(molecule["security_opts"]) == hosts.SECURITY_OPTIONS
    assert tuple(molecule["tmpfs"]) == hosts.TMPFS
    assert molecule["cgroupns_mode"] == "private"
    assert molecule["tty"] is True
    assert hosts.CONTROL_NODE_CA in molecule["volumes"]


def test_no_host_is_privileged(molecule: dict[str, Any]) -> None:
    assert "privileged" not in molecule
    assert "--privileged" not in hosts.run_command("h", "debian12")


def test_the_certificates_of_this_machine_are_mounted_where_it_has_them(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert f"--volume={bundle}:{hosts.CONTROL_NODE_CA}:ro" in hosts.run_command("h", "debian12")
    monkeypatch.setattr(hosts, "control_node_ca", lambda: None)
    assert not [part for part in hosts.run_command("h", "debian12") if part.startswith("--volume")]


def test_a_port_is_published_where_asked() -> None:
    assert "--publish=127.0.0.1:8080:80" in hosts.run_command("h", "debian12", ["127.0.0.1:8080:80"])
