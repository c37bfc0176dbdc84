#!/bin/sh
# The exchange between two processes on loopback, beside raw sockets and beside a
# bare exchange of timely; large batches and tiny ones. Prints Markdown tables.
#
#     benches/exchange.sh [--rounds 5] [--batches 3000] [--tiny 200000]
#                         [--window BYTES] [--only raw,bare,ours,crew]
set -eu
cd "$(dirname "$0")/.."
exec cargo run --release --quiet --package highwater-pipelines --example exchange_bench -- "$@"
