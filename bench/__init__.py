"""How the role does on many hosts, measured beside the same stack written the usual way: `make bench-fleet`."""
