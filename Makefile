# The two commands of the README are `make demo` and `make test`. Each does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help demo bench test test-e2e test-soak test-postgres-versions set-up lint golden dist deny clean

help: ## Say what there is
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-23s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## See it work on a throwaway PostgreSQL (Ctrl-C ends it)
	@tests/setup.sh build postgres
	@echo "Building the exporter and the demo (about a minute the first time) ..."
	@cargo build --locked --bin rsolv-exporter --example demo
	@target/debug/examples/demo $(DEMO)

bench: ## Measure it beside its peers, half an hour (less: BENCH="--rows 100000 --repositories 200")
	@tests/setup.sh build postgres load peers
	cargo build --release --locked --bin rsolv-exporter --example bench
	@target/release/examples/bench $(BENCH)
	cargo bench --locked --bench parts --bench web

test: set-up lint ## Everything that must hold, on real servers
	@tests/run.sh

set-up: ## Install what the tests need and this machine lacks
	@tests/setup.sh build postgres prometheus pgbouncer browser python

test-e2e: set-up ## Alerts and dashboards, from failing executions to the page (about a minute)
	cargo test --locked --test integration alerting -- --test-threads 8

test-soak: ## Many concurrent writers, with 20 seeds (about 4 minutes)
	@tests/setup.sh postgres
	RSOLV_SOAK_SEEDS=20 cargo test --locked --test integration soak -- --nocapture

test-postgres-versions: ## The integration tests on PostgreSQL 13 to 18, fetched by npm (about 60 MB each)
	@tests/postgres-versions.sh

lint: ## Static checks
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

golden: ## Take what is printed now as what is expected
	INSTA_UPDATE=always cargo test --locked

dist: ## Make a release in target/dist: archive, Debian package, SBOM, licences
	@deploy/dist.sh

deny: ## Licences, sources and advisories of the dependencies
	@deploy/check-dependencies.sh

clean: ## Remove what was built
	cargo clean
	rm -rf .tools
