# shellcheck shell=bash
# The Docker engine that hosts the nodes: used where one runs, started where none does. Sourced after prerequisites.sh.

engine_started=''  # how we started one: systemd, or the folder that holds its log and pid

engine_answers() { as_root env ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} docker info >/dev/null 2>&1; }

# Returns 1, and says why, where no engine can be had.
start_engine() {
  engine_answers && return 0
  if [[ -n ${DOCKER_HOST:-} ]]; then
    loud "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: correct it, or unset it to have one started here"
    return 1
  fi
  say 'no Docker engine runs here: starting one, to be stopped again at the end'
  if [[ -d /run/systemd/system ]] && systemctl cat docker.service >/dev/null 2>&1; then
    as_root systemctl start docker.service || { loud "systemd could not start Docker: see 'systemctl status docker'"; return 1; }
    engine_started=systemd
  else
    engine_started=$(mktemp -d "${TMPDIR:-/tmp}/sterna-engine.XXXXXX")
    # In a session of its own: an interrupt at the terminal must leave it up until the nodes are gone.
    # shellcheck disable=SC2016
    as_root sh -c 'setsid dockerd >"$1/log" 2>&1 </dev/null & echo $! >"$1/pid"' _ "$engine_started"
  fi
  local _
  for _ in $(seq 120); do
    engine_answers && return 0
    [[ $engine_started == systemd || -d /proc/$(<"$engine_started/pid") ]] || break
    sleep 0.5
  done
  loud 'the Docker engine did not come up'
  [[ $engine_started == systemd ]] || { tail -n 8 "$engine_started/log" >&2; }
  stop_engine
  return 1
}

# Stops the engine if we started it. Images stay for the next time.
stop_engine() {
  local pid _
  case $engine_started in
    '') ;;
    systemd) as_root systemctl stop docker.service docker.socket || true ;;
    *)
      pid=$(<"$engine_started/pid")
      as_root kill "$pid" 2>/dev/null || true
      for _ in $(seq 60); do [[ -d /proc/$pid ]] || break; sleep 0.5; done
      as_root rm -rf "$engine_started"
      ;;
  esac
  engine_started=''
}
