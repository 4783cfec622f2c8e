#!/usr/bin/env bash
# The installed command from end to end, as a user runs it: list, run, report, show, go on, and a mistake.
# Usage: tests/smoke.sh   with `instructedit` and `python` on the PATH; it works in a temporary folder of its own.
set -euo pipefail

source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HUB_OFFLINE=1

fail() {
    echo "smoke: $*" >&2
    exit 1
}

step() { echo "== $*"; }

step "the package does not come from the source tree"
home=$(python -I -c 'import instructedit.editors as e; print(e.__file__)')
case "$home" in "$source_tree"/.tox/*) ;; "$source_tree"/*) fail "$home is in the source tree; install the wheel" ;; esac

step "list"
instructedit list editors | tee editors.txt
grep -q '^grace ' editors.txt || fail "the editor 'grace' is not listed"
for what in tasks presets settings; do
    instructedit list "$what" >/dev/null || fail "list $what"
done

step "run"
instructedit run quickstart --setting multi-task --limit 2 --out runs | tee first.txt
run=$(dirname "$(find runs -name run.json)")
for file in run.json cases.jsonl summary.json report/table.md report/table.csv report/table.tex; do
    test -s "$run/$file" || fail "$run/$file is missing or empty"
done
grep -q '"complete": *true' "$run/summary.json" || fail "the run is not complete"
grep -q '"valid": *true' "$run/summary.json" || fail "the run is not valid"

step "the same command again computes nothing and changes no byte"
cp "$run/cases.jsonl" "$run/summary.json" "$work"
instructedit run quickstart --setting multi-task --limit 2 --out runs >again.txt 2>&1
grep -q 'results are there already' again.txt || fail "the second run did not go on from the first"
cmp "$run/cases.jsonl" cases.jsonl || fail "the second run changed cases.jsonl"
cmp "$run/summary.json" summary.json || fail "the second run changed summary.json"

step "report"
before=$(cksum <"$run/report/table.md")
instructedit report runs >report.txt
test "$before" = "$(cksum <"$run/report/table.md")" || fail "the report is not the same the second time"

step "show"
case=$(python -I -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline())["case_id"])' "$run/cases.jsonl")
instructedit show runs "$case" >show.txt
grep -q "$case" show.txt || fail "show does not name the case"

step "a mistake costs one sentence and exit code 2"
refused() {
    local code=0
    "$@" >out.txt 2>err.txt || code=$?
    cat err.txt
    test "$code" -eq 2 || fail "'$*' exited with $code, not 2"
    test "$(grep -c . err.txt)" -eq 1 || fail "'$*' said more than one sentence"
    ! grep -q Traceback err.txt || fail "'$*' printed a traceback"
}
refused instructedit run quickstrat
refused instructedit run quickstart --editor grcae --out runs
refused instructedit run quickstart --data "$work/nowhere" --out runs
refused instructedit report "$work/nowhere"
refused instructedit show runs no/such/case

echo "smoke: all well"
