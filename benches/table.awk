# One line a benchmark, out of criterion's `--output-format bencher`.
BEGIN {
    printf "%-44s %12s %12s\n", "what", "time", "+/-"
    RULE = "---------------------------------------------"
    printf "%s%s\n", RULE, substr(RULE, 1, 25)
}
function human(ns) {
    gsub(",", "", ns)
    if (ns >= 1000000) return sprintf("%.2f ms", ns / 1000000)
    if (ns >= 1000) return sprintf("%.2f us", ns / 1000)
    return ns " ns"
}
/ns\/iter/ {
    what = $0
    sub(/^test /, "", what)
    sub(/ +\.\.\. bench:.*/, "", what)
    figures = $0
    sub(/.*bench: */, "", figures)
    split(figures, part, " ")
    spread = part[4]
    sub(/\)/, "", spread)
    printf "%-44s %12s %12s\n", what, human(part[1]), human(spread)
    fflush()
}
