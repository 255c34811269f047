# `just check` is what CI runs, in the environment you are in.

check: lint test

lint:
    ruff format --check .
    ruff check .
    mypy
    lint-imports

test:
    pytest

# fusiond/docs/configuration.md, and the completion files
generate:
    python -m fusiond.config.reference > fusiond/docs/configuration.md
    fusionctl completion bash > fusionctl/completions/fusionctl
    fusionctl completion zsh > fusionctl/completions/_fusionctl
    fusionctl completion fish > fusionctl/completions/fusionctl.fish

# minutes long: soak tests
slow:
    pytest -m slow

format:
    ruff format .
    ruff check --fix .

# the README's figures, measured here and now
bench:
    python -m tests.bench
