"""In the shape of CTFd, which is on no package index. For tests only."""

import os

# under `flask run` nothing is to be patched
if not os.getenv("FLASK_RUN_FROM_CLI"):
    from gevent import monkey

    monkey.patch_all()

from CTFd import create_app  # noqa: E402

app = create_app()
