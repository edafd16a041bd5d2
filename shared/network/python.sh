#!/bin/sh
# python.sh [PYTHON]
#
# Prints the Python to create the virtual environment with: the one that is named; otherwise the first on the path that
# is new enough and has venv. python3 comes before others, unless another of the same version is clearly faster: version
# managers build Python without optimizations, which costs a tenth of all quotes per second.
set -fu

# prints the version and the microseconds of a short computation; fails for a Python that cannot be used
probe='
import ensurepip, sys, time, venv
def work():
    began, seen = time.perf_counter(), {}
    for each in range(20_000):
        seen[each % 7] = len(str(each)) + seen.get(each % 5, 0)
    return time.perf_counter() - began
if sys.version_info < (3, 11):
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], round(min(work() for _ in range(9)) * 1e6))
'

chosen='' chosen_version='' chosen_took=''

consider() {
    result=$("$1" -c "$probe" 2>/dev/null) || return
    version=${result% *} took=${result#* }
    if [ -z "$chosen" ] || { [ "$version" = "$chosen_version" ] && [ $((took * 115)) -lt $((chosen_took * 100)) ]; }; then
        chosen=$1 chosen_version=$version chosen_took=$took
    fi
}

if [ $# -gt 0 ]; then
    consider "$1"
else
    IFS=:
    for name in python3 python3.13 python3.12 python3.11; do
        for folder in $PATH; do
            [ -x "$folder/$name" ] && consider "$folder/$name"
        done
    done
fi

if [ -z "$chosen" ]; then
    echo "${1:-No Python on the path} cannot be used: Python 3.11 or later with venv is needed; name one with make PYTHON=..." >&2
    exit 1
fi
echo "$chosen"
