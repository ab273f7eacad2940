"""A resolver that the settings of a unit shut out is let in, where the unit may reach other machines at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
CLOUDS = "link-local fd00:ec2::254"


@pytest.mark.parametrize(
    ("deny", "allow", "resolvers", "let_in"),
    [
        ([CLOUDS], [], ["10.0.0.2", "127.0.0.53"], []),
        ([CLOUDS], [], ["169.254.169.254", "fe80::1"], ["169.254.169.254", "fe80::1"]),
        (["any"], ["localhost"], ["10.0.0.2", "169.254.169.254"], []),
        (["any"], ["127.0.0.1 ::1"], ["10.0.0.2"], []),
        (["any"], ["localhost 10.0.0.5"], ["10.0.0.2", "2001:db8::53"], ["10.0.0.2", "2001:db8::53"]),
        (["any"], ["localhost", "10.0.0.0/24"], ["10.0.0.2", "127.0.0.53"], []),
        (["any"], ["localhost 10.0.0.5", ""], ["10.0.0.2"], []),
        (["any", ""], [], ["10.0.0.2"], []),
        (["any"], ["localhost 10.0.0.5 nonsense"], ["not an address", "10.0.0.2"], ["10.0.0.2"]),
        ([], [], ["10.0.0.2"], []),
    ],
)
def test_which_resolvers_are_shut_out(
    deny: list[str], allow: list[str], resolvers: list[str], let_in: list[str]
) -> None:
    settings = [("IPAddressDeny", value) for value in deny] + [("IPAddressAllow", value) for value in allow]
    assert flaskctl.shut_out(settings, resolvers) == let_in


def test_nameservers_are_read_as_the_resolver_reads_them() -> None:
    text = (
        "# nameserver 1.1.1.1\nsearch test\nnameserver 10.0.0.2\nnameserver\tfe80::1%eth0\nnameserver\noptions edns0\n"
    )
    assert flaskctl.nameservers(text) == ["10.0.0.2", "fe80::1"]


def test_a_release_has_the_resolvers_of_its_host_and_no_other_id_for_them(host: FakeHost, stage: Stage) -> None:
    service = "[Service]\nUser=hello\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.5\n"
    worker = {"worker": {"service": service}}
    one = stage("v1", service=service, processes=worker)
    drop_ins = [
        host.path(f"/etc/systemd/system/hello{unit}@{one}.service.d/resolvers.conf") for unit in ("", ".worker")
    ]
    assert not any(path.exists() for path in drop_ins)

    host.path("/etc").mkdir(exist_ok=True)
    host.path("/etc/resolv.conf").write_text("nameserver 10.0.0.2\n")
    assert stage("v1", service=service, processes=worker) == one, "a resolver that comes is mended in"
    assert [path.read_text().splitlines()[1:] for path in drop_ins] == [["[Service]", "IPAddressAllow=10.0.0.2"]] * 2
    call(host, "hello", "activate", one)
    assert call(host, "hello", "status", "--drift", "--json").json["drift"] == []


def test_a_trial_reaches_the_resolvers_too(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    host.path("/etc").mkdir(exist_ok=True)
    host.path("/etc/resolv.conf").write_text("nameserver 10.0.0.2\n")
    service = "[Service]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.5\nExecStart=/bin/gunicorn\n"
    call(host, "hello", "activate", stage("v1"))
    path = archive(tmp_path / "v2.tar.gz", {"app.py": "v2", "requirements.txt": "flask\n"})
    words = ["hello", "stage", str(path), "--config", "-", "--try", "import"]
    answer = call(host, *words, stdin=config(service=service, gunicorn_conf="FLASKFLEET_TRY"))
    assert answer.rc == 0, answer
    (argv,) = [words for words in host.calls if words[0] == "systemd-run" and any(".try-" in word for word in words)]
    assert "--property=IPAddressAllow=10.0.0.2" in argv


@pytest.mark.parametrize(
    "words", ["localhost 10.0.0.5", "10.0.0.5 link-local multicast", "any", "localhost  2001:db8::/32", ""]
)
def test_a_trial_and_a_command_are_given_addresses_as_systemd_run_takes_them(
    host: FakeHost, stage: Stage, words: str
) -> None:
    """A release with a list could not be tried at all: next to another address `localhost` is no address there."""
    unit = f"[Service]\nIPAddressDeny=any\nIPAddressAllow={words}\nExecStart=/bin/gunicorn\n"
    host.path("/etc/systemd/system/hello@.service").write_text(unit)
    current = stage("v1", service=unit)
    call(host, "hello", "activate", current)
    assert call(host, "hello", "run", "--", "flask", "routes").rc == 7  # of whatever was handed over to
    path = host.path("/tmp/other.tar.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    archive(path, {"app.py": "v2", "requirements.txt": "flask==3.0.3\n"})
    done = call(
        host,
        "hello",
        "stage",
        str(path),
        "--config",
        "-",
        "--try",
        "health",
        stdin=config(service=unit, gunicorn_conf="FLASKFLEET_TRY"),
    )
    assert done.rc == 0, done
    (tried,) = [argv for argv in host.calls if any(".try-" in word for word in argv) and argv[0] == "systemd-run"]
    for argv in (host.became, tried):
        given = [word.partition("IPAddressAllow=")[2] for word in argv if "IPAddressAllow=" in word]
        assert given == (words.split() or [""]), argv
