import os
from pathlib import Path

HERE = Path(__file__).parent


def secret_key() -> bytes:
    """As CTFd does: where none is set, one is made and kept in a file beside the code."""
    given = os.getenv("SECRET_KEY")
    if given:
        return given.encode()
    with open(".ctfd_secret_key", "a+b") as secret:
        secret.seek(0)
        key = secret.read()
        if not key:
            key = os.urandom(64)
            secret.write(key)
        return key


class Config:
    SECRET_KEY = secret_key()
    SQLALCHEMY_DATABASE_URI = os.getenv("DATABASE_URL") or f"sqlite:///{HERE}/ctfd.db"
    SQLALCHEMY_TRACK_MODIFICATIONS = False
    CACHE_TYPE = "FileSystemCache"
    CACHE_DIR = str(HERE.parent / ".data" / "filesystem_cache")
    CACHE_THRESHOLD = 0
    UPLOAD_FOLDER = os.getenv("UPLOAD_FOLDER") or str(HERE / "uploads")
    LOG_FOLDER = os.getenv("LOG_FOLDER") or str(HERE / "logs")
