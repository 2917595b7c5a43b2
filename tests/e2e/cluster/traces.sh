# shellcheck shell=bash
# What a cluster leaves on the machine, and how it goes again: names, cgroups, processes, links, rules. Sourced by `cluster`.
#
# All of it bears the cluster's number, and a link by that number leads to the cluster's folder, so that it is found even if whoever
# brought the cluster up was killed on the way.

claims=/run/sterna-k

named() { # named NUMBER: sets the names of what a cluster has
  number=$1 bridge=sterna-k$1 group=sterna-k$1 net=10.$((200 + $1))
}

claimed() { # claimed: whether there is a cluster of the folder `state`, or what is left of one
  local one
  for one in "$claims"*; do
    [[ $(readlink "$one") == "$state" ]] || continue
    named "${one#"$claims"}"
    return
  done
  return 1
}

claim() {
  local one
  for one in "$claims"*; do
    # Those whose folder was emptied will not be taken down by anybody.
    [[ ! -L $one || -e $one/folder ]] || abandoned "$one"
  done
  for one in {0..15}; do
    [[ -z $(ip -4 route show root "10.$((200 + one)).0.0/16") ]] || continue
    ln -sT "$state" "$claims$one" 2>/dev/null || continue
    named "$one"
    return
  done
  fail "all of 10.200.0.0/16 to 10.215.0.0/16 are in use: 'cluster down' those that $claims* lead to and nobody needs"
}

abandoned() { # abandoned CLAIM
  local state
  state=$(readlink "$1")
  named "${1#"$claims"}"
  dismantle
}

# Where cgroups are: one place in version 2, one for each controller in version 1.
hierarchies() {
  local one
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    echo /sys/fs/cgroup
  else
    for one in /sys/fs/cgroup/*/cgroup.procs; do dirname "$one"; done
  fi
}

# The one of them in which the cluster's own processes are kept together.
tracker() { if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then echo /sys/fs/cgroup; else echo /sys/fs/cgroup/freezer; fi; }

make_groups() {
  local place name
  while read -r place; do
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
      mkdir -p "$place/$group"
      # A group of version 2 has only the controllers that the one above hands down.
      for name in '' "/$group"; do sed 's/[^ ]\+/+&/g' "$place/cgroup.controllers" >"$place$name/cgroup.subtree_control"; done
    fi
    for name in '' daemons "${names[@]}"; do
      mkdir -p "$place/$group/$name"
      # A group of version 1 has no processor to run on unless it is given some.
      [[ ! -e $place/cpuset.cpus ]] || copy_to "$place/$group/$name" cpuset.cpus cpuset.mems
    done
  done < <(hierarchies)
}

copy_to() { # copy_to CGROUP FILE...: as in the one above
  local file
  for file in "${@:2}"; do cat "$(dirname "$1")/$file" >"$1/$file"; done
}

members() { # members: the processes of the cluster
  local place
  while read -r place; do
    find "$place/$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(hierarchies) | sort -un
}

# The kill waits in each frozen process and is the first thing that it meets: nothing that was moved away runs for another instant.
end_members() {
  local round process frozen
  for round in {1..100}; do
    process=''
    # A process that we can't see would be 0, which means something else.
    for process in $(members); do ((process == 0)) || kill -KILL "$process" 2>/dev/null || true; done
    [[ -n $process ]] || return 0
    while read -r frozen; do
      case $frozen in
        */freezer.state) echo THAWED >"$frozen";;
        *) echo 0 >"$frozen";;
      esac
    done < <(find "$(tracker)/$group" -name freezer.state -o -name cgroup.freeze 2>/dev/null) 2>/dev/null || true
    sleep 0.1
  done
  fail "processes of the cluster do not end: $(members | tr '\n' ' ')"
}

remove_groups() {
  local place round left
  for round in {1..50}; do
    left=0
    while read -r place; do
      [[ -d $place/$group ]] || continue
      find "$place/$group" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done < <(hierarchies)
    ((left)) || return 0
    # The last processes may still be on their way out.
    sleep 0.1
  done
  fail "cgroups of the cluster can't be removed, as in $place/$group: see what is in them (round $round)"
}

dismantle() { # dismantle: removes the cluster of `number`, in `state`
  local one
  end_members
  ip link delete "$bridge" 2>/dev/null || true
  # These go with the nodes, but not at once.
  for one in "${!names[@]}"; do ip link delete "$bridge-$((one + 1))" 2>/dev/null || true; done
  for one in -i -o; do
    while iptables -w -D FORWARD "$one" "$bridge" -j ACCEPT 2>/dev/null; do :; done
  done
  nft delete table ip "$bridge" 2>/dev/null || true
  remove_groups
  for one in "${names[@]}" etcd certificates; do rm -rf --one-file-system "${state:?}/$one"; done
  rm -f "$state"/{folder,tokens,account.key,kubeconfig} "$state"/*.{kubeconfig,pid,log}
  rm "$claims$number"
}
