# shellcheck shell=bash
# What ./check and ./demo need besides Rust, and how it gets here. Sourced, not run.
#
# The caller sets `yes=1` where nobody is to be asked. A need counts as met when the program is there, however it came.

# Programs of the administrator are needed too, and not on everyone's path.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n== %s\n' "$*"; }
loud() { printf '\n!! %s\n' "$*" >&2; }
fail() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly where we are, by sudo where we are not.
as_root() {
  if ((EUID == 0)); then "$@"; else
    command -v sudo >/dev/null || fail "'$1' must be run as root, and there is no sudo: run this script as root"
    sudo "$@"
  fi
}

require_rust() {
  local least have
  least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  # A login shell would have read this file.
  # shellcheck disable=SC1091
  if ! command -v cargo >/dev/null && [[ -f ${CARGO_HOME:-$HOME/.cargo}/env ]]; then . "${CARGO_HOME:-$HOME/.cargo}/env"; fi
  command -v cargo >/dev/null || fail "Rust is missing. Install Rust $least or newer from https://rustup.rs, then run this again."
  have=$(rustc --version | cut -d' ' -f2)
  [[ $(printf '%s\n' "$least" "$have" | sort -V | head -n 1) == "$least" ]] ||
    fail "Rust $have is too old: $least or newer is needed ('rustup update')."
}

has_program() { command -v "$1" >/dev/null; }
# By the names that clang-sys loads: `libclang-cpp` is another library.
has_libclang() {
  [[ -n ${LIBCLANG_PATH:-} ]] || compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
    compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null ||
    compgen -G '/usr/lib/*/libclang.so*' >/dev/null || compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null
}
has_file() { [[ -e $1 ]]; }
has_python_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null; }
# A cluster or programs that somebody lends to the tests do, too.
has_own_cluster() {
  [[ -n ${STERNA_KUBECONFIG:-} ]] || [[ $1 == go && -n ${STERNA_ETCD:-} && -n ${STERNA_KUBE_APISERVER:-} ]] || has_program "$1"
}

has_own_charts() { [[ -n ${STERNA_HELM:-} && -n ${STERNA_KUSTOMIZE:-} ]] || has_program "$1"; }

# One line per need: group, how to see that it is met, package, what for.
needs='
build      | has_program c++                        | g++                          | compiles SQLite, ring and the HiGHS solver
build      | has_program make                       | make                         | builds the HiGHS solver
build      | has_program cmake                      | cmake                        | builds the HiGHS solver
build      | has_libclang                           | libclang-dev                 | makes the bindings of the HiGHS solver
build      | has_file /etc/ssl/certs/ca-certificates.crt | ca-certificates         | cargo fetches crates over TLS
engine     | has_program dockerd                    | docker.io                    | the Docker engine whose containers are the nodes
engine     | has_program docker                     | docker-cli                   | imports images and looks into nodes
engine     | has_program iptables                   | iptables                     | the networks of the Docker engine
images     | has_program debootstrap                | debootstrap                  | builds node and service images without any registry
images     | has_program xz                         | xz-utils                     | unpacks Debian packages
monitoring | has_program prometheus                 | prometheus                   | scrapes and answers the queries of the scheduler
monitoring | has_program prometheus-blackbox-exporter | prometheus-blackbox-exporter | measures the latency between users and sites
monitoring | has_program prometheus-node-exporter   | prometheus-node-exporter     | measures the processors of the sites
faults     | has_program mkfs.ext4                  | e2fsprogs                    | small disks of the nodes, to be filled
faults     | has_program losetup                    | mount                        | small disks of the nodes, to be filled
faults     | has_program nsenter                    | util-linux                   | cuts the networks of nodes
faults     | has_faketime                           | libfaketime                  | clocks that agents have for themselves
emulation  | has_program qemu-system-x86_64         | qemu-system-x86              | emulates ordinary hosts, to be nodes and to lose power
emulation  | has_program qemu-img                   | qemu-utils                   | gives every emulated host a disk of its own
emulation  | has_program mkfs.ext4                  | e2fsprogs                    | makes the file systems of emulated hosts
emulation  | has_program busybox                    | busybox-static               | boots emulated hosts
emulation  | has_program modprobe                   | kmod                         | finds the modules of their kernel
cluster    | has_own_cluster go                     | golang-go                    | builds the Kubernetes API server that tests talk to
cluster    | has_own_charts go                      | golang-go                    | builds Helm and kustomize, which the chart is tested with
cluster    | has_own_cluster openssl                | openssl                      | keys of that server
cluster    | has_own_cluster runc                   | runc                         | runs the containers of the nodes of a whole cluster
cluster    | has_own_cluster ip                     | iproute2                     | the networks of these nodes
cluster    | has_own_cluster iptables               | iptables                     | the way between these nodes and other containers
cluster    | has_own_cluster nft                    | nftables                     | the addresses of services and of what talks to pods
cluster    | has_own_cluster unshare                | util-linux                   | keeps these nodes apart
clients    | has_program redis-benchmark                | redis-tools                  | asks a Redis that moves
clients    | has_program wrk                            | wrk                          | asks a web server that moves
simgrid    | has_program c++                        | g++                          | compiles the fleet for SimGrid
simgrid    | has_file /usr/include/simgrid/s4u.hpp  | libsimgrid-dev               | simulates the same fleet
leaf       | has_python_venv                        | python3-venv                 | keeps LEAF and what it needs apart
shell      | has_program shellcheck                 | shellcheck                   | checks the shell scripts
'

# install_for GROUP...: says what is missing for the groups and why, asks, installs.
install_for() {
  local group test package why packages=() lines=()
  while IFS='|' read -r group test package why; do
    group=${group// /} package=${package// /}
    [[ " $* " == *" ${group:-none} "* ]] || continue
    # The test is a function and its argument.
    # shellcheck disable=SC2086
    $test && continue
    packages+=("$package")
    lines+=("$(printf '  %-30s%s' "$package" "${why# }")")
  done <<<"$needs"
  ((${#packages[@]})) || return 0

  say "missing on this machine"
  printf '%s\n' "${lines[@]}"
  has_program apt-get || fail "this is not Debian (there is no apt-get): install what is listed above by hand, then run this again"
  if ((!${yes:-0})); then
    [[ -t 0 ]] || fail "packages are missing and there is no terminal to ask on: run this again with --yes to have them installed by apt-get"
    local answer
    read -r -p 'Install them with apt-get, as root? [y/N] ' answer
    [[ $answer == [yY]* ]] || fail "not installed, so not run"
  fi
  install_packages "${packages[@]}"
  hash -r
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }
has_candidate() { [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]; }

# In a subshell, so that its trap undoes the change below whatever happens.
install_packages() (
  packages=() daemons=()
  # On a fresh machine apt has no lists at all.
  has_candidate "$1" || apt_get update
  for package; do
    # Until Debian 12 the client was part of docker.io.
    if [[ $package == docker-cli ]] && ! has_candidate docker-cli; then package=docker.io; fi
    packages+=("$package")
    if [[ $package == prometheus* ]]; then daemons+=("$package"); fi
  done

  # These packages start daemons of their own when they are installed, and at every boot. We want only their programs,
  # so for the time of the installation nothing is started, and afterwards they are disabled.
  policy=/usr/sbin/policy-rc.d
  before=$(mktemp)
  if [[ -e $policy ]]; then
    as_root cp -p "$policy" "$before"
    trap 'as_root cp -p "$before" "$policy"; as_root rm -f "$before"' EXIT
  else
    trap 'as_root rm -f "$policy" "$before"' EXIT
  fi
  trap 'exit 130' INT TERM
  as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy"
  install=(apt_get install -y --no-install-recommends "${packages[@]}")
  # Lists that are too old name packages that are gone.
  "${install[@]}" >/dev/null || { apt_get update && "${install[@]}" >/dev/null; } ||
    fail "apt-get could not install: ${packages[*]}"
  for package in ${daemons[@]+"${daemons[@]}"}; do
    if has_program systemctl; then as_root systemctl --quiet disable "$package" 2>/dev/null || true
    elif has_program update-rc.d; then as_root update-rc.d "$package" disable >/dev/null 2>&1 || true; fi
  done
)
