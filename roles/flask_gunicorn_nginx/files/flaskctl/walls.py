"""The walls around an app: by which words of its own it shows that it met one, and which setting opens it. Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flaskctl.outbound import shuts
from flaskctl.signs import (
    ADDRESS,
    DENIED,
    END,
    EPERM,
    LATE,
    METADATA,
    NONE,
    OF_ITS_OWN,
    READ_ONLY,
    SERVERS,
    Stands,
    about,
    always,
    beside,
    made_by,
    may_not_run,
    running,
    within,
)


class Wall(NamedTuple):
    """A restriction of the sandbox.

    In `tells`, `opens` and `door` {0} is what the sign has in its first group, in `opens` {door} is the line of `door`.
    """

    name: str
    signs: str
    stands: Stands
    tells: str
    costs: str
    door: Mapping[str, str] = {}
    opens: str = "{door}"
    unknown: str = "DIRECTORY"  # what {0} is where the words do not tell


# In the order in which they are asked: of two that would fit, the first knows more.
WALLS = (
    Wall(
        "a file beside the code",
        beside(rf"([^/'\s:]+\.\w+){END}"),
        always,
        "the code is read-only, and the app writes a file beside it",
        "what is written there is shared by all releases",
        opens="the app's own setting for that file: /var/lib/{app}/{0}",
    ),
    Wall(
        "write beside the code",
        beside(rf"([^'\s:]+?)(?:/[^/\s'.]+\.[^/\s':]+)?{END}"),
        always,
        "the code is read-only, and the app writes beside it",
        "what is written there is shared by all releases",
        opens="flask_gunicorn_nginx_writable: [{0}], which keeps it in /var/lib/{app} and links it into each release",
    ),
    Wall(
        "a database file",
        r"unable to open database file|attempt to write a readonly database",
        always,
        "SQLite cannot write where its file is to be; beside the code nothing can be written",
        "what is written there is shared by all releases",
        opens="put it in /var/lib/{app}, as in sqlite:////var/lib/{app}/app.db; or, beside the code,"
        " flask_gunicorn_nginx_writable: [{0}]",
    ),
    Wall(
        "write into a library",
        about(rf"(?:{DENIED}|{READ_ONLY})", r"(/srv/[^/\s]+/(?:venvs/|releases/\w+/venv/)[^\s':]+)"),
        always,
        "installed packages are read-only, and one of them writes beside itself",
        "none",
        opens="the package's own setting for where it writes, below /var/lib/{app}",
    ),
    Wall(
        "memory that is written and run",
        r"write\+execute memory|allocate executable memory|LLVM ERROR: .*memory|"
        r"Check failed: 12 == \(\*__errno_location|"
        r"cannot (?:make segment writable|restore segment prot|enable executable stack)|"
        r"os::commit_memory\(.*errno=1\)|(?:/usr|/srv)/\S+: failed to map segment|"
        + within(r"\bmmap\.mmap\(|\b(?:mmap|mprotect)\b", DENIED),
        made_by("MemoryDenyWriteExecute"),
        "memory cannot be both written and run, which callbacks of cffi, V8, numba and Java need",
        "an attacker who can write to memory can run it",
        {"MemoryDenyWriteExecute": "false"},
    ),
    Wall(
        "mail by sendmail",
        r"sendmail: .*(?:denied|not permitted|getifaddrs)|Failed to create spool file|postdrop: |setgid.*not permitted|"
        r"maildrop.*(?:denied|not permitted)|exim\S*: .*(?:setgid|setuid|denied|not permitted)|unable to set gid=\d+",
        always,
        "sendmail needs rights of its own (setgid), which no program can get here",
        "none",
        opens="send by SMTP to 127.0.0.1, which works: MAIL_SERVER = '127.0.0.1'",
    ),
    Wall(
        "the list of network interfaces",
        r"Cannot open netlink socket|Unknown system error 97|"
        + within(r"if_nameindex|if_addrs|if_stats|if_name|interfaces|netlink", r"Address family not supported"),
        made_by("RestrictAddressFamilies"),
        "netlink is shut, which lists network interfaces (psutil, if_nameindex, Node's networkInterfaces)",
        "the app sees the host's interfaces and addresses",
        {"RestrictAddressFamilies": "AF_NETLINK"},
    ),
    Wall(
        "other kinds of sockets",
        within(r"\b(AF_(?!INET|UNIX|NETLINK)[A-Z]+)\b", "Address family not supported"),
        made_by("RestrictAddressFamilies"),
        "of sockets there are those of IPv4, IPv6 and Unix",
        "more of the kernel can be attacked",
        {"RestrictAddressFamilies": "{0}"},
    ),
    Wall(
        "a port of its own",
        r"bind.*Operation not permitted|Operation not permitted.*\bbind\b|listen EPERM|"
        + within(r"\.bind\(|create_server\(|start_server\(", EPERM),
        made_by("SocketBindDeny"),
        "the app may not listen on a port: requests come over the socket that systemd holds",
        "a second way into the app",
        {"SocketBindAllow": "tcp:PORT"},
    ),
    Wall(
        "where clouds hand out credentials",
        rf"{METADATA}\b.{{0,200}}{LATE}|{LATE}.{{0,200}}{METADATA}\b|"
        + within(rf"{METADATA}\b", LATE)
        + r"|NoCredentialsError: Unable to locate credentials|DefaultCredentialsError|IMDS endpoint",
        lambda settings, what: shuts(settings, what if what[:1].isalnum() else "169.254.169.254"),
        "link-local addresses are shut, at which a cloud gives whoever asks the rights of this machine",
        "whoever breaks into the app has the rights of this machine",
        {"IPAddressAllow": "{0}"},
        "keys of its own in flask_gunicorn_nginx_credentials; or {door}",
        "169.254.169.254",
    ),
    Wall(
        "names of other machines",
        r"Temporary failure in name resolution|EAI_AGAIN|lookup \S+ on \S+: .*(?:i/o timeout|not permitted)",
        lambda settings, _what: shuts(settings),
        "the app asks the resolvers that this host had when it was released, and none with the outbound `none`",
        "the app reaches what is named, an attacker in it too",
        opens="flask_gunicorn_nginx_outbound: [ADDRESS], the addresses that it needs, or any; and a run of the playbook"
        " where /etc/resolv.conf has changed",
    ),
    Wall(
        "other machines",
        rf"^.*?\b{ADDRESS}\b.{{0,120}}{LATE}|^.*?{LATE}.{{0,60}}\b{ADDRESS}|"
        + within(rf"\bconnect\w*\(.*?{ADDRESS}", rf"(?:{LATE})")
        + r"|(?:(?:urlopen|urllib3|connection)\w*\W.*|connect \w*|TimeoutError: .*Connection )timed ?out"
        + r"|connect (?:ETIMEDOUT|EAFNOSUPPORT)|could not create socket: Address family|dial .*: address family|"
        + within(r"\b(?:connect|create_connection|sendto)\(", rf"(?:{EPERM}|timed out|Address family not supported)")
        + "|"
        + within(r"\bsocket\.socket\(", "Address family not supported"),
        lambda settings, what: shuts(settings, what),
        "the app may connect to the addresses of flask_gunicorn_nginx_outbound alone",
        "the app reaches what is named, an attacker in it too",
        opens="flask_gunicorn_nginx_outbound: [{0}], with the others that it needs, or any",
        unknown="ADDRESS",
    ),
    Wall(
        "programs that it wrote",
        running(OF_ITS_OWN),
        may_not_run,
        "nothing runs from where the app may write, as from {0}",
        "an attacker who can write a file there can run it",
        {"ExecPaths": "{0}"},
        "put the program into the source or into a package of it, or install it on the host; or {door}",
    ),
    Wall(
        "programs in memory",
        within(r"\bmemfd_create\b", DENIED),
        always,
        "there are no files in memory (memfd_create), from which a program could be run",
        "an attacker can run a program that is in no file",
        {"SystemCallFilter": "memfd_create"},
        "a file in /tmp or /dev/shm in its place; or {door}",
    ),
    Wall(
        "homes",
        about(DENIED, rf"(/home|/root|/run/user)(?:/[^\s':]*)?{END}"),
        made_by("ProtectHome"),
        "homes cannot be seen",
        "the app reads what a home lets others read",
        {"ProtectHome": "read-only"},
    ),
    Wall(
        "hidden directories",
        about(DENIED, r"(/etc/ssh|/etc/ssl/private|/etc/letsencrypt|/var/backups|/var/lib/cloud|/run/dbus)\b[^\s':]*"),
        made_by("InaccessiblePaths"),
        "keys and backups of the host cannot be seen",
        "none",
        opens="what the app is to read goes into flask_gunicorn_nginx_credentials",
    ),
    Wall(
        "the kernel's tables",
        about(NONE, rf"(/proc/(?!self\b|thread-self\b|\d)\w[^\s'\":]*){END}")
        + r"|Load averages are unobtainable|/proc must be mounted|Cannot get system uptime"
        + r"|Unable to get total memory|/proc/\w+ does not exist",
        made_by("ProcSubset"),
        "of /proc there are the app's own processes alone (psutil's memory and CPU)",
        "the app sees the host's load, memory and hardware",
        {"ProcSubset": "all"},
    ),
    Wall(
        "other processes",
        about(NONE, r"/proc/\d+(?:/\w+)*"),
        made_by("ProtectProc"),
        "processes of others cannot be seen, as if they had ended",
        "the app sees the command lines of all processes",
        {"ProtectProc": "default"},
    ),
    Wall(
        "devices",
        about(NONE, r"(/dev/(?!shm\b|pts\b|fd\b|mqueue\b|std|log\b)[^\s'\":]+)"),
        made_by("PrivateDevices"),
        "there are no devices but the harmless ones",
        "the app reaches the hardware that is named",
        {"PrivateDevices": "false", "DeviceAllow": "{0} rw"},
    ),
    Wall(
        "the /tmp of others",
        about(NONE, r"(/(?:var/)?tmp/[^\s'\":]*(?:\.sock|\.s\.PGSQL\.\d+)\b)")
        + r"|(/tmp/\S*(?:\.sock|\.s\.PGSQL\.\d+))\b.{0,60}No such file",
        made_by("PrivateTmp"),
        "/tmp and /var/tmp are the app's own, without what others have there",  # nosec B108: words
        "the app sees what others leave in /tmp",
        {"PrivateTmp": "false"},
    ),
    Wall(
        "a directory in /run",
        about(DENIED, r"(/(?:var/)?run/(?!user\b|postgresql|redis|mysqld|memcached|rabbitmq|dbus)[^\s':]+)"),
        always,
        "/run is root's",
        "none",
        {"RuntimeDirectory": "{app}"},
        "{door}, and write to /run/{app}",
    ),
    Wall(
        "sockets of other services",
        rf"{SERVERS}.{{0,80}}(?:Permission denied|\(13\))|Permission denied.{{0,80}}{SERVERS}|connect EACCES {SERVERS}|"
        + within(SERVERS, r"\[Errno 13\] Permission denied"),
        always,
        "the socket of another service is open to its own group",
        "the app may use that service",
        {"SupplementaryGroups": "GROUP"},
        "{door}, the group that owns {0}; or its port on 127.0.0.1",
    ),
    Wall(
        "rights of root",
        r"sudo: .*no new privileges|ping: .*(?:socktype|not permitted)|socket: Operation not permitted|"
        + within(r"\bSOCK_RAW\b", r"Operation not permitted"),
        always,
        "no program gets rights here that the app has not: sudo, su, ping",
        "none",
        opens="let a unit of the host do it, or a cron job of root, with what the app leaves in /var/lib/{app}",
    ),
    Wall(
        "a sandbox in the sandbox",
        r"No usable sandbox|Failed to move to new namespace|setting up uid map|Creating new namespace failed|"
        + within(r"\bunshare\b", "Operation not permitted"),
        made_by("RestrictNamespaces"),
        "a browser or bwrap makes namespaces of its own, which are shut",
        "none: the app's own sandbox stands around it",
        opens="start it without: --no-sandbox",
    ),
    Wall(
        "priorities and processors",
        r"nice: (?:cannot set niceness|failed to set priority)|taskset: failed to set|"
        + within(r"os\.nice|sched_set\w+|setpriority|ioprio_set|ionice|cpu_affinity", DENIED),
        always,
        "a process may not change its own priority or processors",
        "the app can slow others down",
        {"SystemCallFilter": "@resources"},
        "{door}; Nice and CPUAffinity there need none of it",
    ),
    Wall(
        "a directory in /var/log",
        about(rf"(?:{NONE}|{READ_ONLY})", r"(/var/log)/[^'\s:]+"),
        always,
        "what logs there needs a directory of its own",
        "none",
        {"LogsDirectory": "{app}"},  # of no other name: systemd gives what is there to the app
        "log to stderr, which is in the journal; or {door}, and log to /var/log/{app}",
    ),
    Wall(
        "the host's own directories",
        about(READ_ONLY, r"(/(?:etc|usr|boot|lib\w*|s?bin)/[^\s':]+)"),
        made_by("ProtectSystem"),
        "what the host itself lives on is read-only, {0} as well",
        "none",
        opens="write to /var/lib/{app}",
    ),
    Wall(
        "writing elsewhere",
        # a directory that is to be made right where the host keeps many, itself; of a file the directory that it is in
        about(
            READ_ONLY,
            r"(?!/srv/[^/]+/releases|/proc/|/sys/|/dev/)"
            rf"(?:(/(?:(?:var|opt|srv|mnt|media|home|var/(?:lib|cache|spool))/)?[^/\s':]+){END}"
            r"|(/[^'\s:]{1,300})/[^'\s:/]+)",
        ),
        made_by("ProtectSystem"),
        "the file system is read-only but for /var/lib/{app}, /tmp and /var/tmp",
        "what is there is no part of a release",
        {"ReadWritePaths": "{0}"},
        "write to /var/lib/{app}; or {door}, a directory that stands and is the app's",
    ),
    Wall(
        "users and owners",
        within(r"os\.(?:set\w*[ug]id|setgroups|l?f?chown|chroot)|shutil\.chown|initgroups", EPERM)
        + r"|(?:chown|chgrp): .*Operation not permitted",
        always,
        "the app is one user and no other, and gives nothing away",
        "little: without capabilities it can become nobody else",
        {"SystemCallFilter": "@setuid @chown"},
        "start it as this user, without a change of user or owner; where it changes to itself, {door}",
    ),
    Wall(
        "the time of a worker",
        r"WORKER TIMEOUT",
        always,
        "a worker that did nothing else for 30 s was ended: something blocked it, as multiprocessing.Pool does",
        "threads serve fewer clients at once; with more time a worker that hangs does so longer",
        opens="concurrent.futures.ProcessPoolExecutor, which works, in place of multiprocessing.Pool, which hangs"
        " with threads too; for what else blocks flask_gunicorn_nginx_settings: {{worker_class: gthread}}; for what is"
        " slow {{timeout: 120}} there",
    ),
    Wall(
        "open files",
        r"Too many open files|EMFILE|error setting limit",
        always,
        "there are as many open files and connections as LimitNOFILE allows",
        "little: a leak goes on longer",
        {"LimitNOFILE": "65536"},
        "{door}, or more",
    ),
    Wall(
        "threads and processes",
        r"can't start new thread|fork: retry|"
        + within(r"fork_exec|_execute_child|os\.fork|\bfork\(|Popen", r"\[Errno 11\] Resource temporarily unavailable"),
        always,
        "there are as many threads and processes as TasksMax allows",
        "a loop that forks hurts the host more",
        {"TasksMax": "4096"},
        "{door}, or more",
    ),
    Wall(
        "memory",
        r"oom-kill|A process of this unit has been killed by the OOM killer|Memory cgroup out of memory",
        always,
        "the memory that MemoryMax allows was not enough, or that of the host, and the kernel ended a process",
        "less memory for others",
        {"MemoryMax": "95%"},
        "fewer workers, or more memory for the host; or {door}",
    ),
    Wall(
        "what the host has not",
        r"cannot load library '([^'\s]+)'|\b([\w.+-]+\.so[\w.]*): cannot open shared object|spawn ([^/\s]+) ENOENT|"
        + within("_execute_child", rf"{NONE}: '([^/']+)'"),
        always,
        "{0} is not on this host",
        "none",
        opens="the package that has {0} into flask_gunicorn_nginx_packages",
    ),
    Wall(
        "programs for another processor",
        r"Bad system call|SIGSYS|status=31/SYS",
        made_by("SystemCallArchitectures"),
        "programs of 32 bits, and system calls of theirs, are ended",
        "more of the kernel can be attacked",
        {"SystemCallArchitectures": "native x86"},
    ),
)
