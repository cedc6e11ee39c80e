# SPDX-License-Identifier: Apache-2.0
"""Fetch exact Debian packages of several suites without touching the host's apt.

A private configuration directory lists all suites at once; apt verifies the
signed index and each download against it, and the lock file pins what it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

from tests.vm.config import NATIVE, Kernel, Locked, Package, kernels
from tests.vm.host import NETWORK_TRIES, VmError, cache_dir, log, run

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
INDEX_MAX_AGE = 6 * 3600


def keyring() -> Path:
    """Debian's archive keys, which the host's own apt trusts already."""
    for path in KEYRINGS:
        if path.exists():
            return path
    raise VmError("no Debian archive keyring: install debian-archive-keyring")


def mirrors() -> tuple[str, str]:
    """Addresses of the main and the security archive: the ones this host uses itself."""
    found: dict[str, str] = {}
    for refresh in (False, True):
        if refresh:
            run(["apt-get", "update", "-q"], what="apt-get update", tries=NETWORK_TRIES)
        listing = run(
            ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"],
            what="asking apt for its mirrors",
        )
        for line in listing.splitlines():
            label, _, uri = line.partition(" ")
            found.setdefault(label, uri.rstrip("/"))
        if "Debian" in found:
            break
    main = os.environ.get("SLABMON_VM_MIRROR") or found.get("Debian")
    if not main:
        raise VmError("apt knows no Debian mirror: set SLABMON_VM_MIRROR to one")
    security = os.environ.get("SLABMON_VM_SECURITY_MIRROR") or found.get("Debian-Security")
    return main, security or main + "-security"


class Archive:
    """The private apt: resolves names to exact packages and downloads them."""

    def __init__(self) -> None:
        self.home = cache_dir() / "apt"
        self.debs = cache_dir() / "debs"
        self.env = {**os.environ, "APT_CONFIG": str(self.home / "apt.conf")}

    def _configure(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "etc/parts"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self.debs.mkdir(parents=True, exist_ok=True)
        (self.home / "status").touch()
        main, security = mirrors()
        suites: dict[str, set[str]] = {}
        for kernel in kernels().values():
            for suite in kernel.suites:
                suites.setdefault(suite, {NATIVE}).add(kernel.architecture)
        sources = "".join(
            f"deb [arch={','.join(sorted(suites[suite]))} signed-by={keyring()}] "
            f"{security if suite.endswith('-security') else main} {suite} main\n"
            for suite in sorted(suites)
        )
        # The host may need a proxy: that part of its configuration is kept.
        acquire = run(["apt-config", "dump", "Acquire::http"], what="reading apt's proxy")
        (self.home / "apt.conf").write_text(
            f'Dir::State "{self.home}";\n'
            f'Dir::State::status "{self.home}/status";\n'
            f'Dir::Cache "{self.home}/cache";\n'
            f'Dir::Etc "{self.home}/etc";\n'
            f'Dir::Etc::Parts "{self.home}/etc/parts";\n'
            f'Dir::Etc::SourceParts "{self.home}/etc/parts";\n'
            f'Dir::Etc::PreferencesParts "{self.home}/etc/parts";\n'
            'APT::Architecture "amd64";\n'
            'APT::Architectures {"amd64"; "arm64";};\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n' + acquire
        )
        (self.home / "etc" / "sources.list").write_text(sources)

    def refresh(self, *, force: bool = False) -> None:
        """Fetch the package lists unless recent ones are here."""
        stamp = self.home / "refreshed"
        if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < INDEX_MAX_AGE:
            return
        self._configure()
        log("fetching package lists")
        run(
            ["apt-get", "update", "-q"],
            what="fetching package lists",
            env=self.env,
            tries=NETWORK_TRIES,
        )
        stamp.touch()

    def _show(self, name: str) -> list[Package]:
        """Every version of a package that the archive has now, newest first."""
        try:
            text = run(["apt-cache", "show", name], what=f"looking up {name}", env=self.env)
        except VmError:
            return []
        found = []
        for stanza in text.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|SHA256): (.+)$", stanza, re.M))
            if len(fields) == 3:
                found.append(Package(name, fields["Version"], fields["SHA256"]))
        return found

    def resolve(self, kernel: Kernel) -> Locked:
        """Pin a kernel to the newest release that is in the archive with all its packages."""
        names = run(["apt-cache", "pkgnames", "linux-"], what="listing kernels", env=self.env)
        matches = (re.fullmatch(kernel.image, name) for name in names.split())
        releases = [match.group(1) for match in matches if match]
        for release in sorted(releases, key=_release_key, reverse=True):
            abi = release.rpartition("-")[0]
            groups = [
                [self._show(name.format(release=release, abi=abi))[:1] for name in templates]
                for templates in (kernel.run, kernel.build, kernel.debug)
            ]
            if all(all(group) for group in groups):
                return Locked(kernel, release, *(tuple(p[0] for p in group) for group in groups))
        raise VmError(f"no complete kernel {kernel.name} in {', '.join(kernel.suites)}")

    def fetch(self, locked: Locked, packages: tuple[Package, ...]) -> list[Path]:
        """Download pinned packages (cached); VmError when the archive no longer has one."""
        paths = [self.debs / f"{package.sha256[:16]}-{package.name}.deb" for package in packages]
        wanted = [pair for pair in zip(packages, paths, strict=True) if not pair[1].exists()]
        if not wanted:
            return paths
        self.refresh()
        for package, path in wanted:
            if package not in self._show(package.name):
                self.refresh(force=True)  # the lists here may just be old
            if package not in self._show(package.name):
                raise VmError(
                    f"kernel {locked.kernel.name}: {package.name} {package.version} is no longer "
                    f"in the archive ({', '.join(locked.kernel.suites)}); run `python -m tests.vm "
                    f"{locked.kernel.name} --relock` and commit the new lock"
                )
            log(f"downloading {package.name} {package.version}")
            inbox = self.home / "inbox"
            inbox.mkdir(exist_ok=True)
            for old in inbox.iterdir():
                old.unlink()
            run(
                ["apt-get", "download", "-q", f"{package.name}={package.version}"],
                what=f"downloading {package.name}",
                env=self.env,
                cwd=inbox,
                tries=NETWORK_TRIES,
            )
            [deb] = inbox.glob("*.deb")
            with deb.open("rb") as handle:
                actual = hashlib.file_digest(handle, "sha256").hexdigest()
            if actual != package.sha256:
                raise VmError(f"{package.name}: sha256 {actual} differs from the lock's")
            deb.rename(path)
        return paths


def _release_key(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]
