"""`make audit`: testers of others, and a few of ours, against hosts that the role made with its defaults."""
