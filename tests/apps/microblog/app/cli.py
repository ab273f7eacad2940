import time

import click
import sqlalchemy as sa
from flask.cli import with_appcontext
from flask_mail import Message

from app import db, mail
from app.models import Task


@click.command("worker")
@with_appcontext
def worker() -> None:
    """Greet each new user by mail."""
    while True:
        for task in db.session.scalars(sa.select(Task).where(~Task.complete)):
            mail.send(Message("Welcome to Microblog", recipients=[task.recipient], body="Hello!"))
            task.complete = True
        db.session.commit()
        time.sleep(1)
