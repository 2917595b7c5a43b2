# shellcheck shell=bash
# The programs of a Kubernetes cluster, built once per recipe from Go modules and kept in a cache outside the sources. Sourced.
#
# The caller sets `here`, this folder, and has `fail`. There are two kinds: `server`, which is kube-apiserver and etcd, and `nodes`,
# which is everything else that a cluster with nodes has, and those two as well.

required() { # required FOLDER MODULE: its version
  awk -v module="$2" '{ sub(/^require /, "") } $1 == module { print $2; exit }' "$1/go.mod"
}

newer_than() { [[ $(printf '%s\n' "$1" "${2#go}" | sort -V | head -n 1) == "$1" ]]; } # newer_than LEAST VERSION: or the same

# A Go before 1.21 does not fetch another one, but it fetches modules, and each Go is one, too.
toolchain() { # toolchain FOLDER VERSION
  local module fetched
  module=golang.org/toolchain@v0.0.1-go$2.linux-$(go env GOARCH)
  fetched=$(cd / && GO111MODULE=on GOFLAGS='' go mod download -json "$module" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
  [[ -d $fetched ]] || fail "$(go env GOVERSION) is too old for kube-apiserver and can't fetch $module: install Go $2, or name programs in STERNA_ETCD and STERNA_KUBE_APISERVER"
  rm -rf "$1"
  cp -R "$fetched" "$1"
  # Modules are kept so that nothing in them can be written or run.
  chmod -R u+w "$1"
  chmod +x "$1"/bin/* "$1"/pkg/tool/*/*
  unset GOROOT
  export PATH=$1/bin:$PATH GOTOOLCHAIN=local
}

compiler() { # compiler CACHE: readies a Go that is new enough
  local have least
  least=$(awk '$1 == "go" { print $2; exit }' "$here/go.mod")
  command -v go >/dev/null || fail "Go is missing, which builds kube-apiserver: install Go, or name programs in STERNA_ETCD and STERNA_KUBE_APISERVER"
  have=$(go env GOVERSION)
  if newer_than 1.21 "$have"; then
    # An older Go fetches the one that is needed, also where it was told not to by its packager.
    newer_than "$least" "$have" || export GOTOOLCHAIN=auto
  else
    toolchain "$1/go" "$least"
  fi
  # The flags of whoever calls are not part of the recipe.
  export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOCACHE=$1/build
}

# Without the stamp the programs would not know which version they are.
stamp() { # stamp FOLDER
  local version minor module=k8s.io/component-base/version
  version=$(required "$1" k8s.io/kubernetes) minor=${version#v1.}
  echo "-s -w -X $module.gitVersion=$version -X $module.gitMajor=1 -X $module.gitMinor=${minor%%.*} -X $module.gitTreeState=archive"
}

# Both with one module, so that their versions are pinned together and nothing is installed.
build_server() { # build_server CACHE WORK
  compiler "$1"
  cd "$here"
  go build -trimpath -o "$2/kube-apiserver" -ldflags "$(stamp .)" k8s.io/kubernetes/cmd/kube-apiserver
  go build -trimpath -o "$2/etcd" -ldflags '-s -w' go.etcd.io/etcd/server/v3
}

build_nodes() { # build_nodes CACHE WORK
  local containerd=github.com/containerd/containerd/v2/cmd network=github.com/containernetworking/plugins/plugins
  compiler "$1"
  cd "$here/containers"
  # Other snapshotters than overlayfs need libraries or kernel modules that a test machine has no use for.
  go build -trimpath -o "$2" -ldflags '-s -w' -tags no_btrfs,no_devmapper,no_zfs,no_aufs \
    "$containerd"/{containerd,containerd-shim-runc-v2,ctr}
  go build -trimpath -o "$2" -ldflags '-s -w' "$network"/{main/bridge,main/loopback,meta/portmap,ipam/host-local}
  cd "$here/nodes"
  go build -trimpath -o "$2" -ldflags "$(stamp .)" \
    k8s.io/kubernetes/cmd/{kubelet,kube-controller-manager,kube-scheduler,kube-proxy,kubectl}
  go build -trimpath -o "$2" -ldflags '-s -w' ./pause
  archive "$2" pause "$pause_image"
  echo "$pause_image" >"$2/pause.name"
}

# No registry is asked for it.
pause_image=sterna.test/pause:1

archive() { # archive FOLDER PROGRAM IMAGE: the image of a program alone, as FOLDER/PROGRAM.tar
  local work layer config
  work=$(mktemp -d "$1/.image.XXXXXX")
  tar --create --file "$work/layer.tar" --directory "$1" --owner 0 --group 0 --mtime @0 "$2"
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(go env GOARCH)" "$2" "$layer" >"$work/config.json"
  config=$(sha256sum "$work/config.json" | cut -d' ' -f1)
  mv "$work/config.json" "$work/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$3" >"$work/manifest.json"
  tar --create --file "$1/$2.tar" --directory "$work" --owner 0 --group 0 --mtime @0 manifest.json "$config.json" layer.tar
  rm -rf "$work"
}

# Makes what is not there yet; sets `folder`.
obtain() { # obtain KIND CACHE
  local sources=("$here"/{programs.sh,go.mod,go.sum,programs.go}) prefix='' other work server=''
  if [[ $1 == nodes ]]; then
    obtain server "$2"
    server=$folder prefix=nodes-
    sources+=("$here"/{containers,nodes}/{go.mod,go.sum,programs.go} "$here/nodes/pause/main.go")
  fi
  folder=$2/$prefix$(cat "${sources[@]}" <(uname -m) | sha256sum | cut -c1-16)
  [[ ! -d $folder ]] || return 0
  if [[ $1 == server ]]; then
    echo "building kube-apiserver $(required "$here" k8s.io/kubernetes) and etcd $(required "$here" go.etcd.io/etcd/server/v3), once (five to ten minutes)" >&2
  else
    echo "building kubelet $(required "$here/nodes" k8s.io/kubernetes), containerd $(required "$here/containers" github.com/containerd/containerd/v2) and what else nodes need, once (five to ten minutes)" >&2
  fi
  # Those of other recipes go, unless somebody uses them now; so does what a build that was stopped left.
  for other in "$2/$prefix"*/lock; do
    [[ -e $other && ! ( $1 == server && $other == "$2/nodes-"* ) ]] || continue
    flock --exclusive --nonblock "$other" rm -rf "${other%/lock}" || true
  done
  rm -rf "$2"/.work.*
  work=$(mktemp -d "$2/.work.XXXXXX")
  # What was compiled stays where the build is stopped.
  ("build_$1" "$2" "$work" 9>&-) >&2
  [[ -z $server ]] || ln "$server"/{etcd,kube-apiserver} "$work"
  : >"$work/lock"
  mv "$work" "$folder"
}

programs() { # programs KIND: sets `folder`, with the programs in it, which is locked against removal as long as this runs
  local cache
  cache=${STERNA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sterna}/cluster
  mkdir -p "$cache"
  # Two at once would build it twice. What is started later must not inherit the lock.
  exec 9>"$cache/lock"
  flock 9
  obtain "$1" "$cache"
  # It is many times as large as what came of it.
  rm -rf "$cache/build" "$cache/go"
  exec 8<"$folder/lock"
  flock --shared 8
  exec 9>&-
}
