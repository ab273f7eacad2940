"""Jobs of RQ, as its own documentation has them: one page takes a job, another says what came of it."""

import os

from flask import Flask, request
from jobs import add
from redis import Redis
from rq import Queue
from rq.job import Job

app = Flask(__name__)
redis = Redis.from_url(os.environ["RQ_REDIS_URL"])
queue = Queue(connection=redis)


@app.get("/")
def index():
    return f"{queue.count} jobs wait"


@app.post("/jobs")
def enqueue():
    job = queue.enqueue(add, request.form.get("a", type=int), request.form.get("b", type=int), result_ttl=600)
    return {"id": job.id}, 202


@app.get("/jobs/<name>")
def result(name):
    job = Job.fetch(name, connection=redis)
    return {"finished": job.is_finished, "failed": job.is_failed, "value": job.return_value()}
