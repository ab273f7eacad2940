"""Developer tools: test hosts, demo, test runner. Nothing here is part of a deployment."""
