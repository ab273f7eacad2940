#
# From flask_gunicorn_nginx.yml and the role's gunicorn.conf.py.j2 by: python -m tools.compose render
#
import importlib.util
import inspect
import io
import os
import sys
import time

wsgi_app = 'app:app'
proc_name = "hello"
bind = "0.0.0.0:5000"
worker_class = "gevent"
# one gevent worker a core, more buys nothing; two at least, so that one that is stuck does not stop the site
workers = max(2, len(os.sched_getaffinity(0)))
worker_connections = 2000
timeout = 30
graceful_timeout = 30
# longer than the upstream keepalive_timeout of nginx: nginx always closes first, no request meets a closed connection
keepalive = 75
# as long as what nginx lets through
limit_request_line = 8190
# nobody but nginx can reach this container, and its address there is not known before
forwarded_allow_ips = "*"
# no request header becomes SCRIPT_NAME or PATH_INFO
forwarder_headers = ""
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
# nginx writes the access log; a second one in the journal costs almost half of the throughput
accesslog = None
errorlog = "-"

GEVENT = "gevent" in str(worker_class)
if "gthread" in str(worker_class) and "threads" not in globals():
    threads = max(2, min(16, 128 // workers))  # what systemd lets a release have (TasksMax) is for its children too


def _patch():
    """Have all that waits give way to other requests: what was imported before would go on to block, or to fail."""
    from gevent import monkey

    monkey.patch_all()
    if importlib.util.find_spec("psycogreen") and importlib.util.find_spec("psycopg2"):
        from psycogreen.gevent import patch_psycopg

        patch_psycopg()  # psycopg2 waits in C, where gevent cannot see it


if GEVENT and globals().get("preload_app"):
    _patch()  # here, for the master imports the app

# The gate: each worker, after the import and before it accepts a connection, asks the app's health path. One that fails
# ends Gunicorn, and the container with it.
SCRIPT_NAME = ""
HEALTH_PATH = '/'
HEALTH_HOST = "localhost"
HEALTH_SCHEME = "http"
MOST_OF_AN_ANSWER = 64 * 1024

if SCRIPT_NAME:
    os.environ["SCRIPT_NAME"] = SCRIPT_NAME  # Gunicorn's own way to mount an app below a path


def post_fork(server, worker):
    if GEVENT:
        _patch()
    if worker_class == "gevent":
        worker.__class__ = _woken(type(worker))


def _woken(worker_of_gunicorn):
    """A class like Gunicorn's own, which looks once a second whether it is to end: this one is told, and ends at once."""
    from functools import partial

    from gevent.event import Event
    from gevent.pool import Pool
    from gevent.server import StreamServer

    class SharingServer(StreamServer):
        @property
        def max_accept(self):
            # one at a time, so that the other workers take theirs. But who comes waits for as long as all are answered who are
            # there already, and those of kept connections come again at once: the more there are, the more are taken
            return max(1, len(self.pool) // 8)

    class Woken(worker_of_gunicorn):
        def init_process(self):
            self.told = Event()
            super().init_process()

        def handle_exit(self, sig, frame):
            super().handle_exit(sig, frame)
            self.told.set()

        def run(self):
            pool, tls = Pool(self.worker_connections), {}
            if self.cfg.is_ssl:
                from gunicorn.sock import ssl_context

                tls["ssl_context"] = ssl_context(self.cfg)
            kind = SharingServer if self.cfg.workers > 1 else StreamServer
            servers = [kind(s, handle=partial(self.handle, s), spawn=pool, **tls) for s in self.sockets]
            for server in servers:
                server.start()
            while self.alive:
                self.notify()
                self.told.wait(1)
            for server in servers:
                server.close()
            deadline = time.monotonic() + self.cfg.graceful_timeout
            while len(pool) and time.monotonic() < deadline:
                self.notify()
                pool.join(timeout=1)
            if len(pool):
                self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
                pool.kill(timeout=1)

    return Woken


def _not_wsgi(app):
    """Why this cannot be served, by what it takes when it is called; nothing where that does not tell."""
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__):
        return f"{wsgi_app} is an ASGI app, and what is served here is WSGI: wrap it, a2wsgi.ASGIMiddleware(app)."
    try:
        takes = inspect.signature(app)
    except (TypeError, ValueError):
        return ""
    try:
        takes.bind({}, print)  # as a request calls it
    except TypeError:
        pass
    else:
        first = next(iter(takes.parameters.values()))
        if first.default is inspect.Parameter.empty:  # a request is always given: what may be left out is a setting
            return ""
    if wsgi_app.endswith(")"):
        return f"{wsgi_app} gave {app!r}, which is no WSGI app: have it return the app."
    return (
        f"{wsgi_app} is no WSGI app but a function that makes one, {getattr(app, '__name__', 'app')}{takes}:"
        f" set flask_gunicorn_nginx_wsgi_app: {wsgi_app}(), with what it needs between the parentheses."
    )


def _imported_too_early():
    """What holds the ssl of before gevent's patch: TLS ends there in a RecursionError, whatever the health path says."""
    from gevent import monkey

    old = monkey.get_original("ssl", "SSLContext")
    modules = [(name, getattr(module, "__dict__", {})) for name, module in list(sys.modules.items())]
    return sorted(
        name for name, held in modules
        if not name.startswith("gevent.") and any(value is old for value in list(held.values()))
    )


def _ask(app):
    """The status line, headers and first bytes of the body of the app's answer on its health path."""
    answer = []
    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": SCRIPT_NAME, "PATH_INFO": HEALTH_PATH, "QUERY_STRING": "",
        "SERVER_NAME": HEALTH_HOST.partition(":")[0],
        "SERVER_PORT": HEALTH_HOST.partition(":")[2] or ("443" if HEALTH_SCHEME == "https" else "80"),
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": HEALTH_HOST,
        "HTTP_X_REAL_IP": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": HEALTH_SCHEME,
        "HTTP_USER_AGENT": "flaskfleet-gate", "wsgi.version": (1, 0), "wsgi.url_scheme": HEALTH_SCHEME,
        "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    chunks = app(environ, lambda status, headers, exc_info=None: answer.extend((status, dict(headers))))
    body = b""
    try:
        for chunk in chunks:  # an answer may be larger than the memory, or have no end
            body += chunk[: MOST_OF_AN_ANSWER - len(body)]
            if len(body) >= MOST_OF_AN_ANSWER:
                break
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return answer[0], answer[1], body[:500].decode("utf-8", "replace")


def post_worker_init(worker):
    wrong = _not_wsgi(worker.wsgi)
    if wrong:
        raise RuntimeError(wrong)
    early = _imported_too_early() if GEVENT else []
    if early:
        raise RuntimeError(
            f"{early[0]} was imported before gevent could patch it, and cannot use TLS. Import it nowhere before the app"
            " (sitecustomize, a logger_class), or set flask_gunicorn_nginx_settings: {worker_class: gthread}."
        )
    status, headers, body = _ask(worker.wsgi)
    if not status.startswith("2"):
        where = headers.get("Location", "")
        https = f" If TLS ends before this host, set flask_gunicorn_nginx_public_url: https://{HEALTH_HOST}."
        raise RuntimeError(
            f"health check: GET {SCRIPT_NAME}{HEALTH_PATH} answered {status}" + (f" to {where}" if where else "") + ", not 2xx."
            + (https if HEALTH_SCHEME == "http" and where.startswith("https:") else "")
            + f" Mend the app, or name a path that answers 2xx in flask_gunicorn_nginx_health_path. It said: {body}"
        )
