#!/usr/bin/env bash
# Installs the Debian packages that are missing, or says which: tools/deps.sh build|demo|test|ci|bench|load|count …
set -euo pipefail
packages=()
for set in "$@"; do
  case $set in
    # glommio's build calls git, also where there is nothing for it to do.
    build) packages+=(build-essential clang libclang-dev pkg-config ccache git) ;;
    demo) packages+=(python3) ;;
    test) packages+=(python3 procps iproute2 unbound nsd haproxy dante-server mount util-linux e2fsprogs btrfs-progs redis-server) ;;
    # Foreign servers and tools that tests do without elsewhere, loudly.
    ci) packages+=(postfix shellcheck nodejs) ;;
    # The servers that are compared are fetched by bench/peers and are not installed.
    bench) packages+=(python3 iproute2 mount unbound util-linux) ;;
    # smtp-source and smtp-sink are Postfix's.
    load) packages+=(python3 postfix) ;;
    count) packages+=(python3 util-linux valgrind) ;;
    *) echo "deps: no set named $set" >&2; exit 64 ;;
  esac
done
if ! command -v dpkg-query >/dev/null; then
  echo "deps: not a Debian system; needed: ${packages[*]}" >&2
  exit 0
fi
missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
line="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ]; then as=(env)
elif sudo -n true 2>/dev/null; then as=(sudo env)
else
  echo "deps: packages are missing and this user may not install them. Run: sudo $line" >&2
  exit 69
fi
echo "deps: $line"
# A service that a package starts would hold ports and CPU: none is started.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as[@]}" tee $policy >/dev/null
  "${as[@]}" chmod 755 $policy
  trap '"${as[@]}" rm -f "$policy"' EXIT
fi
"${as[@]}" apt-get update -q
"${as[@]}" DEBIAN_FRONTEND=noninteractive $line
