#!/usr/bin/env bash
# Installs missing dependencies: Debian packages, then npm packages. Runs as root on Debian 12; the demo and the tests call
# it. A second run changes nothing.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# Shows a command's output only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    fail "failed: $*"
  fi
  rm -f "$log"
}

[ "$(id -u)" = 0 ] || fail "run as root: network namespaces and packages need it"
command -v apt-get >/dev/null || fail "this script needs Debian 12; install serf, iproute2, nftables, ping, procps and Node 24 by hand"

# command:package
needed=(serf:serf ip:iproute2 bridge:iproute2 tc:iproute2 nft:nftables ping:iputils-ping ps:procps iperf3:iperf3 nsenter:util-linux mount:mount gcc:gcc clang:clang llvm-strip:llvm bpftool:bpftool strip:binutils dpkg-shlibdeps:dpkg-dev modprobe:kmod ovs-vswitchd:openvswitch-switch dig:bind9-dnsutils)
command -v npm >/dev/null || needed+=(npm:npm)
missing=()
# gcc only recommends the headers of the C library.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# The tests use the paper's API from Debian's own Python.
/usr/bin/python3 -c 'import zmq' 2>/dev/null || missing+=(python3-zmq)
# The attack suite makes its packets with scapy.
/usr/bin/python3 -c 'import scapy' 2>/dev/null || missing+=(python3-scapy)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update
  quietly apt-get install -y --no-install-recommends "${missing[@]}"
fi

# A second kernel for delays and Open vSwitch's kernel datapath; without it those tests are skipped.
if ! command -v linux.uml >/dev/null; then
  say "installing user-mode-linux"
  apt-get install -y --no-install-recommends user-mode-linux >/dev/null 2>&1 ||
    say "user-mode-linux is not available here: tests that need a complete kernel are skipped"
fi

# npm keeps its own copy of the lock file; if it is older than ours, packages are missing.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "installing npm packages"
  quietly npm ci --no-audit --no-fund
  # tap compiles its set of plugins once; ours omits the TypeScript loader, because Node strips types itself.
  PATH=$PWD/node_modules/.bin:$PATH quietly npx tap build
  touch node_modules/.package-lock.json
fi
[ -x node_modules/.bin/node ] || fail "npm did not install Node 24 (node_modules/.bin/node)"

if [ ! -e dist/bpf/underlay.o ] || [ -n "$(find overlay/bpf/programs scripts/build-bpf -newer dist/bpf/underlay.o)" ]; then
  say "compiling the eBPF programs"
  quietly scripts/build-bpf
fi

if [ ! -x dist/vxmesh-cni ] || [ cni/vxmesh-cni.c -nt dist/vxmesh-cni ] || [ scripts/build-cni -nt dist/vxmesh-cni ]; then
  say "building the CNI plugin"
  quietly scripts/build-cni
fi
