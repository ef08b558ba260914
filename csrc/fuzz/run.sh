#!/bin/sh
# Build each libFuzzer target with the sanitizers and run it for SECONDS (default 10). Usage: csrc/fuzz/run.sh [SECONDS];
# CLANG chooses the compiler. An input that fails stays in the directory FUZZ_ARTIFACTS (default: the current one).
set -eu
artifacts=${FUZZ_ARTIFACTS:-$PWD}/
cd "$(dirname "$0")"
clang=${CLANG:-clang}
seconds=${1:-10}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

core=$(sed 's|^|../|' ../sources.txt)
# A list of words, so unquoted on purpose.
# shellcheck disable=SC2086
for target in $(cat targets.txt); do
    "$clang" -std=c11 -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        $core "fuzz_$target.c" -o "$out/$target"
    mkdir "$out/corpus_$target"
    if ! "$out/$target" -max_total_time="$seconds" -max_len=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$artifacts" "$out/corpus_$target" >"$out/log" 2>&1; then
        cat "$out/log"
        echo "fuzz: $target: failed" >&2
        exit 1
    fi
    echo "fuzz: $target: no complaint, $(awk '/number_of_executed_units/ { print $2 }' "$out/log") inputs"
done
