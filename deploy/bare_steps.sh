#!/usr/bin/env bash
# The Dockerfile's steps where there is no Docker, with the time that each takes: a bare environment,
# the install, and the program up to its first event as compose.yaml runs it. As root on Linux that
# means: a read-only disk, no capabilities, 1 GB of /dev/shm. Otherwise the environment alone is bare.
#
#   deploy/bare_steps.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
root=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$root"' EXIT

step() { # NAME COMMAND…: run it and print how long it took
  local name=$1 begin=$EPOCHREALTIME
  shift
  "$@"
  printf '%-32s %6.1f s\n' "$name" "$(awk "BEGIN {print $EPOCHREALTIME - $begin}")"
}

copy() { # what .dockerignore lets through
  mkdir "$root/src"
  sed -n 's/^!//p' .dockerignore | tar -c --exclude=__pycache__ -T - | tar -x -C "$root/src"
}

install_it() {
  (cd "$root/src" && "$python" -m pip --python "$root/env" -q install -c constraints.txt .)
}

first_event() {
  mkdir -m 0700 "$root/run" "$root/state" "$root/away"
  sed "s|/var/lib/two-stream|$root/state|" deploy/container.yaml >"$root/config.yaml"
  cd "$root/away"
  env -i PATH="$root/env/bin:/usr/bin:/bin" PYTHONDONTWRITEBYTECODE=1 XDG_RUNTIME_DIR="$root/run" \
    "${box[@]}" two-stream run -c "$root/config.yaml" --json --log-format json --duration 120 \
    >"$root/events" 2>"$root/log" &
  until [ -s "$root/events" ]; do
    if ! kill -0 $! 2>/dev/null; then
      cat "$root/log" >&2
      return 1
    fi
    sleep 0.1
  done
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

step 'an environment without pip' "$python" -m venv --without-pip "$root/env"
step 'what Docker would be sent' copy
step 'the install' install_it
step 'from start to the first event' first_event
echo "first event: $(head -n 1 "$root/events" | cut -c1-100)…"
