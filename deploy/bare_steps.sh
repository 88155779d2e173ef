#!/usr/bin/env bash
# The three ways to install, each from nothing to the demo camera's first event, with the time that
# each step takes.
#
#   deploy/bare_steps.sh [container|package|checkout] [PYTHON]
#
# container (what is taken without an argument): the Dockerfile's steps where there is no Docker, and
#   the program as compose.yaml runs it. As root on Linux that means: a read-only disk, no
#   capabilities, 1 GB of /dev/shm. Otherwise the environment alone is bare.
# package: a wheel, and an environment with nothing but it.
# checkout: make run.
set -euo pipefail
cd "$(dirname "$0")/.."
way=${1:-container}
python=$(command -v "${2:-python3}")
root=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$root"' EXIT

step() { # NAME COMMAND…: run it and print how long it took
  local name=$1 begin=$EPOCHREALTIME
  shift
  "$@"
  printf '%-32s %6.1f s\n' "$name" "$(awk "BEGIN {print $EPOCHREALTIME - $begin}")"
}

copy_for_docker() { # what .dockerignore lets through
  mkdir "$root/src"
  sed -n 's/^!//p' .dockerignore | tar -c --exclude=__pycache__ -T - | tar -x -C "$root/src"
}

copy_checkout() {
  mkdir "$root/src"
  tar -c --exclude='./.*' --exclude=__pycache__ --exclude='*.egg-info' --exclude=./build . |
    tar -x -C "$root/src"
}

install_without_pip() {
  (cd "$root/src" && "$python" -m pip --python "$root/env" -q install -c constraints.txt .)
}

build_wheel() {
  (cd "$root/src" && "$python" -m pip -q wheel --no-deps -w "$root/dist" .)
}

install_wheel() {
  "$root/env/bin/pip" -q install -c "$root/src/constraints.txt" "$root"/dist/*.whl
}

first_event_of() { # COMMAND…: start it, wait for its first line
  "$@" >"$root/events" 2>"$root/log" &
  until [ -s "$root/events" ] && grep -q '^{' "$root/events"; do
    if ! kill -0 $! 2>/dev/null; then
      cat "$root/log" >&2
      return 1
    fi
    sleep 0.1
  done
}

in_the_box() { # as compose.yaml runs it
  mkdir -m 0700 "$root/run" "$root/state" "$root/away"
  sed "s|/var/lib/two-stream|$root/state|" deploy/container.yaml >"$root/config.yaml"
  cd "$root/away"
  first_event_of env -i PATH="$root/env/bin:/usr/bin:/bin" PYTHONDONTWRITEBYTECODE=1 \
    XDG_RUNTIME_DIR="$root/run" "${box[@]}" \
    two-stream run -c "$root/config.yaml" --json --log-format json --duration 120
}

from_elsewhere() {
  mkdir "$root/away"
  cd "$root/away"
  first_event_of "$root/env/bin/two-stream" run --json --duration 120
}

box=()
if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; then
  # shellcheck disable=SC2016  # the inner shell expands it
  box=(unshare --kill-child=TERM --mount --pid --fork --mount-proc bash -ec '
    mount --make-rprivate / && mount --bind / / && mount -o remount,ro,bind /
    for folder in run state; do
      mount --bind "$0/$folder" "$0/$folder" && mount -o remount,rw,bind "$0/$folder"
    done
    mount -t tmpfs -o size=1g tmpfs /dev/shm
    exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"' "$root")
fi

container() {
  step 'an environment without pip' "$python" -m venv --without-pip "$root/env"
  step 'what Docker would be sent' copy_for_docker
  step 'the install' install_without_pip
  step 'from start to the first event' in_the_box
}

package() {
  step 'a copy of the checkout' copy_checkout
  step 'the wheel' build_wheel
  step 'an environment' "$python" -m venv "$root/env"
  step 'the install' install_wheel
  rm -rf "$root/src"
  step 'from start to the first event' from_elsewhere
}

checkout() {
  step 'a copy of the checkout' copy_checkout
  step 'make run, up to the first event' first_event_of \
    make -C "$root/src" run PYTHON="$python" ARGS='--json --duration 120'
}

case $way in
  container | package | checkout) step 'all' "$way" ;;
  *) echo "expected container, package or checkout, not $way" >&2 && exit 2 ;;
esac
echo "first event: $(grep -m 1 '^{' "$root/events" | cut -c1-100)…"
