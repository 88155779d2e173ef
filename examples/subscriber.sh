#!/usr/bin/env bash
# Runs a command for each action that begins, and misses none: after a restart it goes on where it
# was. Needs two-stream and jq.
#
#     examples/subscriber.sh STATE_FILE COMMAND [ARGUMENT...]
#
# The command gets CAMERA, LABEL, SCORE, START_TIME and ID in its environment, and the whole event on
# standard input. TWO_STREAM holds the command of the program, SUBSCRIBE more options of `subscribe`.
set -euo pipefail

state=$1
shift
program=${TWO_STREAM:-two-stream}
# shellcheck disable=SC2086  # both may hold several words
$program subscribe --json --since "$(cat "$state" 2>/dev/null || echo 0)" ${SUBSCRIBE:-} |
  while IFS= read -r event; do
    if [ "$(jq -r .type <<<"$event")" = start ]; then
      # Read into variables, never into the text of a command: a label may hold any letter.
      { read -r CAMERA; read -r LABEL; read -r SCORE; read -r START_TIME; read -r ID; } < <(
        jq -r '.camera, .label, .score, .start_time, .id' <<<"$event"
      )
      export CAMERA LABEL SCORE START_TIME ID
      "$@" <<<"$event" || echo "event $ID: the command failed ($?)" >&2
    fi
    # Only now: an event whose command was interrupted comes again.
    jq -r .seq <<<"$event" >"$state.new"
    mv "$state.new" "$state"
  done
