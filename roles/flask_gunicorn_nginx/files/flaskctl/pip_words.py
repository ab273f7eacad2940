"""What pip said when it failed, as a cause and a remedy in a sentence each. Pure functions."""

from __future__ import annotations

import re

from flaskctl.files import FULL
from flaskctl.requirements import normalized

INDEX = "Connection|Temporary failure in name|timed out|Max retries|SSLError|certificate"
# pip has given up on the index; what it then says of versions that it has not found is no news
UNREACHED = r"Retry\(total=0|Max retries exceeded|Temporary failure in name"
UNLOCKED = "BackendUnavailable|Cannot import '|No module named '|invalid command 'bdist_wheel'"
REMEDIES = (
    (UNREACHED, "is the index reachable?"),
    ("DO NOT MATCH THE HASHES", "a package is not the one in the lock file: make the lock again, or mend the index"),
    (
        "have a way to hash|editable requirement|hashes for these requirements",
        "with hashes pip wants one for each requirement, and what comes from git or a directory has none: take"
        " the hashes out, or put that package into an index",
    ),
    (
        "must have their versions pinned|Hashes are required",
        "the lock file lacks a package, or its hash, that this host's Python needs: lock for that Python too",
    ),
    ("equires? a different [Pp]ython|Requires-Python", "the lock file is for another Python than this host's"),
    (
        "has requirement .*, but you have",
        "name versions that fit, of gunicorn and gevent too: they take the place of the role's own",
    ),
    (
        r"from versions: none\)",
        "the index has no such version for this Python, or no such package; where another one has it,"
        " flask_gunicorn_nginx_pip: {index_url: URL}",
    ),
    ("No matching distribution|Could not find a version", "the index has no such version for this Python"),
    (
        UNLOCKED,
        "what it is built with is not there: lock that, with hashes, in a file of the source, and name the file in"
        " flask_gunicorn_nginx_pip: {build_requirements: FILE}",
    ),
    (
        "Permission denied \\(publickey|could not read Username|Authentication failed|Host key verification"
        "|No user exists for uid",
        "a build may not read that repository: put the package into an index that it may read"
        " (flask_gunicorn_nginx_pip), or its code into the source",
    ),
    (INDEX, "is the index reachable?"),
    ("No space left", FULL),
    ("ensurepip is not", "install python3-venv"),
)
# what a compiler or a setup.py says of what it lacks, and the packages of Debian and Ubuntu that have it
COMPILER = ("build-essential", "python3-dev")
NEEDS = (
    (r"pg_config|libpq-fe\.h", ("libpq-dev", *COMPILER)),
    (r"mysql_config|mariadb_config|mysql\.h|mysqlclient", ("default-libmysqlclient-dev", "pkg-config", *COMPILER)),
    (r"\bffi\.h", ("libffi-dev", *COMPILER)),
    (r"openssl/\w+\.h|Could not find.*OpenSSL", ("libssl-dev", *COMPILER)),
    (r"libxml/\w+\.h|libxml2 and libxslt|xslt-config", ("libxml2-dev", "libxslt1-dev", *COMPILER)),
    (r"jpeglib\.h|could not be found for jpeg", ("libjpeg-dev", "zlib1g-dev", *COMPILER)),
    (r"\bzlib\.h|could not be found for zlib", ("zlib1g-dev", *COMPILER)),
    (r"sasl/sasl\.h", ("libsasl2-dev", *COMPILER)),
    (r"\b(?:lber|ldap)\.h", ("libldap2-dev", *COMPILER)),
    (r"krb5-config|gssapi\w*\.h", ("libkrb5-dev", *COMPILER)),
    (r"\bsqlite3\.h", ("libsqlite3-dev", *COMPILER)),
    (r"xmlsec", ("libxmlsec1-dev", "pkg-config", *COMPILER)),
    (r"\bPython\.h", COMPILER),
    (
        r"(?:gcc|cc|g\+\+|c\+\+)'? failed: No such file|unable to execute '.*(?:gcc|cc)'|Unknown compiler"
        r"|No such file or directory: '[^']*(?:gcc|cc|c\+\+|g\+\+|make)'|no acceptable C compiler|CMAKE_C_COMPILER",
        COMPILER,
    ),
    (
        r"Rust package manager|can't find Rust compiler|(?:cargo|rustc)\W+(?:is )?not (?:found|installed)",
        ("cargo", *COMPILER),
    ),
    (r"CMake must be installed|[Cc]annot find cmake|'cmake'", ("cmake", *COMPILER)),
    (r"pkg-config.*(?:not found|No such file|executable)", ("pkg-config",)),
)
NO_GIT = "Cannot find command 'git'|No such file or directory: '?git'?"
FETCH_FAILED = r"git (?:clone|fetch|rev-parse|checkout|submodule)[^\n]* did not run successfully"
UNFETCHED = "can this host reach that repository? Or put the package into an index, or its code into the source"
PACKAGES = "flask_gunicorn_nginx_packages"
BUILDS = (
    r"Failed building (?:wheel|editable) for ([\w.-]+)|Failed to build '?([\w.-]+)'? when"
    r"|(?:error while generating package metadata|Failed to build installable wheels)[\s\S]{0,200}╰─> ([\w.-]+)"
)
BUILD_FAILED = (
    "subprocess-exited-with-error|metadata-generation-failed|Command errored out|Failed building|Failed to build"
)
SOURCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._]*(?:-[A-Za-z][A-Za-z0-9._]*)*)-(\d[^-/\s]*)\.(?:tar\.(?:gz|bz2)|zip)\b")
# where a project that is only an app was to be built
APP = (
    "Multiple top-level (?:packages|modules) discovered|No file/folder found for (?:package|module)|non-package mode"
    "|Unable to determine which files to ship"
)


def pip_remedy(output: str) -> str:
    return next((remedy for sign, remedy in REMEDIES if re.search(sign, output)), "")


def needs_build(output: str) -> bool:
    """Tell whether pip failed as it does where something has no wheel, and may not be built with what is there."""
    lacks = re.search(f"No matching distribution|Could not find a version|{BUILD_FAILED}|{UNLOCKED}", output)
    return bool(lacks) and not re.search(UNREACHED, output)


def pip_story(output: str, python: str, only_binary: bool = False) -> tuple[str, str]:
    """Return why pip failed (empty where its own words must do) and what to do about it, on a Python such as 3.13."""
    if re.search(NO_GIT, output):
        return "a package is to come from git, and this host has no git", f"{PACKAGES}: [git]"
    nothing = re.search(r"No matching distribution found for (\S+)", output)
    if only_binary and nothing:
        cause = f"no wheel of {nothing.group(1).replace('==', ' ')} for Python {python}, and only_binary asks for one"
        return cause, "ask for a version that has a wheel, or take only_binary out of flask_gunicorn_nginx_pip"
    if re.search(FETCH_FAILED, output):
        remedy = next((remedy for sign, remedy in REMEDIES if "repository" in remedy and re.search(sign, output)), "")
        return "a package is to come from git, and could not be fetched", remedy or UNFETCHED
    if not re.search(BUILD_FAILED, output):
        return "", pip_remedy(output)
    name, version = what_was_built(output)
    if not version:
        cause = f"{name or 'the project'} cannot be built"
        remedy = (
            "an app that starts from its own directory needs no build: have its dependencies in a requirements file,"
            " and leave out what makes it a project (flask_gunicorn_nginx_exclude: [/pyproject.toml, /setup.py])"
        )
        return cause, remedy if re.search(APP, output) else needs(output) or pip_remedy(output) or remedy
    cause = f"no wheel of {name} {version} for Python {python}, and it cannot be built here"
    other = f"ask for a version of {name} that has a wheel for Python {python}"
    if re.search(f"install build dependencies[\\s\\S]*(?:{INDEX})", output):
        return cause, f"is the index reachable? Or {other}"
    lacks = needs(output) or (pip_remedy(output) if re.search(UNLOCKED, output) else "")
    return cause, f"{lacks}; or {other}" if lacks else other


def needs(output: str) -> str:
    """Return which packages of the system would let a build go on, as a setting."""
    found = {name for sign, names in NEEDS if re.search(sign, output) for name in names}
    if found:
        return f"{PACKAGES}: [{', '.join(sorted(found))}]"
    header = re.search(r"fatal error: (\S+\.h(?:pp)?): No such file", output)
    return f"the package that has {header.group(1)} into {PACKAGES}" if header else ""


def what_was_built(output: str) -> tuple[str, str]:
    """Return the name and version of the package whose build failed; no version where it is no package of an index."""
    # what is further in was said by a pip within pip, of what that package is built with
    outer = "\n".join(line for line in output.splitlines() if not line.startswith("   "))
    sources = [(found.group(1), found.group(2)) for found in SOURCE.finditer(outer)]
    named = next((name for found in re.findall(BUILDS, outer) for name in found if name), "")
    if not named:
        return sources[-1] if sources else ("", "")
    return next(((named, version) for name, version in sources if normalized(name) == normalized(named)), (named, ""))
