# Everything you need to work on Fleetlog. `make help` lists the targets.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# auto: test against Apache Kafka too when a JDK and Maven are there.
# required: fail when they are not. off: embedded log only.
KAFKA ?= auto
TEST_TIMEOUT ?= 15m
# Packages where goroutines meet, tested again under the race detector.
RACE_PACKAGES ?= ./ingest/... ./processors/... ./internal/eventlog/... ./internal/registry/... ./internal/catalog/... ./internal/deviceauth/... ./internal/engine/kafka/...

# --- tools: in .bin/, built anew when the version here changes ---------------

BIN := $(CURDIR)/.bin
BUF_VERSION           := v1.75.0
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GRPC_VERSION := v1.6.2
GATEWAY_VERSION       := v2.33.0
VTPROTO_VERSION       := v0.6.1-0.20240319094008-0393e58bdf10
GOLANGCI_VERSION      := v2.15.0

# $(1) program, $(2) its package, $(3) its version. The stamp's name carries the version.
define tool
$(BIN)/.stamp/$(1)-$(3):
	@echo "installing $(1) $(3) into .bin/"
	@mkdir -p $(BIN)/.stamp
	@GOBIN=$(BIN) CGO_ENABLED=0 go install $(2)@$(3)
	@rm -f $(BIN)/.stamp/$(1)-v* && touch $$@
endef
$(eval $(call tool,buf,github.com/bufbuild/buf/cmd/buf,$(BUF_VERSION)))
$(eval $(call tool,protoc-gen-go,google.golang.org/protobuf/cmd/protoc-gen-go,$(PROTOC_GEN_GO_VERSION)))
$(eval $(call tool,protoc-gen-go-grpc,google.golang.org/grpc/cmd/protoc-gen-go-grpc,$(PROTOC_GEN_GRPC_VERSION)))
$(eval $(call tool,protoc-gen-grpc-gateway,github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway,$(GATEWAY_VERSION)))
$(eval $(call tool,protoc-gen-openapiv2,github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2,$(GATEWAY_VERSION)))
$(eval $(call tool,protoc-gen-go-vtproto,github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto,$(VTPROTO_VERSION)))
$(eval $(call tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_VERSION)))

GENERATORS := \
	$(BIN)/.stamp/buf-$(BUF_VERSION) \
	$(BIN)/.stamp/protoc-gen-go-$(PROTOC_GEN_GO_VERSION) \
	$(BIN)/.stamp/protoc-gen-go-grpc-$(PROTOC_GEN_GRPC_VERSION) \
	$(BIN)/.stamp/protoc-gen-grpc-gateway-$(GATEWAY_VERSION) \
	$(BIN)/.stamp/protoc-gen-openapiv2-$(GATEWAY_VERSION) \
	$(BIN)/.stamp/protoc-gen-go-vtproto-$(VTPROTO_VERSION)
LINTER := $(BIN)/.stamp/golangci-lint-$(GOLANGCI_VERSION)

# --- targets -----------------------------------------------------------------

.PHONY: help run build test lint generate engines sdks mosquitto kafka bench clean tools

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

run: engines build ## start the platform with a live demo fleet, everything included
	./fleetlog run --demo

build: ## build the binary ./fleetlog
	CGO_ENABLED=0 go build -o fleetlog ./cmd/fleetlog

test: engines sdks mosquitto $(GENERATORS) ## run all tests; KAFKA=required insists on Apache Kafka, KAFKA=off leaves it out
	KAFKA=$(KAFKA) deploy/kafka/with-kafka.sh go test -timeout $(TEST_TIMEOUT) ./...
	@if command -v gcc clang >/dev/null; then \
		echo "race detector: $(RACE_PACKAGES)"; \
		CGO_ENABLED=1 go test -race -short -timeout $(TEST_TIMEOUT) $(RACE_PACKAGES); \
	else \
		echo "race detector NOT run: no C compiler found"; \
	fi

lint: $(LINTER) $(GENERATORS) ## check style, vet, contracts and their compatibility with the main branch
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 sh -c 'for f; do [ ! -e "$$f" ] || gofmt -l "$$f"; done' _); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(BIN)/golangci-lint run ./...
	$(BIN)/buf lint
	BUF=$(BIN)/buf .ci/breaking

generate: $(GENERATORS) ## make the code and the OpenAPI document from proto/ anew
	PATH="$(BIN):$$PATH" $(BIN)/buf generate

engines: ## fetch what the embedded engines need into your cache (once)
	@deploy/engines.sh

NODE_CLIENTS := azure-node mqtt-node
PYTHON_CLIENTS := azure-python clickhouse-python
sdks: $(NODE_CLIENTS:%=cmd/fleetlog/testdata/%/node_modules/.package-lock.json) $(PYTHON_CLIENTS:%=cmd/fleetlog/testdata/%/site/.stamp) ## install the device SDKs and clients that the end-to-end tests use
	@command -v mosquitto_pub >/dev/null || { $(call apt,mosquitto-clients); }
cmd/fleetlog/testdata/%/node_modules/.package-lock.json: cmd/fleetlog/testdata/%/package-lock.json
	npm --prefix cmd/fleetlog/testdata/$* ci --no-audit --no-fund --loglevel=error
	@touch $@
cmd/fleetlog/testdata/%/site/.stamp: cmd/fleetlog/testdata/%/requirements.txt
	@python3 -m pip --version >/dev/null 2>&1 || { $(call apt,python3 python3-pip); }
	rm -rf $(@D)
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(@D) -r $<
	@touch $@

# apt installs Debian packages, or names them to who may not.
apt = echo "installing $(1)"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; \
	else echo "the tests need $(1): sudo apt-get install $(1)" >&2; exit 1; fi

mosquitto: # the broker that the bridge's tests and the benchmark use
	@PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || { $(call apt,mosquitto); }

kafka: ## run Apache Kafka on 127.0.0.1:9092 in the foreground; PORT=n for another port
	@deploy/kafka/kafka.sh --port $(or $(PORT),9092)

bench: engines build ## measure the performance targets and print a table of ratios
	go run ./cmd/fleetlog/bench

clean: ## remove what was built, measured and tested here; caches and tools stay
	rm -rf fleetlog target bench-data

tools: $(GENERATORS) $(LINTER) ## install the pinned tools into .bin/
