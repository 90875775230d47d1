# The two commands of the README are `make demo` and `make test`. Each does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help demo bench test test-e2e test-systemd test-image test-soak test-postgres-versions test-prometheus-3 fuzz set-up lint golden dist deny clean

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
	cargo bench --locked --bench parts --bench web --bench attacks

test: set-up lint ## Everything that must hold, on real servers
	@tests/run.sh

set-up: ## Install what the tests need and this machine lacks
	@tests/setup.sh build postgres prometheus pgbouncer patroni browser python

test-e2e: set-up ## Alerts and dashboards, from failing executions to the page (about a minute)
	cargo test --locked --test integration alerting -- --test-threads 8

test-systemd: ## The Debian package on a machine that systemd boots, in a container (a minute; first 5 more)
	@tests/deploy/systemd/run.sh

test-image: ## The container's image, built and run (4 minutes the first time)
	@tests/deploy/image.sh

test-soak: ## Many concurrent writers with 20 seeds, and the ledger's model with 100,000 cases (about 20 minutes)
	@tests/setup.sh postgres
	RSOLV_MODEL_CASES=100000 RSOLV_MODEL_DEPTH=5 cargo test --locked --lib ledger::model
	RSOLV_SOAK_SEEDS=20 cargo test --locked --test integration soak -- --nocapture

test-postgres-versions: ## The integration tests on PostgreSQL 13 to 18, fetched by npm (about 60 MB each)
	@tests/postgres-versions.sh

test-prometheus-3: ## What Prometheus 3 does with the metrics and rules, fetched by apt and not installed (about 60 MB)
	@tests/prometheus-3.sh

fuzz: ## Feed each parser of foreign bytes with nonsense for a minute (FUZZ_SECONDS=600 for longer)
	@tests/setup.sh build fuzz
	@tests/fuzz.sh $(FUZZ_SECONDS)

lint: ## Static checks
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@left="$$(git ls-files '*.pending-snap' '*.snap.new')"; test -z "$$left" || { echo "remove $$left"; exit 1; }

golden: ## Take what is printed now as what is expected
	INSTA_UPDATE=always cargo test --locked

dist: ## Make a release in target/dist: archive, Debian package, SBOM, licences
	@deploy/dist.sh

deny: ## Licences, sources and advisories of the dependencies
	@deploy/check-dependencies.sh

clean: ## Remove what was built
	cargo clean
	rm -rf .tools
