#!/bin/sh
# Build the C core with the address and undefined-behaviour sanitizers, warnings as errors, and run its edge cases and
# every fuzz target on fixed pseudo-random inputs. Usage: csrc/sanitize.sh [RUNS]; CC chooses the compiler.
set -eu
cd "$(dirname "$0")"
cc=${CC:-cc}
runs=${1:-4000}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
core=$(cat sources.txt)
flags="-std=c11 -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wwrite-strings -Werror
       -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

# Lists of words, so unquoted on purpose.
# shellcheck disable=SC2086
{
    $cc $flags $core fuzz/edges.c -o "$out/edges"
    "$out/edges"
    for target in $(cat fuzz/targets.txt); do
        $cc $flags $core "fuzz/fuzz_$target.c" fuzz/driver.c -o "$out/$target"
        "$out/$target" "$runs"
    done
}
echo "sanitize: no complaint from $cc"
