# The project's verbs. Each sets up what it needs.
.PHONY: help setup demo test check bench policy clean

SO101 := .venv/bin/so101

help: ## list the verbs
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

setup: ## everything for development into .venv: runtime, training, checks
	@bin/setup cpu train dev

demo: ## start the twin and the service with the shipped policy, print the address (no torch)
	@bin/setup cpu
	@$(SO101) serve $(ARGS)

test: setup ## run the whole test suite, or what ARGS names
ifdef ARGS
	.venv/bin/python -m pytest $(ARGS)
else
	.venv/bin/python -m pytest -m "not live" -n 2 --dist loadfile
	.venv/bin/python -m pytest -m live
endif

check: setup ## style, types, one-way imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup ## figures of this machine: bus, inference, loop
	$(SO101) bench all $(ARGS)

policy: setup ## make a policy bundle from nothing, as the shipped one was made
	@bin/policy

clean: ## remove what the verbs made, but no data
	rm -rf .venv .uv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist
