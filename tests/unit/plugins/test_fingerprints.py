"""Which static files stay a year in browsers: those with a hash in their name, and none that only looks like one."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fingerprints import (
    FOREVER,
    RULES,
    immutable_files,
    is_fingerprinted,
)

HEX = "0123456789abcdef"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize(
    "name",
    [
        "app.3f2c9a1b.js",
        "js/main.27e20196a850.js",  # WhiteNoise, Django
        "app-5d41402abc4b2a76b9719d911017c592.css",  # Flask-Static-Digest
        "application-4a90cf6d9d19b4a1d3eb0ab5b4d7a8f1f6f5a7a2e7bb3cf2f4dbd7c8d9d0e1f2.js",  # Sprockets
        "main.3f2c9a1b.chunk.js",
        "main.3f2c9a1b.min.css",
        "main.3f2c9a1b.js.map",
        "vendor~main.abcdef123456.js",
        "button_3f2c9a1b.module.css",
        "media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg",
        "5d41402abc4b2a76b9719d911017c592.png",  # file-loader
        "app-DhX3k2_1.css",  # Vite, Rollup
        "assets/index-D8b4DHJx.css",
        "assets/vendor-B3o2pYzR.js",
        "app.CbW8iTEG.js",
        "app-5UJ3ZBJB.js",  # esbuild
        "fonts/inter.abcd1234.woff2",
        "x.abcdef12.mp4",
    ],
)
def test_a_hash_in_the_name(name: str) -> None:
    assert is_fingerprinted(name)


@pytest.mark.parametrize(
    "name",
    [
        "app.css",
        "jquery-3.7.1.min.js",
        "bootstrap-5.3.0-alpha1.min.js",
        "polyfill-es2015.js",
        "report-20241231.pdf",
        "20241231-report.pdf",
        "photo-20241231a.jpg",
        "cafe20241231.jpg",
        "backup-20241231123456a.zip",
        "paper-2024dec31.pdf",
        "paper-31dec2024.pdf",
        "IMG_20240101_120000.JPG",
        "photo-IMG_1234.jpg",
        "photo-Img_1234.jpg",
        "order-12345678.pdf",
        "part-b1234567.pdf",
        "part-1234567b.pdf",
        "app.deadbeef.js",
        "a-facade12.jpg",
        "deadbeef.js",
        "menu-cafe2024.jpg",
        "550e8400-e29b-41d4-a716-44665544000f.png",
        "avatar-550e8400-e29b-41d4-a716-44665544000f.png",
        "9b2e1f4c77aa4d1c8f3e2a1b0c9d8e7f.jpg",  # a UUID without dashes
        "Montserrat-SemiBold.woff2",
        "Inter-OpenSans.woff2",
        "guide-Overview.pdf",
        "guide-Chapter1.html",
        "user-DataGrid.js",
        "app-SvgIcons.js",
        "app-S3Upload.js",
        "app-I18nMenu.js",
        "app-QrReader.js",
        "app-Base64Js.js",
        "hero-16x9Hero.png",
        "scan-Page1of2.png",
        "show-S01E02Hd.mp4",
        "Blog-My-Photo.jpg",
        "phone-iPhone5s.png",
        "icon-iOSAppUI.svg",
        "x-RenderUI.js",
        "x-README22.txt",
        "x-INVOICE7.pdf",
        "3f2c9a1b/app.js",  # of a directory nothing is said
        "app.3f2c9a1b",
        "app.3f2c9a1.js",
        "app.3F2C9a1b",
        "app3f2c9a1b.js",
        "",
    ],
)
def test_what_only_looks_like_one(name: str) -> None:
    assert not is_fingerprinted(name)


@pytest.mark.parametrize(
    ("letters", "length", "share"), [(HEX, 8, 0.93), (HEX, 20, 0.99), (HEX, 40, 0.99), (BASE64, 8, 0.6)]
)
def test_most_hashes_are_told(letters: str, length: int, share: float) -> None:
    """Hexadecimal digits nearly all; of eight characters of base64url those that nobody would have written."""
    chance = random.Random(7)
    names = ["app-" + "".join(chance.choices(letters, k=length)) + ".js" for _ in range(2000)]
    assert sum(map(is_fingerprinted, names)) > share * len(names)


def test_a_path_that_is_made_to_cost_time_is_not_looked_at() -> None:
    assert is_fingerprinted("a/" * 200 + "app.3f2c9a1b.js") and not is_fingerprinted("a/" * 256 + "app.3f2c9a1b.js")


def test_nginx_reads_the_rules_as_they_are() -> None:
    found = immutable_files("auto", {})
    assert [each["pattern"] for each in found] == [f'"~{pattern}"' for pattern, _ in RULES]
    assert [each["value"] for each in found] == [f'"{FOREVER if lasts else ""}"' for _, lasts in RULES]
    assert not any(re.search(r'["\\]', pattern) for pattern, _ in RULES), "nothing that nginx reads in another way"


def test_a_pattern_of_one_s_own_is_for_whole_paths() -> None:
    (found,) = immutable_files(r'assets/.*|"\d+"', {})
    assert found == {"pattern": r'"~^(?:assets/.*|\"\\d+\")$"', "value": f'"{FOREVER}"'}
    assert immutable_files("", {}) == []


@pytest.mark.parametrize("settings", [{"expires": "1h"}, {"add_header": "Cache-Control no-cache"}])
def test_who_says_it_in_nginx_s_own_words_is_not_contradicted(settings: dict[str, Any]) -> None:
    assert immutable_files("auto", settings) == []
    assert immutable_files("auto", {"add_header": "X-A b"})
