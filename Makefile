# One profile everywhere, so that RocksDB is compiled once. CARGO_TARGET_DIR is honoured.
CARGO ?= cargo
ifneq ($(shell command -v ccache 2>/dev/null),)
export CC ?= ccache gcc
export CXX ?= ccache g++
ifeq ($(origin CC),default)
CC = ccache gcc
endif
ifeq ($(origin CXX),default)
CXX = ccache g++
endif
endif

.PHONY: build demo run test bench bench-postfix lint deps

build:
	$(CARGO) build --release --workspace --bins

demo: deps
	tools/demo.sh

run: build
	$${CARGO_TARGET_DIR:-target}/release/posthaste run

test:
	tools/deps.sh build test
	$(CARGO) test --release --workspace

bench:
	$(CARGO) bench --workspace --profile release

bench-postfix:
	tools/deps.sh build bench
	tools/bench-postfix.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps

deps:
	tools/deps.sh build demo
