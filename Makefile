# `make` alone lists what there is. All of it works without make too: python3 bootstrap.py run
PYTHON ?= python3
BOOTSTRAP := $(PYTHON) bootstrap.py
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help run test check format lock clean bench bench-queue soak attack ordinary drill drill-short

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

run: ## start everything; Ctrl-C stops it
	@$(BOOTSTRAP) run

test: ## check, then every test with coverage
	@$(BOOTSTRAP) test

check: ## format, lint, layers, types
	@$(BOOTSTRAP) check

format: ## format and mend what can be mended
	@$(BOOTSTRAP) format

lock: ## bring the lock files to the newest versions that the .in files allow
	@$(BOOTSTRAP) lock

bench: $(patsubst benchmarks/bench_%.py,bench-%,$(wildcard benchmarks/bench_*.py)) ## every benchmark

bench-%: benchmarks/bench_%.py
	@$(BOOTSTRAP) exec python -m benchmarks.bench_$*

bench-queue: ## the queue beside procrastinate and pgqueuer, which are installed for it
	@$(BOOTSTRAP) compare python -m benchmarks.bench_queue $(ROWS)

soak: ## 20,000 short tasks through one worker: memory, bloat, dead rows
	@$(BOOTSTRAP) exec python -m benchmarks.soak_queue $(TASKS)

# Listed for `make help`; the rule above does the work.
bench-sandbox: ## how quickly a sandbox is ready and runs

attack: ## every attack on the sandbox, in each tier, as root and as an ordinary user, and with layers off
	@$(BOOTSTRAP) exec python -m tests.sandbox.suite.run_attacks

ordinary: ## everyday programs in the sandbox, in each tier, as root and as an ordinary user
	@$(BOOTSTRAP) exec python -m tests.sandbox.suite.run_ordinary

drill: ## a thousand kills of runners, workers and services at every point of a task's path (KILLS=200 for fewer)
	@$(BOOTSTRAP) exec python -m tests.drill --kills $(or $(KILLS),1000)

drill-short: ## one kill at every point, two and a half minutes
	@$(BOOTSTRAP) exec python -m pytest tests/drill/test_short.py -s

clean: ## remove .venv; state and settings stay
	rm -rf .venv
