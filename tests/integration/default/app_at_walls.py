"""An app that runs into each wall of its sandbox, one at a time: GET /NAME. With the walls open every route answers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import mmap
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import flask

app = flask.Flask(__name__)
ROOT = Path(app.root_path)
STATE = Path("/var/lib/hello")
SCRIPT = "#!/bin/sh\nexit 0\n"


def at(function: Callable[[], object]) -> Callable[[], object]:
    app.add_url_rule(f"/{function.__name__}", function.__name__, lambda: str(function() or "ok"))
    return function


def program(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr or done.stdout}")


def written(directory: str | Path) -> str:
    path = Path(directory, "script.sh")
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return str(path)


@app.get("/")
def index() -> str:
    return "ok"


@at
def a_file_beside_the_code() -> None:
    (ROOT / "site.db").write_text("x")


@at
def the_instance_folder() -> None:
    os.makedirs(app.instance_path)


@at
def an_upload() -> None:
    (ROOT / "static/uploads/a.png").write_text("x")


@at
def sqlite_beside_the_code() -> None:
    sqlite3.connect(ROOT / "data" / "site.db").execute("create table t (a)")


@at
def a_cache_in_a_package() -> None:
    Path(flask.__file__).with_name("cache").mkdir()


@at
def memory_of_mmap() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


@at
def memory_of_mprotect() -> None:
    c = ctypes.CDLL(None, use_errno=True)
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if c.mprotect(ctypes.c_void_p(address), 4096, 7):
        raise OSError(ctypes.get_errno(), f"mprotect: {os.strerror(ctypes.get_errno())}")


@at
def interfaces() -> object:
    return socket.if_nameindex()


@at
def packets() -> None:
    with contextlib.suppress(PermissionError):  # which is another matter
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


@at
def a_port() -> None:
    socket.create_server(("127.0.0.1", 8123)).close()


@at
def metadata() -> None:
    socket.create_connection(("169.254.169.254", 80), 1).close()


@at
def a_script_in_tmp() -> None:
    subprocess.run([written("/tmp")], check=True)


@at
def a_script_of_a_shell() -> None:
    program("sh", "-c", written("/tmp"))


@at
def a_script_in_var_tmp() -> None:
    subprocess.run([written("/var/tmp")], check=True)


@at
def a_program_of_its_own() -> None:
    subprocess.run([written(STATE)], check=True)


@at
def a_library_of_its_own() -> None:
    path = STATE / "library.so"
    path.write_bytes(Path("/opt/vendor/library.so").read_bytes())
    ctypes.CDLL(str(path))


@at
def a_file_in_memory() -> None:
    os.close(os.memfd_create("x"))


@at
def a_program_in_opt() -> None:
    subprocess.run(["/opt/vendor/tool"], check=True)


@at
def a_library_in_opt() -> None:
    ctypes.CDLL("/opt/vendor/library.so")


@at
def a_home() -> object:
    return Path("/home/anna/settings.toml").read_text()


@at
def keys_of_the_host() -> object:
    return os.listdir("/etc/ssl/private")


@at
def meminfo() -> object:
    return Path("/proc/meminfo").read_text()[:20]


@at
def uptime() -> None:
    program("uptime")


@at
def another_process() -> object:
    return Path("/proc/1/status").read_text()[:20]


@at
def a_device() -> object:
    return Path("/dev/wall0").read_text()


@at
def redis() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/redis/redis-server.sock")


@at
def nice() -> None:
    os.nice(1)


@at
def affinity() -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))


@at
def a_log() -> None:
    logging.FileHandler("/var/log/hello/hello.log").close()


@at
def uploads_elsewhere() -> None:
    Path("/srv/uploads/a.png").write_text("x")


@at
def the_same_user() -> None:
    os.setuid(os.getuid())


@at
def the_same_owner() -> None:
    os.chown(written(STATE), os.getuid(), os.getgid())


@at
def a_namespace() -> None:
    program("unshare", "--user", "true")


@at
def a_program_of_32_bits() -> None:
    subprocess.run(["/usr/local/bin/bits32"], check=True)


@at
def threads() -> None:
    end = threading.Event()
    begun = []
    try:
        for _ in range(400):
            begun.append(threading.Thread(target=end.wait))
            begun[-1].start()
    finally:
        end.set()


@at
def a_name() -> object:
    return socket.getaddrinfo("db.example.test", 5432)


@at
def another_machine() -> None:
    socket.create_connection(("192.0.2.1", 80), 1).close()


@at
def another_machine_by_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("192.0.2.1", 53))


@at
def a_pool() -> object:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map_async(abs, [-1, -2]).get(5)


# what resembles a wall, and is none


@at
def a_file_of_its_own() -> None:
    path = STATE / "closed"
    path.write_text("x")
    path.chmod(0)
    try:
        path.read_text()
    finally:
        path.unlink()


@at
def a_file_of_root() -> None:
    Path("/etc/shadow").read_text()


@at
def a_home_in_a_message() -> None:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/home/anna/settings.toml")


@at
def its_own_database() -> None:
    socket.create_connection(("127.0.0.1", 1), 1)


@at
def a_socket_that_does_not_wait() -> None:
    ours, _theirs = socket.socketpair()
    ours.setblocking(False)
    ours.recv(1)


@at
def a_missing_file() -> None:
    (ROOT / "settings.toml").read_text()


@at
def a_page_that_is_forbidden() -> None:
    raise PermissionError("you may not see this page")


@at
def a_timeout_of_its_own() -> None:
    ours, _theirs = socket.socketpair()
    ours.settimeout(0.1)
    ours.recv(1)
