#!/bin/sh
# Feeds each parser of foreign bytes with nonsense: tests/fuzz.sh [SECONDS [TARGET ...]], a minute each and all of them by
# default. What it finds stays in fuzz/artifacts, what it has learnt in fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
PATH=$PWD/.tools/bin:$PATH
# cargo-fuzz wants compiler flags that stable compilers have as well, but do not admit to.
export RUSTC_BOOTSTRAP=1
targets=${*:-$(cargo fuzz list)}

# Something to begin with, and words that chance would hardly find.
seed() {
    mkdir -p "fuzz/corpus/$1"
    case $1 in
    definition) cp queries/*.toml "fuzz/corpus/$1/" ;;
    settings) sed 's/^# \([a-z_]* = \)/\1/' deploy/rsolv-exporter.toml >"fuzz/corpus/$1/all" ;;
    *) cp "fuzz/seeds/$1"/* "fuzz/corpus/$1/" ;;
    esac
}

for target in $targets; do
    echo "fuzz: $target for $seconds seconds"
    seed "$target"
    # Without sanitizers: what is tried is Rust without unsafe code, whose panics the fuzzer notices.
    nice -n 15 cargo fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -verbosity=0
done
echo 'fuzz: nothing found'
