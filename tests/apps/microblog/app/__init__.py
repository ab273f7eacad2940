import logging
import os
from logging.handlers import RotatingFileHandler

from config import Config
from flask import Flask
from flask_login import LoginManager
from flask_mail import Mail
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
migrate = Migrate()
login = LoginManager()
login.login_view = "main.log_in"
mail = Mail()


def create_app(config_class: type = Config) -> Flask:
    app = Flask(__name__)
    app.config.from_object(config_class)
    db.init_app(app)
    migrate.init_app(app, db)
    login.init_app(app)
    mail.init_app(app)

    from app import cli, routes

    app.register_blueprint(routes.blueprint)
    app.cli.add_command(cli.worker)

    if app.config["LOG_TO_STDOUT"]:
        handler: logging.Handler = logging.StreamHandler()
    else:
        os.makedirs("logs", exist_ok=True)
        handler = RotatingFileHandler("logs/microblog.log", maxBytes=10240, backupCount=10)
    app.logger.addHandler(handler)
    app.logger.setLevel(logging.INFO)
    app.logger.info("Microblog startup")
    return app
