#!/usr/bin/env bash
# The tables of a small run of the shipped example as PDF, by the pdflatex of the system.
# Usage: tests/pdf.sh [FOLDER]   with `instructedit` and `pdflatex` on the PATH; the PDFs stay in FOLDER, if one is given
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1

typeset() {
    local name=$1
    printf '%s\n' '\documentclass[a4paper]{article}' '\usepackage[margin=2cm]{geometry}' \
        '\usepackage{booktabs,graphicx}' '\begin{document}' "\\input{$name-table}" '\end{document}' >"$work/$name.tex"
    (cd "$work" && pdflatex -interaction=nonstopmode -halt-on-error "$name.tex" >"$name.out") ||
        { tail -n 20 "$work/$name.out" >&2; echo "pdf: $name does not compile" >&2; exit 1; }
    ! grep -q Overfull "$work/$name.log" || { echo "pdf: $name has a box wider than its line" >&2; exit 1; }
    echo "== $name.pdf"
}

instructedit run quickstart --editor none --editor ft-l --editor grace --limit 4 --out "$work/runs" >/dev/null
for run in "$work"/runs/*/run.json; do
    run=$(dirname "$run")
    cp "$run/report/table.tex" "$work/report-$(basename "$run")-table.tex"
    typeset "report-$(basename "$run")"
done
for name in table3; do
    instructedit table "paper:$name" "$work/runs" --format latex --out "$work/$name-table.tex" >/dev/null
    typeset "$name"
    instructedit reproduce "paper:$name" "$work/runs" --protocol published --format latex --out "$work/ours-$name-table.tex" >/dev/null
    typeset "ours-$name"
done
if [ $# -gt 0 ]; then mkdir -p "$1" && cp "$work"/*.pdf "$1"; fi
echo "pdf: all well"
