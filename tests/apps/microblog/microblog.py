"""A blog of many small posts, in the shape of microblog, which is on no package index. For tests only."""

from app import create_app

app = create_app()
