# The commands of this project. README and .ci/run call only these; the work is done by scripts/.

.DEFAULT_GOAL := help
.PHONY: help run test check bench fuzz soak docs parts

help: ## Show this list
	@echo 'make TARGET [NAME=VALUE ...]'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@awk '/^# [A-Z]+=/ { sub(/^# /, ""); split($$0, part, / +- /); printf "  %-26s %s\n", part[1], part[2] }' $(MAKEFILE_LIST)

# REDIS=host:port            - run: the server to watch (else the one on 6379, else one of our own)
# PORT=9122                  - run: another port than 9121; LISTEN=127.0.0.1:9122 also names the address
# ARGS='--is-cluster'        - run: further flags of the exporter
# TEST=name                  - test: only the tests whose name contains this
# SECTIONS=single,conc       - bench: only these; QUICK=1 for a first impression in two minutes
# TARGET=name FOR=60         - fuzz: one target, and how many seconds for each (else 20)
# FOR=3600                   - soak: how many seconds for each part (else 600)

run: ## Build, start the exporter beside a Redis and show a sample; Ctrl-C ends both
	@scripts/run.sh $(ARGS)

test: ## Install what the tests need and run every test
	@scripts/test.sh $(TEST)

check: ## Formatting, clippy, documentation, licences, shell scripts
	@scripts/check.sh

bench: ## Measure beside Debian's prometheus-redis-exporter; fleets, failovers, pushing, outages (half an hour)
	@scripts/bench.sh

fuzz: ## Run the fuzz targets for a while
	@scripts/fuzz.sh $(TARGET)

soak: ## Kill our process, and copies that share services, again and again; nothing may be lost or left out
	@scripts/soak.sh

docs: ## Build the documentation of the code and say where it is
	@cargo doc --no-deps --workspace --locked
	@echo "open target/doc/redvigil/index.html"

parts: ## Only install the servers and tools that the tests use
	@scripts/parts.sh

export REDIS PORT LISTEN SECTIONS QUICK FOR
