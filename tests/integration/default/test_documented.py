"""What the pages tell people to type on a host, typed on one: each command whole, in the order of the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.documentation import ON_A_HOST, RUN, commands
from tests.integration.asking import Site
from tests.rendering import REPOSITORY

testinfra_hosts = ["ansible://debian12"]

LOCK = (REPOSITORY / "files/app/requirements.txt").read_text()
APP = (REPOSITORY / "files/app/app.py").read_text()
ON_HOST = [pattern for pattern, who in RUN.items() if who == ON_A_HOST]
LINES = list(
    dict.fromkeys(
        command.line for command in commands() if any(re.fullmatch(pattern, command.line) for pattern in ON_HOST)
    )
)
# what follows a log goes on until somebody ends it
FOLLOWS = re.compile(r"flaskctl .* logs -f|tail -f .*")
# what takes something from users, and is taken back before the next
BACK = {
    "flaskctl hello maintenance on": "flaskctl hello maintenance off",
    "flaskctl hello drain --seconds 10": "flaskctl hello undrain",
    "systemctl stop hello.socket 'hello@*.service'": "systemctl start hello.socket && flaskctl hello activate ID",
}
# what a release that can be gone back from needs
FIRST = {r"(sudo )?flaskctl \w+ rollback": "flaskctl hello activate ID && flaskctl hello activate OTHER"}
# a service set up by hand, as docs/operations.md has it moved away
UNIT = "[Service]\nExecStart=/bin/sleep 1d\nUser=shop\n[Install]\nWantedBy=multi-user.target\n"
SHOP = " && ".join(
    [
        "useradd --system --create-home --home-dir /srv/shop shop",
        f"printf '{UNIT}' >/etc/systemd/system/shop.service",
        "printf 'server { listen 80; server_name shop.test; }' >/etc/nginx/sites-available/shop.conf",
        "ln -s ../sites-available/shop.conf /etc/nginx/sites-enabled/shop.conf",
        "systemctl daemon-reload && systemctl enable --now shop.service",
        "mkdir -p /var/lib/old && touch /var/lib/old/data",
    ]
)
GONE = "userdel shop-before; rm -rf /srv/shop-before /root/shop.* /var/lib/old /var/lib/hello/data /root/typed"


@pytest.fixture(scope="module")
def words(site: Site) -> Iterator[dict[str, str]]:
    """What the words of a page stand for on this host: two releases, an archive, what is known of packages."""
    before = site.current
    site.root(f"mkdir -p /root/typed && {SHOP} 2>&1")
    site.put_archive("/root/typed/ARCHIVE", {"app.py": f"{APP}\n# typed\n", "requirements.txt": LOCK})
    site.root("echo '{\"dependencies\": []}' >/root/typed/known.json")
    other = site.flaskctl("stage", "/root/typed/ARCHIVE")["id"]
    site.flaskctl("activate", other)
    yield {
        **{r"\bNAME\b": "hello", r"\bAPP\b": "hello", r"\bID\b": before, r"(?<!-)\bnew\b": "hello"},
        **{r"\bOTHER\b": other, "guestbook": "hello"},
        **{r"rollback 4f0c": f"rollback {other[:6]}", r"28581e": before[:6]},
        # the sample app has no worker, and nobody waits for a minute here
        **{
            r"\w+ logs --process \w+": "hello logs --process web",
            "--seconds 60": "--seconds 1",
            "--seconds 10": "--seconds 1",
        },
    }
    site.flaskctl("activate", before)
    site.root(f"{GONE}; true")
    site.flaskctl("prune", "--keep", "1")
    assert site.flaskctl("status")["problems"] == [] and site.current == before


def test_what_the_pages_say_can_be_typed(site: Site, words: dict[str, str]) -> None:
    """One test for all, for each command finds the host as those before it have left it."""
    assert len(LINES) > 30
    failed = []
    for line in LINES:
        first = [before for pattern, before in FIRST.items() if re.fullmatch(pattern, line)]
        for typed in filter(None, (*first, line, BACK.get(line))):
            for pattern, stands in words.items():
                typed = re.sub(pattern, stands, typed)
            ended = f"cd /root/typed && {f'timeout 2 {typed}' if FOLLOWS.match(typed) else typed}"
            done = site.host.run("bash -c %s", ended)
            if done.rc != 0 and not (FOLLOWS.match(typed) and done.rc == 124):
                failed.append(f"{typed} ended with {done.rc}: {done.stdout[-300:]}{done.stderr[-300:]}")
    assert failed == []
