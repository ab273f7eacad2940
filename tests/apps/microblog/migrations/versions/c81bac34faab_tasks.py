import sqlalchemy as sa
from alembic import op

revision = "c81bac34faab"
down_revision = "e517276bb1c2"


def upgrade() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("recipient", sa.String(120), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False, index=True),
    )


def downgrade() -> None:
    op.drop_table("task")
