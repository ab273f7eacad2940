import sqlalchemy as sa
from alembic import op

revision = "8369118943a1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(128)),
        sa.Column("email", sa.String(128), unique=True),
        sa.Column("password", sa.String(128)),
    )
    op.create_table(
        "challenges",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(80)),
        sa.Column("flag", sa.String(80)),
        sa.Column("value", sa.Integer()),
    )
    op.create_table(
        "submissions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id")),
        sa.Column("challenge_id", sa.Integer(), sa.ForeignKey("challenges.id")),
        sa.Column("correct", sa.Boolean()),
    )


def downgrade() -> None:
    for table in ("submissions", "challenges", "users"):
        op.drop_table(table)
