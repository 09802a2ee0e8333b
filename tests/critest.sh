#!/bin/sh
# Builds critest, the test of Kubernetes' interface, as target/critest/critest: once, by Go and its module proxy.
# `PATH=$PWD/target/critest:$PATH cargo test --test critest` then runs it.
set -eu
version=v1.36.0
mkdir -p "$(dirname "$0")/../target/critest"
cd "$(dirname "$0")/../target/critest"
[ ! -x critest ] || exit 0
package=sigs.k8s.io/cri-tools/cmd/critest
[ -f go.mod ] || go mod init critest-wrapper
printf '//go:build tools\npackage tools\nimport _ "%s"\n' "$package" > tools.go
go get -t "$package@$version"
go test -c -o critest.new "$package"
mv critest.new critest
