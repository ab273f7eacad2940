import logging
import os
from logging.handlers import RotatingFileHandler

from flask import Blueprint, Flask, Response, redirect, render_template, request, session, url_for
from flask_caching import Cache
from flask_migrate import Migrate, upgrade
from flask_restx import Api, Resource
from passlib.hash import bcrypt_sha256

from CTFd.models import Challenges, Submissions, Users, db

cache = Cache()
migrate = Migrate()
blueprint = Blueprint("ctf", __name__)
api = Api(Blueprint("api", __name__, url_prefix="/api/v1"), doc=False)


def create_app(config: str = "CTFd.config.Config") -> Flask:
    app = Flask(__name__)
    app.config.from_object(config)
    os.makedirs(app.config["UPLOAD_FOLDER"], exist_ok=True)
    os.makedirs(app.config["LOG_FOLDER"], exist_ok=True)
    log = RotatingFileHandler(os.path.join(app.config["LOG_FOLDER"], "submissions.log"), maxBytes=10_485_760)
    logging.getLogger("submissions").addHandler(log)
    db.init_app(app)
    migrate.init_app(app, db)
    cache.init_app(app)
    with app.app_context():
        upgrade()
        if not Challenges.query.count():
            db.session.add(Challenges(name="Warm up", flag="flag{hello}", value=10))
            db.session.commit()
    app.register_blueprint(blueprint)
    app.register_blueprint(api.blueprint)
    return app


@blueprint.get("/")
def index() -> str:
    return render_template("index.html", user=session.get("name"))


@blueprint.get("/themes/core/static/<path:path>")
def themes(path: str) -> Response:
    return blueprint.send_static_file(path)


@blueprint.route("/register", methods=["GET", "POST"])
def register() -> Response | str:
    if request.method == "GET":
        nonce = session.setdefault("nonce", os.urandom(16).hex())
        return render_template("register.html", nonce=nonce)
    if request.form["nonce"] != session.get("nonce"):
        return Response("Forbidden", status=403)
    password = bcrypt_sha256.using(rounds=4).hash(request.form["password"])
    user = Users(name=request.form["name"], email=request.form["email"], password=password)
    db.session.add(user)
    db.session.commit()
    session.update(id=user.id, name=user.name)
    return redirect(url_for("ctf.challenges"))


@blueprint.get("/challenges")
def challenges() -> Response | str:
    if "id" not in session:
        return redirect(url_for("ctf.register"))
    return render_template("challenges.html", challenges=Challenges.query.all(), nonce=session["nonce"])


@cache.memoize(timeout=1)
def standings() -> list[dict[str, object]]:
    query = db.session.query(Users.name, db.func.count(Submissions.id)).join(Submissions).group_by(Users.id)
    return [{"name": name, "solves": solves} for name, solves in query.limit(10)]


@api.route("/scoreboard")
class Scoreboard(Resource):
    def get(self) -> dict[str, object]:
        return {"success": True, "data": standings()}


@api.route("/challenges/attempt")
class Attempt(Resource):
    def post(self) -> tuple[dict[str, object], int]:
        if request.headers.get("CSRF-Token") != session.get("nonce"):
            return {"success": False}, 403
        challenge = Challenges.query.get_or_404(request.json["challenge_id"])
        right = request.json["submission"] == challenge.flag
        db.session.add(Submissions(user_id=session["id"], challenge_id=challenge.id, correct=right))
        db.session.commit()
        logging.getLogger("submissions").warning("%s: %s", session["name"], right)
        return {"success": True, "data": {"status": "correct" if right else "incorrect"}}, 200
