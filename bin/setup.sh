# Sourced by quickstart and test: a virtual environment in .venv with what constraints.txt pins.
# Says what is missing before anything is downloaded or compiled.

setup_fail() {
  echo "autofit: $1" >&2
  exit 2
}

setup_python() {
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  setup_fail "no Python 3.10 or newer with the venv module: apt-get install python3 python3-venv"
}

setup_venv() { # $1: the extras to install
  local python stamp wanted pins=()
  command -v g++ >/dev/null 2>&1 || setup_fail "g++ is missing, DeepSpeed compiles with it: apt-get install g++"
  stamp=.venv/installed
  wanted="$1 $(cat setup.cfg constraints.txt | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    python=$(setup_python)
    if [ "$(df -Pk . | awk 'NR == 2 {print $4}')" -lt 8000000 ]; then
      setup_fail "less than 8 GB of disk are free in $PWD; torch and its libraries need them"
    fi
    echo "installing into .venv (a few minutes the first time)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # constraints.txt was made with Python 3.11; some of it does not exist for 3.10, which takes what fits
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' && pins=(--constraint constraints.txt)
    .venv/bin/python -m pip install --quiet "${pins[@]}" --editable ".[$1]" || setup_fail \
      "the installation failed; the lines above say on what. It can be repeated: $0"
    echo "$wanted" >"$stamp"
  fi
  [ -x .venv/bin/ninja ] || setup_fail "ninja is missing from .venv, DeepSpeed compiles with it: .venv/bin/pip install ninja"
  export PATH="$PWD/.venv/bin:$PATH"
}
