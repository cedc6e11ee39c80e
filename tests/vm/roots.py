# SPDX-License-Identifier: Apache-2.0
"""Root file systems: a clean Debian, and the same with slabmon's environment installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.vm import config, foreign
from tests.vm.archive import keyring, mirrors
from tests.vm.host import NETWORK_TRIES, PROJECT, VmError, cache_dir, digest, fresh_dir, log, run

INSTALLED_AT = "opt/slabmon"
KEEP_ENVIRONMENTS = 4
# What decides the contents of the environment; other files are laid over it at each run.
ENVIRONMENT_FILES = ("pyproject.toml", "Makefile", "requirements.txt", "requirements-dev.txt")
# What a user installs, plus the pinned requirements of the guest's tests.
PYTEST = "pytest pytest-timeout drgn"
INSTALL = f"make venv && .venv/bin/python -m pip install -q -c requirements-dev.txt {PYTEST}"


def base(name: str) -> Path:
    """A debootstrap'ed root of kernels.toml; the mirror is the host's own."""
    spec = config.root(name)
    native = spec.architecture == config.NATIVE
    made_by = [] if native else [Path(foreign.__file__).read_text()]
    final = cache_dir() / "roots" / f"{name}-{digest([spec.suite, *spec.packages, *made_by])}"
    if final.exists():
        return final
    log(f"debootstrap of {spec.suite} for {name} (about a minute)")
    with fresh_dir(final) as tree:
        run(
            [
                "debootstrap",
                "--variant=minbase",
                *(() if native else ("--foreign", f"--arch={spec.architecture}")),
                f"--keyring={keyring()}",
                f"--include={','.join(spec.packages)}",
                spec.suite,
                tree,
                mirrors()[0],
            ],
            what=f"debootstrap {spec.suite}",
            tries=NETWORK_TRIES,
        )
        if not native:
            foreign.unpack(tree)
        for deb in (tree / "var" / "cache" / "apt" / "archives").glob("*.deb"):
            deb.unlink()
        # No service may start inside a chroot on the host.
        policy = tree / "usr" / "sbin" / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    return final


def project_files() -> list[Path]:
    """The checkout as git sees it: tracked and new files, not what is ignored or deleted."""
    listing = run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        what="listing the project's files",
        cwd=PROJECT,
    )
    names = sorted({name for name in listing.split("\0") if name})
    return [Path(name) for name in names if (PROJECT / name).is_file()]


def copy_project(target: Path) -> None:
    """Copy the checkout, as it is now, to a directory."""
    for name in project_files():
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, to)


def _environment_key() -> str:
    paths = [PROJECT / name for name in ENVIRONMENT_FILES]
    return digest([INSTALL, *(path.read_bytes() for path in paths)])


def installed(name: str) -> Path:
    """An ext4 image of the root with slabmon's environment, made the way the Makefile makes it
    (where this machine cannot run what is in the root: as near to that as can be).

    Rebuilt only when a file of ENVIRONMENT_FILES changed. The project's own
    files are not left behind: each run lays the current ones over it, so a file
    deleted since must not show through. An image, because old kernels read 9p
    one page at a time, which makes every Python import crawl.
    """
    plain = base(name)
    final = plain.with_name(f"{plain.name}-{_environment_key()}.img")
    if final.exists():
        final.touch()
        return final
    # The newest may be some running guest's root.
    older = sorted(plain.parent.glob(f"{plain.name}-*.img"), key=lambda path: path.stat().st_mtime)
    for stale in older[: 1 - KEEP_ENVIRONMENTS]:
        stale.unlink()
    log(f"installing slabmon's environment in {name}")
    tree = plain.with_name(f"{plain.name}-environment")
    shutil.rmtree(tree, ignore_errors=True)
    run(["cp", "-a", "--reflink=auto", plain, tree], what="copying the root")
    home = tree / INSTALLED_AT
    if config.root(name).architecture != config.NATIVE:
        foreign.install(tree, home)
    else:
        copy_project(home)
        with BuildNetwork(tree) as environment:
            script = f"cd /{INSTALLED_AT} && {INSTALL}"
            in_chroot(
                [tree],
                ["sh", "-ec", script],
                what="installing in the root",
                env=environment,
                tries=NETWORK_TRIES,
            )
    for entry in home.iterdir():
        if entry.name == ".venv":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not (home / ".venv").is_dir():
        raise VmError("`make venv` left no .venv")
    _make_image(tree, final)
    shutil.rmtree(tree)
    return final


def _make_image(tree: Path, final: Path) -> None:
    """Pack a tree; without a journal and checksums, as nothing ever writes to the image."""
    size = int(run(["du", "-sk", tree], what="measuring the root").split()[0])
    partial = final.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    run(
        [
            *("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal,^metadata_csum"),
            *("-d", tree, partial, f"{size + size // 4}k"),
        ],
        what="packing the root",
        env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    partial.rename(final)


class BuildNetwork:
    """Lend a chroot the host's way to reach package registries, and take it back.

    pip's settings and certificates may be the host's own; a guest must not keep them.
    """

    def __init__(self, tree: Path) -> None:
        self.lent = tree / "lent"

    def __enter__(self) -> dict[str, str]:
        self.lent.mkdir()
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        for name, value in os.environ.items():
            if name.startswith("PIP_") or name.lower() in ("http_proxy", "https_proxy", "no_proxy"):
                environment[name] = value
        environment.pop("PIP_FIND_LINKS", None)  # may be a directory of the host
        if Path("/etc/pip.conf").exists():
            shutil.copy("/etc/pip.conf", self.lent / "pip.conf")
            environment["PIP_CONFIG_FILE"] = "/lent/pip.conf"
        bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
        if bundle and Path(bundle).exists():
            shutil.copy(bundle, self.lent / "certificates")
            for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
                environment[name] = "/lent/certificates"
        root = self.lent.parent
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", root / "etc" / name)
        return environment

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.lent)
        (self.lent.parent / "etc" / "resolv.conf").write_text("")
        (self.lent.parent / "etc" / "hosts").write_text("127.0.0.1 localhost\n")


def in_chroot(
    layers: Sequence[Path],
    command: Sequence[str],
    *,
    what: str,
    env: dict[str, str],
    scratch: Path | None = None,
    tries: int = 1,
) -> str:
    """Run a command in a chroot; with `scratch`, in an overlay of the layers, topmost first."""
    setup = ""
    where = layers[0]
    if scratch is not None:
        for name in ("upper", "work", "merged"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        lower = ":".join(str(layer) for layer in layers)
        where = scratch / "merged"
        setup = (
            f"mount -t overlay -o lowerdir={lower},upperdir={scratch}/upper,"
            f'workdir={scratch}/work overlay "$0" &&'
        )
    return run(_entering(where, setup, command), what=what, env=env, tries=tries)


def emulator(arguments: Sequence[str], work: Path) -> list[str]:
    """The command that runs a program of the tools root, which sees the cache and a directory
    where they are here."""
    root = base("tools")
    seen = [Path("/dev"), *dict.fromkeys((cache_dir(), work.resolve()))]
    for path in seen:
        (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
    binds = " && ".join(f'mount --rbind "{path}" "$0{path}"' for path in seen)
    return _entering(root, binds + " &&", arguments)


def _entering(root: Path, setup: str, command: Sequence[str]) -> list[str]:
    """Return a command in a chroot, with its own mount and pid namespaces.

    Its mounts end with it, and it ends with the thread that started it, so a killed run leaves
    nothing mounted or running.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-ec", f'{setup} mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'),
        *(str(root), *command),
    ]
