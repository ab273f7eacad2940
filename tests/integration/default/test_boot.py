"""After a power cut the host is what it was before."""

from __future__ import annotations

from tests.integration.asking import Site


def test_the_same_release_serves_after_a_power_cut(site: Site) -> None:
    before = site.current
    site.root("touch /run/before")
    site.power_cut()
    assert not site.host.file("/run/before").exists
    # hello.service starts it at boot: nobody has to ask first
    assert site.eventually(lambda: site.flaskctl("status")["active"] == [before])
    answer = site.get("/")
    assert (answer.body, answer.release) == ("Hello Flask!", before)


def test_no_unit_failed(site: Site) -> None:
    assert site.root("systemctl --failed --no-legend --plain") == ""
    assert site.root("systemctl is-system-running --wait") == "running"


def test_flaskctl_sees_no_problem(site: Site) -> None:
    status = site.flaskctl("status")
    assert status["problems"] == []
    assert status["socket"] == {"active": True, "enabled": True, "stale": False, "former": []}
    assert status["service"] == {"enabled": True}
