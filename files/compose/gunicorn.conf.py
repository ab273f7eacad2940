#
# From flask_gunicorn_nginx.yml and the role's gunicorn.conf.py.j2 by: python -m tools.compose render
#
import io
import os
import sys

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

# The gate: each worker, after the import and before it accepts a connection, asks the app's health path. One that fails
# ends Gunicorn, and the container with it.
SCRIPT_NAME = ""
HEALTH_PATH = '/'
HEALTH_HOST = "localhost"
HEALTH_SCHEME = "http"

if SCRIPT_NAME:
    os.environ["SCRIPT_NAME"] = SCRIPT_NAME  # Gunicorn's own way to mount an app below a path


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
    try:
        body = b"".join(chunks)[:500]
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return answer[0], answer[1], body.decode("utf-8", "replace")


def post_worker_init(worker):
    status, headers, body = _ask(worker.wsgi)
    if not status.startswith("2"):
        where = headers.get("Location", "")
        https = f" If TLS ends before this host, set flask_gunicorn_nginx_public_url: https://{HEALTH_HOST}."
        raise RuntimeError(
            f"health check: GET {SCRIPT_NAME}{HEALTH_PATH} answered {status}" + (f" to {where}" if where else "") + ", not 2xx."
            + (https if HEALTH_SCHEME == "http" and where.startswith("https:") else "")
            + f" Mend the app, or name a path that answers 2xx in flask_gunicorn_nginx_health_path. It said: {body}"
        )
