"""Load that counts what a user would notice, and an app that answers it."""
