# locksidecar: make help lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS := build/tools
PYTHON := examples/python/.venv
NODE := examples/node
POSTGRES := conformance/examples/postgres
FUZZTIME := 10s
# PARALLEL tests of a package run at a time: they wait for leases more than they compute.
PARALLEL := 4
# The image's name, as the chart's values-dev.yaml has it, and its architectures.
IMAGE := localhost/locksidecar
TAG := dev
ARCHES := amd64 arm64
# SLICE is that of the ledger: conformance/ledger_test.go.
SLICE := $(shell sed -n 's/^const slice = `\(.*\)`$$/\1/p' conformance/ledger_test.go)
ROWS := TestMatrix|TheDocumentedUser|WhileSlotsMove
PROTO := socket/lockpb/locksidecar/v1/lock.proto

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | column -t -s "$$(printf '\t')"

build: ## build the daemon, its commands and the injector into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/locksidecar ./cmd/locksidecar-injector

# What tests read by other processes (the command, scripts, the chart) is none of
# Go's inputs, so nothing is taken from its cache of results.
test: setup ## install what is missing and run every test, with the race detector
	go vet ./...
	cd $(POSTGRES) && go vet ./...
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	go test -race -count=1 -parallel $(PARALLEL) -timeout 25m ./... -json > "$$log" || failed=1; \
	(cd $(POSTGRES) && go test -race -count=1 -timeout 15m ./... -json) >> "$$log" || failed=1; \
	go run ./internal/testreport < "$$log"; \
	[ -z "$${failed:-}" ]

race: test ## the same: the tests always run with the race detector

# certify runs rows whole, and prints the matrix of their certificates.
certify = dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	go test -count=1 -timeout 60m -run '$(1)' ./conformance -whole -certificates "$$dir" || failed=1; \
	$(2) go run ./internal/certificates "$$dir"; [ -z "$${failed:-}" ]

# certify-postgres runs the rows of the example's module.
certify-postgres = (cd $(POSTGRES) && go test -count=1 -timeout 20m . -run '^TestPostgres' -certificates "$$dir") || failed=1;

conformance: setup ## certify every driver, directly, behind the breaker and through a socket, and print the matrix
	@$(call certify,$(ROWS),$(certify-postgres))

conformance-embedded: system ## certify the embedded driver, by the command too
	go run ./cmd/locksidecar conformance --backend embedded:
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; go run ./cmd/locksidecar conformance --backend "embedded://$$dir/locks.db"
	@$(call certify,TestMatrix/^embedded)

conformance-redis: system ## certify the Redis driver
	@$(call certify,TestMatrix/^(redis|valkey)|TestRedis)

conformance-etcd: tools ## certify the etcd driver
	@$(call certify,TestMatrix/^etcd|TestEtcd)

conformance-dynamodb: system emulators ## certify the DynamoDB driver, on an emulator (dynalite)
	@$(call certify,TestMatrix/^dynamodb)

conformance-repeat: setup ## repeat a slice of each row twenty times and add that to the ledger
	go test -count=1 -timeout 90m -run '$(ROWS)' ./conformance -repeats 20
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; seed=$$RANDOM$$RANDOM; \
	for i in {1..20}; do \
	  (cd $(POSTGRES) && go test -count=1 -timeout 5m . -run '^TestPostgres' -seed $$((seed + i)) -cases '$(SLICE)' -certificates "$$dir") || true; \
	done; \
	go run ./internal/certificates -ledger conformance/testdata/ledger.tsv "$$dir"

conformance-postgres: system ## certify the example of a third party's driver, on a PostgreSQL of its own
	cd $(POSTGRES) && go test -count=1 -timeout 15m -v ./...

conformance-dynamodb-local: system ## the same on Amazon's DynamoDB Local, whose licence you accept for yourself: see docs/dynamodb.md
	internal/tools/emulators dynamodb-local
	go test -count=1 -timeout 20m -tags dynamodblocal -run LocalDynamo -v ./conformance -whole

image: ## build the image (IMAGE, TAG, ARCHES) as an OCI archive under build/, and run its binaries
	IMAGE='$(IMAGE)' TAG='$(TAG)' ARCHES='$(ARCHES)' internal/tools/image

chart-test: kube-tools system ## install the chart on a real control plane, and try what it admits and refuses; measure the sidecar
	$(TOOLS)/helm lint --strict charts/locksidecar --values charts/locksidecar/values-dev.yaml
	go vet -tags cluster ./internal/kubetest/...
	go test -count=1 -timeout 15m -v ./internal/budget
	go test -count=1 -timeout 15m -tags cluster ./internal/chart ./internal/kubetest/chart

node-test: kube-tools node-tools system ## run the chart's pods on a real node: needs root, overlayfs and cgroups
	IMAGE='$(IMAGE)' TAG='$(TAG)' ARCHES=$$(go env GOARCH) OUT=build/node/locksidecar.oci.tar internal/tools/image
	go test -count=1 -timeout 15m -tags cluster ./internal/kubetest/node

mutants: system emulators tools ## flip every comparison of the drivers' scripts, conditions and transactions; make test flips some
	go test -count=1 -timeout 30m -run EveryComparison -v ./backend/redis ./backend/etcd ./backend/dynamodb -all-mutants

bench: setup ## compare the sidecar with a bare echo and with the store, in one run
	go run ./internal/bench

fuzz-short: ## fuzz each parser for a few seconds
	@grep -rE --include='*_test.go' '^func Fuzz' backend breaker cmd conformance internal renew socket | \
	  sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|./\1 \2|' | sort | while read -r package target; do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null || exit 1; \
	  done

lint: $(TOOLS)/golangci-lint $(TOOLS)/buf ## gofmt, vet, golangci-lint, buf
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go mod tidy -diff
	$(TOOLS)/golangci-lint run ./...
	GOOS=darwin go vet ./...
	cd $(POSTGRES) && go mod tidy -diff && $(CURDIR)/$(TOOLS)/golangci-lint run ./... && GOOS=darwin go vet ./...
	cd socket/lockpb && ../../$(TOOLS)/buf lint

generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(PYTHON)/.done $(NODE)/node_modules/.done ## generate the stubs from lock.proto
	cd socket/lockpb && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate
	$(PYTHON)/bin/python -m grpc_tools.protoc -I socket/lockpb --python_out=examples/python --pyi_out=examples/python --grpc_python_out=examples/python $(PROTO)
	$(PYTHON)/bin/python -m grpc_tools.protoc -I socket/lockpb --plugin=protoc-gen-ts_proto=$(NODE)/node_modules/.bin/protoc-gen-ts_proto \
	  --ts_proto_out=$(NODE)/src/gen --ts_proto_opt=outputServices=grpc-js,esModuleInterop=true,forceLong=bigint,importSuffix=.js,snakeToCamel=false,useDate=false,env=node,oneof=unions-value,outputJsonMethods=false,outputPartialMethods=true $(PROTO)

generate-check: generate ## fail if generated code is not current
	git diff --exit-code -- socket/lockpb examples/python/locksidecar/v1 $(NODE)/src/gen

docs-check: setup ## run the snippets of the documents, compare their tables
	go test -count=1 -run 'TestSnippets|OfTheDocuments|SchemaOfConfig' ./internal/e2e ./internal/tree ./internal/chart ./cmd/locksidecar-injector

docs: ## write the documents' tables
	go test -count=1 -run 'OfTheDocuments|SchemaOfConfig' ./internal/tree ./internal/chart ./cmd/locksidecar-injector -update

setup: system emulators browser python-setup node-setup tools ## install what the tests need

system: ## programs of the system
	@internal/tools/system

emulators: system ## what stands in for DynamoDB in the tests
	@internal/tools/emulators

browser: system ## what drives Chromium in the tests
	@internal/tools/npm browser node_modules/playwright-core

python-setup: $(PYTHON)/.done ## the Python example's environment

$(PYTHON)/.done: examples/python/requirements.txt examples/python/requirements-dev.txt
	python3 -m venv $(PYTHON)
	$(PYTHON)/bin/pip install -q --disable-pip-version-check -r examples/python/requirements-dev.txt
	touch $@

node-setup: $(NODE)/dist/hold.js ## the Node package, its examples and tests, compiled

$(NODE)/node_modules/.done: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && npm ci --no-audit --no-fund --loglevel=error
	touch $@

$(NODE)/dist/hold.js: $(NODE)/node_modules/.done $(NODE)/tsconfig.json $(NODE)/test/tsconfig.json $(shell find $(NODE)/src $(NODE)/test -name '*.ts')
	cd $(NODE) && npm run --silent build
	touch $@

tools: $(TOOLS)/grpcurl $(TOOLS)/etcd $(TOOLS)/etcdctl $(TOOLS)/etcdutl $(TOOLS)/helm ## the tools that the tests call

kube-tools: $(TOOLS)/etcd $(addprefix $(TOOLS)/,kube-apiserver kube-controller-manager kubectl helm) ## the control plane and its tools

node-tools: $(TOOLS)/kubelet ## what a node runs
	@internal/tools/node

$(TOOLS)/%: internal/tools/versions
	internal/tools/install $*

clean: ## remove what was built in the tree
	rm -rf bin build $(PYTHON) $(NODE)/node_modules $(NODE)/dist

.PHONY: help build image chart-test node-test kube-tools node-tools test mutants race conformance conformance-repeat conformance-embedded conformance-redis conformance-etcd conformance-dynamodb conformance-postgres conformance-dynamodb-local bench fuzz-short lint generate generate-check docs docs-check setup system emulators browser python-setup node-setup tools clean
