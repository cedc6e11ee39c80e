#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Build build/slabmon_VERSION_all.deb with make and dpkg-deb only: the package is Python and C
# source, so there is nothing to compile. Called by `make deb`.
set -eu
version=$1
root=build/deb
rm -rf "$root"
mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/usr/share/doc/slabmon"
umask 022

make --no-print-directory DESTDIR="$root" PREFIX=/usr install-files
make --no-print-directory DESTDIR="$root" install-package PACKAGES=/usr/lib/python3/dist-packages
install -m 755 packaging/debian/slabmon "$root/usr/bin/slabmon"
# Debian policy requires these names, the change log compressed. `copyright` refers to Debian's own
# licence texts, so that those that `make install` puts in place are not needed.
rm -r "$root/usr/share/doc/slabmon/LICENSES"
install -m 644 packaging/debian/copyright "$root/usr/share/doc/slabmon/copyright"
gzip -9n "$root/usr/share/doc/slabmon/CHANGELOG.md"
mv "$root/usr/share/doc/slabmon/CHANGELOG.md.gz" "$root/usr/share/doc/slabmon/changelog.gz"

size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" packaging/debian/control > "$root/DEBIAN/control"
install -m 755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm "$root/DEBIAN"
echo /etc/slabmon/slabmon.toml > "$root/DEBIAN/conffiles"
(cd "$root" && find usr etc -type f -exec md5sum {} + | sort -k2 > DEBIAN/md5sums)
dpkg-deb --root-owner-group --build "$root" "build/slabmon_${version}_all.deb"
rm -rf "$root"
