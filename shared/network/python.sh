#!/bin/sh
# python.sh [PYTHON]
#
# Prints which Python the environment is to be made of: the one named; otherwise the first on the path that is new
# enough and can make one, python3 before others, unless another of the same version is clearly faster. Version managers
# build theirs without optimizations, which costs a tenth of all quotes a second.
set -fu

# its version, and the microseconds of a short piece of work; nothing of one that cannot be taken
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
    said=$("$1" -c "$probe" 2>/dev/null) || return
    version=${said% *} took=${said#* }
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
    echo "${1:-No Python on the path} will not do: Python 3.11 or later is needed, with venv. make PYTHON=... names one" >&2
    exit 1
fi
echo "$chosen"
