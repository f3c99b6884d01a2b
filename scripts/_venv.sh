# Sourced by demo, test and check: one virtual environment per Python version, installed once.
# PYTHON names the interpreter (default python3). Sets $root (the repository) and, after ensure_venv, $python.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# ensure_venv NAME EXTRAS [FOLDER]: FOLDER (.venv-<version>) with `-e .[EXTRAS]` in it. The stamp for NAME is written last, so an
# interrupted installation is done again, and one that is up to date takes no time.
ensure_venv() {
    local name=$1 extras=$2 base=${PYTHON:-python3} version venv stamp wanted
    command -v "$base" >/dev/null 2>&1 ||
        die "no '$base' was found: install Python 3.11 or newer, or name an interpreter with PYTHON=/path/to/python."
    version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null) ||
        die "'$base' does not run: install Python 3.11 or newer, or name another interpreter with PYTHON=/path/to/python."
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "convjax needs Python 3.11 or newer, and '$base' is Python $version: name another interpreter with PYTHON=/path/to/python."

    venv=$root/${3:-.venv-$version}
    python=$venv/bin/python
    stamp=$venv/.installed-$name
    if ! "$python" -m pip --version >/dev/null 2>&1 </dev/null; then
        say "making a virtual environment for Python $version in $venv"
        "$base" -m venv --clear "$venv" </dev/null ||
            die "Python $version could not make a virtual environment: does it have the venv module (on Debian and Ubuntu: the package python3-venv)?"
    fi
    wanted=$("$python" - "$root" "$extras" <<'PYTHON'
import hashlib, sys
digest = hashlib.sha256(repr((sys.version, sys.argv[1:])).encode())
with open(sys.argv[1] + "/pyproject.toml", "rb") as file:
    digest.update(file.read())
print(digest.hexdigest())
PYTHON
    )
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        say "using $venv (up to date)"
        return
    fi
    say "installing convjax[$extras] into $venv (a few minutes the first time)"
    rm -f "$stamp"
    "$python" -m pip install --quiet --no-input --disable-pip-version-check -e "$root[$extras]" </dev/null ||
        die "pip could not install the packages (its messages are above): is there a network connection, and does pip's package index have them for Python $version?"
    printf '%s\n' "$wanted" >"$stamp"
}
