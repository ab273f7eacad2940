"""The points at which a test may kill flaskctl, by name, in the order of the work. Names only."""

from __future__ import annotations

# Each stands just before what it names (Host.checkpoint).
STAGE_CHECKPOINTS = (
    *("unpack", "venv", "dependencies", "venv-complete", "build", "manifest", "units", "publish", "staged"),
)
TRY_CHECKPOINTS = ("try-start", "try-stop")
LOCK_CHECKPOINTS = ("lock-acquire", "lock-release")
MARK_CHECKPOINTS = ("mark-drained", "mark-maintenance")
RESTART_CHECKPOINTS = ("restart-standby", "restart-first", "restart-again", "restart-done")
MOVE_CHECKPOINTS = ("socket-closed",)
PROOF_CHECKPOINTS = (*("intent", "start", "started", "current", "previous", "verify", "drain", "timers", "drained"),)
END_CHECKPOINTS = ("audit", "done")
REMOVE_CHECKPOINTS = ("prune-release", "prune-venv", "prune-engine", "remove-stop", "remove-files")
CHECKPOINTS = (
    *(
        *STAGE_CHECKPOINTS,
        *TRY_CHECKPOINTS,
        *LOCK_CHECKPOINTS,
        *MARK_CHECKPOINTS,
        *RESTART_CHECKPOINTS,
        *MOVE_CHECKPOINTS,
    ),
    *(*PROOF_CHECKPOINTS, *END_CHECKPOINTS, *REMOVE_CHECKPOINTS),
)
