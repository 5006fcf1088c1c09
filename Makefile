# Needs python3 (3.11 or newer, with venv) and make. Everything else is installed into .venv.

PYTHON3 ?= python3
PYTHON  := .venv/bin/python
MANAGE  := $(PYTHON) manage.py
ORDERS  ?= 200
PORT    ?= 8000
ARGS    ?=

.DEFAULT_GOAL := help
.PHONY: help demo run worker test servers mysql acceptance mutants check lint types imports migrations system bench growth format clean

help: ## List all targets
	@echo "make ..."
	@awk -F ':.*## ' '/^[a-z.]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------ the example
demo: .venv ## Run orders through both contexts on an SQLite file (ORDERS=200)
	$(MANAGE) migrate --verbosity 0
	$(MANAGE) demo --orders $(ORDERS)

run: .venv ## Start the site with a demo superuser (PORT=8000)
	$(MANAGE) migrate --verbosity 0
	$(MANAGE) create_demo_superuser --address http://127.0.0.1:$(PORT)
	$(MANAGE) runserver 127.0.0.1:$(PORT)

worker: .venv ## Run the worker of that site until it is stopped
	$(MANAGE) run_contexts

# ------------------------------------------------------------------------------------------ tests
test: .venv ## Run the tests on SQLite, PostgreSQL and MariaDB if they answer (ARGS=pytest arguments)
	$(PYTHON) -m tests $(ARGS)

servers: .venv ## Install and start what the tests use (Debian, as root)
	bash tests/servers.sh

mysql: .venv ## Start a MySQL server (Debian amd64), and run on it all tests that touch a database
	bash tests/mysql.sh
	$(PYTHON) -m tests --on=mysql $(ARGS)

acceptance: .venv ## Run the long battery (workers are killed again and again), and all tests on PostgreSQL and MariaDB
	$(PYTHON) -m tests --in-turn -m slow $(ARGS)
	$(PYTHON) -m tests --on=postgres $(ARGS)
	$(PYTHON) -m tests --on=mariadb $(ARGS)

mutants: .venv ## Break the code on purpose, entry by entry: a test must fail each time (ARGS=--only NAME)
	$(PYTHON) -m tests.mutants $(ARGS)

bench: .venv ## Measure against bare loops that do the same work
	$(PYTHON) -m benchmarks $(ARGS)

growth: .venv ## Measure with a million messages waiting against ten thousand (an hour)
	$(PYTHON) -m benchmarks --growth $(ARGS)

# ----------------------------------------------------------------------------------------- checks
check: lint types imports migrations system test ## Run every check that must pass before a commit

lint: .venv ## Check style with ruff
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv ## Check types with mypy, strictly: the package and the examples
	.venv/bin/mypy

imports: .venv ## Check that imports point downward only
	.venv/bin/lint-imports

migrations: .venv ## Check that the models need no further migration
	$(MANAGE) makemigrations --check --dry-run

system: .venv ## Run Django's system checks
	$(MANAGE) check --fail-level WARNING

format: .venv ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# --------------------------------------------------------------------------------- the virtualenv
.venv: .venv/.installed ## Install the dependencies into .venv

.venv/.installed: requirements.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; choose one with make PYTHON3=/path/to/python3"; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv module is needed; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON3) -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

clean: ## Remove .venv, the demo's database, the MySQL of the tests and all caches
	if [ -f .mysql/pid ]; then kill "$$(cat .mysql/pid)" || true; fi
	rm -rf .venv db.sqlite3 db.sqlite3-shm db.sqlite3-wal .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis dist .mysql
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
