#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pack the tree as build/slabmon_VERSION.orig.tar.gz, the same bytes for the same files, and unpack it
# as build/slabmon-VERSION. Packages are built of it.
set -eu
version=$1
date=$(dpkg-parsechangelog --show-field Timestamp --file packaging/debian/changelog)
rm -rf build/slabmon*
mkdir -p build
tar --sort=name --mtime="@$date" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw \
	--exclude-vcs --exclude=./build --exclude=./dist --exclude='./.*_cache' --exclude=./.venv \
	--exclude=./.hypothesis --exclude=__pycache__ --exclude='*.egg-info' --exclude=node_modules \
	--transform="s,^\.,slabmon-$version," -cf - . | gzip -9n > "build/slabmon_$version.orig.tar.gz"
tar -xzf "build/slabmon_$version.orig.tar.gz" -C build
