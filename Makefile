# One profile everywhere, so that RocksDB is compiled once. CARGO_TARGET_DIR is honoured.
CARGO ?= cargo

.PHONY: build demo run test bench bench-full bench-load bench-postfix bench-redis bench-micro count count-accept lint deps

build:
	$(CARGO) build --release --workspace --bins

demo: deps
	tools/demo.sh

run:
	tools/deps.sh build
	$(MAKE) build
	$${CARGO_TARGET_DIR:-target}/release/posthaste run

test:
	tools/deps.sh build test
	tools/test_harness.py
	$(CARGO) test --release --workspace
	$(MAKE) count

# Posthaste and its peers in turns: relay and accept, about ten minutes.
bench:
	tools/deps.sh build bench
	$(CARGO) build --release --workspace --bins
	python3 bench/peers

# Every axis; hours.
bench-full:
	tools/deps.sh build bench
	$(CARGO) build --release --workspace --bins
	python3 bench/peers --full

# posthaste-load beside Postfix's generator and sink: figures and an HTML report in bench/results.
bench-load:
	tools/deps.sh build load
	$(CARGO) build --release --workspace --bins
	loadtest/compare.py

bench-postfix:
	tools/deps.sh build bench
	$(CARGO) build --release --workspace --bins
	python3 bench/peers --peers posthaste,postfix --only relay,witness,foreign --out $${CARGO_TARGET_DIR:-target}/bench-postfix

# What limits over Redis cost unlimited traffic.
bench-redis:
	tools/deps.sh build test
	$(CARGO) build --release --workspace --bins
	bench/redis_cost.py

bench-micro:
	$(CARGO) bench -p posthaste-bench --features micro --profile release

count:
	tools/deps.sh count
	bench/count/gate.py

count-accept:
	tools/deps.sh count
	bench/count/gate.py --accept

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --features posthaste-bench/micro -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --release --locked --manifest-path tests/fuzz/Cargo.toml -- -D warnings

deps:
	tools/deps.sh build demo
