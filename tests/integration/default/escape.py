"""What somebody tries who has broken into the app, each on its own. Runs in the app's sandbox; says what was stopped.

Nothing that is not stopped does harm: what is written goes again, and a signal is number 0 where it could arrive.
Called with the process of nginx and that of the app's own Gunicorn.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import shutil
import signal
import site
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ATTEMPTS: dict[str, Callable[[], object]] = {}
STATE = "/var/lib/hello"
X86 = platform.machine() == "x86_64"
LIBC = ctypes.CDLL(None, use_errno=True)
# by name their numbers on x86-64 and, in the general table, on arm64
CALLS = {
    "bpf": (321, 280),
    "clone3": (435, 435),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "mount": (165, 40),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "process_vm_readv": (310, 270),
    "pivot_root": (155, 41),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "setns": (308, 268),
    "swapon": (167, 224),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}


def attempt(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def keep(function: Callable[[], object]) -> Callable[[], object]:
        ATTEMPTS[name] = function
        return function

    return keep


def call(name: str, *arguments: object) -> int:
    """Ask the kernel itself, without what a library would say before."""
    number = CALLS[name][0 if X86 else 1]
    done = LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(done)


def write(path: str) -> None:
    there = os.path.lexists(path)
    with open(path, "ab"):
        pass
    if not there:
        os.unlink(path)


def run_copy_in(directory: str, loader: str = "") -> None:
    path = f"{directory}/escape-program"
    shutil.copy(os.path.realpath("/bin/true"), path)
    try:
        os.chmod(path, 0o755)
        done = subprocess.run([*([loader] if loader else []), path], capture_output=True, check=False)
    finally:
        os.unlink(path)
    if done.returncode:
        raise OSError(errno.EACCES, done.stderr.decode(errors="replace").strip()[-80:])


def program(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def connect(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(address)


# write

for path in (
    *("/srv/hello/current/app/x.py", "/srv/hello/current/venv/bin/python", "/srv/hello/current/x", "/srv/hello/x"),
    *("/usr/bin/x", "/usr/local/bin/flaskctl", "/etc/passwd", "/etc/ld.so.preload", "/etc/nginx/nginx.conf"),
    *("/etc/cron.d/x", "/var/spool/cron/crontabs/hello", "/var/spool/cron/atjobs/x", "/etc/systemd/system/x.service"),
    *("/run/systemd/system/x.service", "/root/.ssh/authorized_keys", "/home/x", "/boot/x", "/opt/x", "/run/x"),
    *("/etc/flaskctl/hello.json", "/var/lib/flaskfleet/x", "/run/flaskctl/hello.lock", "/var/log/flaskctl/hello.jsonl"),
    *("/var/log/nginx/hello.access.log", "/var/lib/nginx/x", "/var/www/html/x", "/etc/resolv.conf", "/etc/hosts"),
    *("/proc/sys/kernel/core_pattern", "/proc/sys/vm/memfd_noexec", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"),
    *("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", "/dev/sda", "/dev/mem"),
):
    ATTEMPTS[f"write {path}"] = partial(write, path)


@attempt("make another release the current one")
def relink() -> None:
    os.symlink("releases/0", "/srv/hello/next")


@attempt("make a file that gives its reader rights")
def setuid_file() -> None:
    path = f"{STATE}/escape-setuid"
    write_and_mode = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.fchmod(write_and_mode, 0o4755)
    finally:
        os.close(write_and_mode)
        os.unlink(path)


@attempt("make a device")
def device() -> None:
    os.mknod(f"{STATE}/escape-device", 0o600 | 0o060000, os.makedev(8, 0))


# run

for directory in (STATE, "/tmp", "/var/tmp", "/dev/shm"):
    ATTEMPTS[f"run a program from {directory}"] = partial(run_copy_in, directory)
    ATTEMPTS[f"run a program from {directory} by the loader"] = partial(
        run_copy_in, directory, "/lib64/ld-linux-x86-64.so.2" if X86 else "/lib/ld-linux-aarch64.so.1"
    )


@attempt("load a library from its own data")
def library() -> None:
    path = f"{STATE}/escape-library.so"
    maps = Path("/proc/self/maps").read_text().splitlines()
    found = next(line.split()[-1] for line in maps if "libc.so" in line or "libc-" in line)
    shutil.copy(found, path)
    try:
        ctypes.CDLL(path)
    finally:
        os.unlink(path)


@attempt("run a program from memory")
def memory_file() -> None:
    with os.fdopen(os.memfd_create("x"), "wb") as file:
        file.write(Path(os.path.realpath("/bin/true")).read_bytes())
        file.flush()
        subprocess.run([f"/proc/self/fd/{file.fileno()}"], check=True, pass_fds=[file.fileno()])


@attempt("write to memory and run it")
def write_and_run() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


@attempt("make written memory run")
def make_run() -> None:
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if LIBC.mprotect(ctypes.c_void_p(address), 4096, 5):
        raise OSError(ctypes.get_errno(), "mprotect")


@attempt("run a program of 32 bits")
def bits32() -> None:
    call("personality", 8)


# read

for path in (
    *("/etc/shadow", "/srv/hello/current/environment", "/srv/hello/current/config.json", "/root", "/etc/ssl/private"),
    *("/etc/ssh", "/var/backups", "/proc/1/environ", "/proc/1/status", "/var/log/flaskctl/hello.jsonl", "/dev/kmsg"),
    *("/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/sys/kernel/osrelease", "/sys/firmware"),
    *("/run/credentials", "/var/lib/flaskfleet/tls"),
):

    def read(path: str = path) -> None:
        if os.path.isdir(path):
            if not os.listdir(path):
                raise OSError(errno.ENOENT, "empty")
        else:
            with open(path, "rb") as file:
                file.read(10)

    ATTEMPTS[f"read {path}"] = read


@attempt("read the journal")
def journal() -> None:
    kept = [path for top in ("/var/log/journal", "/run/log/journal") for path in Path(top).glob("*/system.journal")]
    if not kept:
        raise OSError(errno.ENOENT, "there is none")
    kept[0].read_bytes()


@attempt("see the processes of others")
def see_others() -> None:
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and os.stat(f"/proc/{pid}").st_uid != os.getuid()]
    if not others:
        raise OSError(errno.ENOENT, "there are none")


# connect, listen


@attempt("ask a cloud for credentials")
def metadata() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("169.254.169.254", 80))


for path in ("/run/dbus/system_bus_socket", "/run/systemd/private", "/run/docker.sock"):
    ATTEMPTS[f"connect to {path}"] = partial(connect, path)


@attempt("connect to a port of this host")
def port() -> None:
    socket.create_connection(("127.0.0.1", 80), 2).close()


@attempt("listen on a port")
def listen() -> None:
    socket.create_server(("127.0.0.1", 8123)).close()


@attempt("listen on a port that the kernel chooses")
def listen_anywhere() -> None:
    with socket.socket() as server:
        server.listen()


@attempt("listen where only this host hears it")
def abstract() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0escape")
        server.listen()


def open_socket(family: str, kind: int) -> None:
    socket.socket(getattr(socket, family), kind).close()


for family, kind in (
    *(("AF_PACKET", 3), ("AF_NETLINK", 3), ("AF_VSOCK", 1), ("AF_ALG", 5), ("AF_BLUETOOTH", 3), ("AF_TIPC", 1)),
):
    ATTEMPTS[f"open a socket of {family}"] = partial(open_socket, family, kind)
ATTEMPTS["open a raw socket"] = lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()


# the kernel, other processes

ATTEMPTS.update(
    {
        "be root": lambda: os.setuid(0),
        "be root by a program": lambda: program(["su", "-c", "true"]),
        "change the root directory": lambda: os.chroot(STATE),
        "have a user namespace": lambda: call("unshare", 0x10000000),
        "have a mount namespace": lambda: call("unshare", 0x00020000),
        "have a network namespace": lambda: call("unshare", 0x40000000),
        "have a namespace by clone3": lambda: namespace_by_clone3(),
        "enter the namespaces of systemd": lambda: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
        "mount": lambda: call("mount", b"none", STATE.encode(), b"tmpfs", 0, None),
        "change the root of the file system": lambda: call("pivot_root", STATE.encode(), STATE.encode()),
        "trace systemd": lambda: call("ptrace", 16, 1, 0, 0),
        "trace a child": lambda: trace_child(),
        "load a program into the kernel": lambda: call("bpf", 0, ctypes.create_string_buffer(128), 128),
        "measure the kernel": lambda: call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0),
        "hold the kernel in a page fault": lambda: os.close(call("userfaultfd", 0)),
        "load a module": lambda: call("init_module", b"", 0, b""),
        "load another kernel": lambda: call("kexec_load", 0, 0, None, 0),
        "start the host anew": lambda: call("reboot", 0xFEE1DEAD, 672274793, 0, None),
        "swap to a file": lambda: call("swapon", f"{STATE}/x".encode(), 0),
        "set the clock": lambda: __import__("time").clock_settime(0, 0),
        "name the host": lambda: socket.sethostname("escaped"),
        "end systemd": lambda: os.kill(1, 0),
        "end nginx": lambda: os.kill(int(sys.argv[1]), 0),
        "end another release of its own": lambda: os.kill(int(sys.argv[2]), 0),
        "read the memory of another release of its own": lambda: read_memory(int(sys.argv[2])),
        "see another release of its own": lambda: os.stat(f"/proc/{int(sys.argv[2])}/environ"),
        "go before others": lambda: os.nice(-5),
        "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "leave a core dump": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
        "have more files open": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)),
    }
)


def namespace_by_clone3() -> None:
    arguments = struct.pack("<8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def trace_child() -> None:
    child = subprocess.Popen(["sleep", "5"])
    try:
        call("ptrace", 16, child.pid, 0, 0)
    finally:
        child.kill()


def read_memory(pid: int) -> None:
    here = ctypes.create_string_buffer(8)
    local = struct.pack("<QQ", ctypes.addressof(here), 8)
    remote = struct.pack("<QQ", 0x400000, 8)
    call("process_vm_readv", pid, local, 1, remote, 1, 0)


# stay


@attempt("have Python run a file from its data at each start")
def user_site() -> None:
    if site.ENABLE_USER_SITE:
        return
    raise OSError(errno.EPERM, "a virtualenv has no user site")


@attempt("run on after it is stopped")
def linger() -> None:
    program(["loginctl", "enable-linger"])


@attempt("have units of its own")
def user_unit() -> None:
    program(["systemctl", "--user", "daemon-reload"])


@attempt("have units of the host")
def system_unit() -> None:
    program(["systemd-run", "true"])


@attempt("run a job at a time")
def crontab() -> None:
    subprocess.run(["crontab", "-"], input=b"* * * * * true\n", check=True, capture_output=True)


def tried(function: Callable[[], object]) -> str:
    """Return what stopped it; nothing where nothing did."""
    try:
        function()
    except (OSError, subprocess.CalledProcessError, AttributeError, ValueError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"[:120]
    return ""


if __name__ == "__main__":
    print(json.dumps({name: tried(function) for name, function in ATTEMPTS.items()}))
    sys.exit()
