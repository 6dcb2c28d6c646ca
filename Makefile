# A contributor's commands. They use .venv where there is one, else the Python that is on PATH.
#
#   make check                     style, types, contracts and the quick tests: before each commit
#   make test T=tests/analyses     a part of the tests; without T, all of them
#   make test M="not nsys and not corpus"    without those of a real Nsight Systems and of the corpus: five minutes
#   make format                    what ruff can mend by itself
#   make ci                        everything that must hold (.ci/run); make ci LEGS="style tests" for some of it

# Rules are many: make check runs the tests of the families that have changed since the last commit, and no others.
RULES := analyses/nsight_analyses tests/analyses
CHANGED := $(dir $(shell git status --porcelain -uall -- $(RULES) | cut -c4-))
FAMILIES := $(wildcard $(sort $(patsubst analyses/nsight_analyses/%,tests/analyses/%,$(CHANGED))))
QUICK := $(filter-out tests/analyses/ tests/__pycache__/,$(wildcard tests/*/ tests/test_*.py)) $(FAMILIES)

BIN := $(if $(wildcard .venv/bin/python),.venv/bin/,)
unexport PYTHONDONTWRITEBYTECODE  # else each process of each run compiles all that it imports
T := tests
M :=
# One more than there are cores: many tests wait for what they started.
N := $(shell expr $$(nproc) + 1)

.PHONY: check style types contracts quick test format ci

check: style types contracts quick

style:
	$(BIN)ruff check
	$(BIN)ruff format --check

types:
	$(BIN)mypy

contracts:
	$(BIN)lint-imports

quick:
	$(BIN)python -m pytest -q -n $(N) --dist worksteal -m "not slow" $(QUICK)

test:
	$(BIN)python -m pytest -n $(N) --dist worksteal -m "$(M)" $(T)

format:
	$(BIN)ruff check --fix
	$(BIN)ruff format

ci:
	.ci/run $(LEGS)
