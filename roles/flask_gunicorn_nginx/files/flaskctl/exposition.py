"""Which figures of an app there are, and the text in which Prometheus reads them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flaskctl.texts import printable

PREFIX = "flaskfleet_"


class Metric(NamedTuple):
    kind: str  # gauge or counter
    help: str


class Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


# By name without PREFIX. What a host cannot tell has no sample: a 0 would be a lie.
METRICS: Mapping[str, Metric] = {
    name: Metric("counter" if name.endswith("_total") else "gauge", text)
    for name, text in {
        "up": "Whether the current release runs and its socket listens, by systemd.",
        "measured_timestamp_seconds": "When these figures were taken.",
        "release_info": "The current release and the revision that it was made of.",
        "release_activated_timestamp_seconds": "When the current release was activated last.",
        "releases": "Releases on this host.",
        "releases_running": "Releases of which something runs; more than one beside a rollout is a fault.",
        "workers": "Worker processes of the web server.",
        "workers_busy": "Of these those that hold a connection at the app's socket; nginx keeps one for a second.",
        "connections": "Connections at the app's socket that a worker has accepted.",
        "socket_queue_connections": "Connections that wait at the app's socket for a worker to accept them.",
        "socket_queue_limit_connections": "How many may wait there, as the kernel has it.",
        "unit_restarts_total": "How often systemd has started a unit of the current release again by itself.",
        "memory_bytes": "Memory that a unit of the current release uses.",
        "memory_limit_bytes": "Memory that it may use.",
        "oom_kills_total": "Processes of a unit of the current release that the kernel ended for want of memory.",
        "tasks": "Processes and threads of a unit of the current release.",
        "tasks_limit": "How many it may have.",
        "cpu_seconds_total": "Processor time that a unit of the current release has used.",
        "rollouts_total": "Activations, rollbacks and refusals in the audit log of this host.",
        "last_rollout_info": "The last of these: how it ended, and of which release.",
        "last_rollout_success": "Whether the release of the last of these serves and all that it replaced has ended.",
        "last_rollout_timestamp_seconds": "When it ended.",
        "last_rollout_duration_seconds": "How long it took, from its start to the end of the drain.",
        "certificate_expiry_timestamp_seconds": "When the certificate of the site ends.",
        "certificate_renewal_failed": "Whether the last renewal of the certificate failed.",
        "problems": "Problems that `flaskctl APP status` names.",
        "drifted": "Files, units and accounts that are not as they were deployed; the code of a release is not read.",
        "restart_pending": "Libraries that an update has replaced under the running processes.",
        "maintenance": "Whether users get a page with 503.",
        "drained": "Whether the readiness path says no to load balancers.",
        "lock_held": "Whether a rollout has the rollout lock.",
        "lock_seen_timestamp_seconds": "When that rollout gave its last sign of life.",
        "recent_requests": "Requests that nginx passed to the app in the last 5 minutes, by its log.",
        "recent_errors": "Of these those that were answered with 5xx.",
        "recent_p95_seconds": "Within how many seconds 95 % of these were answered.",
        "nginx_connections": "Connections of this host's nginx as a whole, the same for each app.",
        "nginx_connections_accepted_total": "Connections that nginx has accepted, of all sites.",
        "nginx_connections_handled_total": "Of these those that it did not drop for want of worker_connections.",
        "nginx_requests_total": "Requests to nginx, of all sites.",
    }.items()
}


def escaped(text: str, quote: bool = False) -> str:
    text = printable(text).replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def exposition(samples: Iterable[Sample]) -> str:
    """Return samples as text, those of each metric together; a metric without a sample is left out."""
    by_name: dict[str, list[str]] = {}
    for sample in samples:
        labels = ",".join(f'{key}="{escaped(value, quote=True)}"' for key, value in sample.labels.items())
        by_name.setdefault(sample.name, []).append(f"{PREFIX}{sample.name}{{{labels}}} {number(sample.value)}\n")
    text = ""
    for name, metric in METRICS.items():
        if name in by_name:
            full = PREFIX + name
            text += f"# HELP {full} {escaped(metric.help)}\n# TYPE {full} {metric.kind}\n{''.join(by_name[name])}"
    return text


def stub_status(text: str) -> dict[str, int]:
    """Return what nginx says of itself (ngx_http_stub_status_module), by name; nothing where it says something else."""
    found = re.search(
        r"Active connections: (?P<active>\d+)\s+server accepts handled requests\s+"
        r"(?P<accepts>\d+) (?P<handled>\d+) (?P<requests>\d+)\s+"
        r"Reading: (?P<reading>\d+) Writing: (?P<writing>\d+) Waiting: (?P<waiting>\d+)",
        text,
    )
    return {name: int(value) for name, value in found.groupdict().items()} if found else {}
