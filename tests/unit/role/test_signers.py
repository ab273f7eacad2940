"""The list of signers, as it stands on a host."""

from __future__ import annotations

from tests.rendering import evaluate


def test_each_signer_has_a_line_and_without_any_there_is_no_list() -> None:
    """In a block of YAML a line end is written as two characters, and ssh-keygen knows nobody of such a line."""
    signing = {"key": "/k", "allowed_signers": ["a ssh-ed25519 AAAA", "b ssh-ed25519 BBBB"]}
    (entry,) = evaluate("__flask_gunicorn_nginx_host_set.signers", {"signing": signing})
    assert entry["content"] == "a ssh-ed25519 AAAA\nb ssh-ed25519 BBBB\n"
    assert evaluate("__flask_gunicorn_nginx_host_set.signers", {}) == []
