"""Who waits at the socket of an app, and who was let in, by what the kernel tells. Pure functions."""

from __future__ import annotations

ESTABLISHED, CONNECTED = "01", 3  # of TCP in /proc/net/tcp; SS_CONNECTED of a Unix socket in /proc/net/unix


def queue(said: str, address: str) -> tuple[int, int] | None:
    """Return how many wait at an address and how many may, by `ss`; None where that does not tell."""
    for words in (line.split() for line in said.splitlines()):
        # netid, state, the queue, its limit, the address; of a Unix socket its number comes next
        if len(words) > 4 and words[1] == "LISTEN" and words[4] == address and words[3].isdigit() and words[3] != "0":
            return int(words[2]), int(words[3])
    return None


def accepted(tcp: str, unix: str, address: str) -> set[str]:
    """Return the connections at an address that somebody has accepted, as the files of a process name them.

    One that waits in the queue has no file yet, and its number is 0.
    """
    found = set()
    host, _, port = address.partition(":")
    if port:
        here = "".join(f"{int(byte):02X}" for byte in reversed(host.split("."))) + f":{int(port):04X}"
        for fields in (line.split() for line in tcp.splitlines()[1:]):
            if len(fields) > 9 and fields[1] == here and fields[3] == ESTABLISHED:
                found.add(fields[9])
    else:
        for fields in (line.split() for line in unix.splitlines()[1:]):
            if len(fields) > 7 and fields[7] == address and int(fields[5], 16) == CONNECTED:
                found.add(fields[6])
    return {f"socket:[{number}]" for number in found - {"0"}}
