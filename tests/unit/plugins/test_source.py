"""What a source is: one table of what is understood, one of what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.source import (
    Source,
    SourceError,
    mask,
    parse,
    secrets_of,
    without_credentials,
)

COMMIT = "19c318c8d11c4fa7483724590ea6c23dd6b72d47"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/srv/code/app", Source("directory", "/srv/code/app")),
        ("/srv/code/with space/ä", Source("directory", "/srv/code/with space/ä")),
        ("./app", Source("directory", "./app")),
        ("files/app", Source("directory", "files/app")),
        ("..", Source("directory", "..")),
        ("~/app", Source("directory", "~/app")),
        ("hello", Source("requirement", "hello", pinned=False)),
        ("hello>=1.2", Source("requirement", "hello>=1.2", pinned=False)),
        ("hello==1.*", Source("requirement", "hello==1.*", pinned=False)),
        ("hello==1.2.0", Source("requirement", "hello==1.2.0")),
        ("hello[a, b] == 1.2.0", Source("requirement", "hello[a, b] == 1.2.0")),
        ("hello==1.2 ; python_version > '3'", Source("requirement", "hello==1.2 ; python_version > '3'")),
        ("hello @ https://x.example/h.whl", Source("requirement", "hello @ https://x.example/h.whl")),
        ("hello==1.2 --hash=sha256:0af1", Source("requirement", "hello==1.2 --hash=sha256:0af1")),
        ("hello>=1, <2", Source("requirement", "hello>=1, <2", pinned=False)),
        ("hello== 1.2", Source("requirement", "hello== 1.2")),
        ("hello==1.2  gevent==25.9.1", Source("requirement", "hello==1.2\ngevent==25.9.1")),
        ("hello==1.2 gevent>=25", Source("requirement", "hello==1.2\ngevent>=25", pinned=False)),
        ("a[x]==1 b==2;python_version>'3' c==3", Source("requirement", "a[x]==1\nb==2;python_version>'3'\nc==3")),
        ("a==1 --hash=sha256:0 b==2", Source("requirement", "a==1 --hash=sha256:0\nb==2")),
        ("git+https://x.example/a.git@v1.0", Source("git", "https://x.example/a.git", "v1.0")),
        ("git+https://x.example/a.git@feature/x", Source("git", "https://x.example/a.git", "feature/x")),
        ("git+ssh://git@x.example:22/a.git@main", Source("git", "ssh://git@x.example:22/a.git", "main")),
        (f"git+file:///srv/a.git@{COMMIT}", Source("git", "file:///srv/a.git", COMMIT)),
        ("git+https://x.example/a@1#subdirectory=web/app/", Source("git", "https://x.example/a", "1", "web/app")),
        ("git+https://u:p@x.example/a@1", Source("git", "https://u:p@x.example/a", "1")),
    ],
)
def test_a_source_in_each_form_is_understood(text: str, source: Source) -> None:
    assert parse(text) == source


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        (" ./app", "space at an end"),
        ("hello==1.0\n--index-url=http://evil", "line break"),
        ("/srv/\x1b[2J", "control character"),
        ("--index-url=http://evil.example", "option of pip"),
        ("https://x.example/a.tar.gz", "URL of a form"),
        ("hello world", "neither a path nor a requirement"),
        ("hello==1.2 gevent", "names no version of gevent"),
        ("git+https://x.example/a.git", "names no revision"),
        ("git+ssh://git@x.example/a.git", "names no revision"),
        ("git+https://x.example/a.git@", "not a git revision"),
        ("git+https://x.example/a.git@--upload-pack=x", "not a git revision"),
        ("git+https://x.example/a.git@a..b", "not a git revision"),
        ("git+ext::sh -c id@main", "not a git URL"),
        ("git+git@x.example:a.git@main", "not a git URL"),
        ("git+https://x.example/a.git@1#egg=a", "only subdirectory=PATH"),
        ("git+https://x.example/a.git@1#subdirectory=../x", "leaves the repository"),
        ("git+https://x.example/a.git@1#subdirectory=/x", "leaves the repository"),
    ],
)
def test_what_is_no_source_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        parse(text)


def test_no_message_holds_the_password_of_a_url() -> None:
    with pytest.raises(SourceError) as caught:
        parse("git+https://ada:s3cr3t-token@x.example/a.git")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("fatal: https://ada:pw@x.example/a", "fatal: https://***@x.example/a"),
        ("https://token@x.example/a and https://b:c@y", "https://***@x.example/a and https://***@y"),
        ("ssh://git@x.example/a", "ssh://git@x.example/a"),
        ("ssh://git:pw@x.example/a", "ssh://***@x.example/a"),
        ("https://x.example/@scope/a", "https://x.example/@scope/a"),
        ("nobody@example.com", "nobody@example.com"),
    ],
)
def test_user_and_password_of_a_url_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_new_token_is_still_the_same_repository() -> None:
    assert without_credentials("https://ada:one@x.example/a") == without_credentials("https://two@x.example/a")


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://ada:s3cr3t-token@x.example/a", {"s3cr3t-token"}),
        ("https://s3cr3t-token@x.example/a", {"s3cr3t-token"}),
        ("ssh://deploy-user@x.example/a", set()),
        ("https://a:b@x.example/a", set()),
        ("/srv/app", set()),
    ],
)
def test_ansible_is_told_the_secret_of_a_url(url: str, secrets: set[str]) -> None:
    assert secrets_of(url) == secrets
