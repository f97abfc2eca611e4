# Two commands: `make run` starts the gateway with its own sandbox upstream, `make test` passes all tests. Both install
# what they need, or say in one line what is missing.

CLIENTS := target/clients

.PHONY: run test test-long lint bench clients build-needs test-needs

run: build-needs
	cargo run --release -- run -c conf/quickstart.yaml

test: test-needs lint clients
	cargo test --all-targets -- --quiet
	cargo test --doc -- --quiet
	cargo test --manifest-path tests/schedules/Cargo.toml --target-dir target/schedules -- --quiet

# What takes too long for every change: about a quarter of an hour on two cores, half of it for the release build. The
# store with its disk failing at every operation, 300 kills under load, 100,000 requests against a reference ledger and every
# kind of limit a hundred times.
test-long: test-needs build-needs
	TIDEGATE_LONG=1 cargo test --release --lib -- --ignored store::
	TIDEGATE_LONG=1 cargo test --release --test it -- --nocapture --test-threads 1 crash:: disk:: reference:: limits:: upgrade:: hang_up_phases:: exposure::

lint: build-needs
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo doc --no-deps --quiet

# CPU per request and per streamed chunk, as ratios to the smallest possible Pingora proxy.
bench: build-needs
	cargo build --release --bins --examples
	cargo run --release --quiet --example bench
	cargo run --release --quiet --example draws

clients: $(CLIENTS)/node_modules/.installed $(CLIENTS)/venv/.installed build-needs
	cargo build --quiet --locked --manifest-path tests/clients/async_openai/Cargo.toml --target-dir $(CLIENTS)/async_openai

$(CLIENTS)/venv/.installed: tests/clients/requirements.txt
	python3 -m venv $(CLIENTS)/venv
	$(CLIENTS)/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CLIENTS)/node_modules/.installed: tests/clients/package.json
	@command -v npm >/dev/null || { echo "missing: Node.js 20 or newer with npm"; exit 1; }
	mkdir -p $(CLIENTS)
	cp $< $(CLIENTS)/package.json
	npm install --prefix $(CLIENTS) --no-package-lock --no-audit --no-fund --silent
	touch $@

build-needs:
	@command -v cargo >/dev/null || { echo "missing: a Rust toolchain (cargo), 1.91 or newer"; exit 1; }
	@command -v cmake >/dev/null && command -v cc >/dev/null || scripts/install cmake gcc g++

test-needs:
	@command -v promtool >/dev/null || scripts/install prometheus
	@command -v chromium >/dev/null || scripts/install chromium
	@command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || scripts/install python3 python3-venv
	@command -v node >/dev/null || scripts/install nodejs npm
	@command -v prlimit >/dev/null || scripts/install util-linux
