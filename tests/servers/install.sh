#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install Debian's servers without running them: sh tests/servers/install.sh PACKAGE...
# The tests start their own servers. The packages' services would listen on all interfaces, from now
# on and after each boot, so their units are masked first; to use one: systemctl unmask NAME.
# Packages that are already installed are not touched.
set -eu

missing=
for package; do
	dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "slabmon: error: Debian packages are missing:$missing; run as root: sh $0$missing" >&2
	exit 3
fi

for package in $missing; do
	unit=/etc/systemd/system/$package.service
	[ -e "$unit" ] || [ -L "$unit" ] || { mkdir -p /etc/systemd/system && ln -s /dev/null "$unit"; }
done
# Where systemd does not run, invoke-rc.d would start the init scripts.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '%s\n' '#!/bin/sh' 'exit 101' >$policy
	chmod 755 $policy
fi
apt-get update -qq
# shellcheck disable=SC2086 # words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
