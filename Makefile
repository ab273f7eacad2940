# What a person runs. Every target makes what it needs first; see tools/ for how.
export MOLECULE_GLOB := molecule/*/molecule.yml
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
PYTHON := PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python

.PHONY: help demo demo-down compose-demo compose-down test test-apps lint collection docs audit vm mutants soak bench bench-fleet clean

help:
	@echo "See it run (a Debian or Ubuntu machine with root; what is missing is made, and told):"
	@echo "  make demo         the sample app on a host in a container, http://localhost:8080/ (DEMO_PORT=8081 for another port)"
	@echo "  make demo-down    remove what the demo made"
	@echo "  make compose-demo the sample app and nginx as two containers of Docker Compose, the same address; see docs/compose.md"
	@echo "  make compose-down remove the two containers"
	@echo
	@echo "Change it (CONTRIBUTING.md):"
	@echo "  make test         every check. ONLY=lint,unit,default for some of them, HOSTS=ubuntu2404,debian12 for other hosts, KEEP=1 leaves those of a scenario"
	@echo "  make lint         the linters alone, seconds to minutes"
	@echo "  make docs         the documentation as a site, in .cache/site; it fails on a link that leads nowhere"
	@echo "  make collection   the archive of the collection, in .cache/collection"
	@echo
	@echo "Judge it: long, and not part of make test:"
	@echo "  make test-apps    half an hour: real apps (Flask's tutorial, isso, Dash ...) released twice under load; APPS=\"flaskr isso\" for some"
	@echo "  make audit        half an hour: sslyze, testssl.sh, nmap, wapiti and others, against hosts with the role's defaults; see docs/security.md"
	@echo "  make vm           a virtual machine with a kernel of its own, to be deployed, rebooted and cut off its power; VM=debian13 for another; see docs/platforms.md"
	@echo "  make mutants      minutes: each small change of flaskctl's decisions, and whether a unit test minds"
	@echo "  make soak         hours: a hundred releases under a million requests, then every fault; see docs/reliability.md"
	@echo "  make bench        minutes: how a plain configuration and this role serve, side by side; see docs/performance.md"
	@echo "  make bench-fleet  an hour: 30 hosts over SSH, this role and a plain playbook side by side; see docs/performance.md"
	@echo
	@echo "Be rid of it:"
	@echo "  make clean        remove .venv and .cache"

demo:
	@tools/bootstrap --engine
	@$(PYTHON) -m tools.demo up

demo-down:
	@tools/bootstrap
	@$(PYTHON) -m tools.demo down

compose-demo:
	@tools/bootstrap --engine
	@$(PYTHON) -m tools.compose up

compose-down:
	@tools/bootstrap
	@$(PYTHON) -m tools.compose down

test:
	@tools/bootstrap --all
	@$(PYTHON) -m tools.check $(if $(ONLY),--only "$(ONLY)") $(if $(HOSTS),--hosts "$(HOSTS)") $(if $(KEEP),--keep)

test-apps:
	@tools/bootstrap --engine
	@$(PYTHON) -m tools.apps $(APPS)

lint:
	@tools/bootstrap --all
	@$(PYTHON) -m tools.check --only lint

collection:
	@tools/bootstrap
	@$(PYTHON) -m tools.collection $(if $(VERSION),--version "$(VERSION)")

vm:
	@tools/bootstrap
	@$(PYTHON) -m tools.vm test $(if $(KEEP),--keep)

docs:
	@tools/bootstrap
	@$(PYTHON) -m tools.docs

audit:
	@tools/bootstrap --engine
	@$(PYTHON) -m tools.audit $(if $(KEEP),--keep) $(ONLY)

mutants:
	@tools/bootstrap
	@$(PYTHON) -m tools.mutants

soak:
	@tools/bootstrap
	@PYTHONPATH=collections $(PYTHON) -m tools.soak $(SOAK)

bench:
	@tools/bootstrap --engine
	@$(PYTHON) -m bench.serving $(BENCH)

bench-fleet:
	@tools/bootstrap --engine
	@$(PYTHON) -m bench.fleet $(BENCH)

# the record of an engine that was started from here is in .cache
clean:
	@if [ -e .cache/engine.json ]; then echo "an engine started from here may still run: make demo-down first" >&2; exit 1; fi
	rm -rf .venv .venv-newest .cache .mypy_cache .ruff_cache
