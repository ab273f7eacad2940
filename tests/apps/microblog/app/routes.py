import sqlalchemy as sa
from flask import Blueprint, current_app, flash, redirect, render_template, url_for
from flask_login import current_user, login_required, login_user
from werkzeug.wrappers import Response

from app import db
from app.forms import LoginForm, PostForm, RegistrationForm
from app.models import Post, Task, User

blueprint = Blueprint("main", __name__)


@blueprint.route("/", methods=["GET", "POST"])
@login_required
def index() -> Response | str:
    form = PostForm()
    if form.validate_on_submit():
        db.session.add(Post(body=form.post.data, author=current_user))
        db.session.commit()
        flash("Your post is now live!")
        return redirect(url_for("main.index"))
    return render_template("index.html", title="Home", form=form, posts=newest())


@blueprint.route("/explore")
def explore() -> str:
    return render_template("index.html", title="Explore", form=None, posts=newest())


@blueprint.route("/auth/login", methods=["GET", "POST"])
def log_in() -> Response | str:
    form = LoginForm()
    if form.validate_on_submit():
        user = db.session.scalar(sa.select(User).where(User.username == form.username.data))
        if user is None or not user.check_password(form.password.data):
            flash("Invalid username or password")
            return redirect(url_for("main.log_in"))
        login_user(user, remember=form.remember_me.data)
        return redirect(url_for("main.index"))
    return render_template("form.html", title="Sign In", form=form)


@blueprint.route("/auth/register", methods=["GET", "POST"])
def register() -> Response | str:
    form = RegistrationForm()
    if form.validate_on_submit():
        user = User(username=form.username.data, email=form.email.data)
        user.set_password(form.password.data)
        db.session.add_all([user, Task(recipient=user.email)])
        db.session.commit()
        return redirect(url_for("main.log_in"))
    return render_template("form.html", title="Register", form=form)


def newest() -> list[Post]:
    select = sa.select(Post).order_by(Post.id.desc()).limit(current_app.config["POSTS_PER_PAGE"])
    return list(db.session.scalars(select))
