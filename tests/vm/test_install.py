# SPDX-License-Identifier: Apache-2.0
"""`make install` and `make uninstall` into a directory, as packagers of other systems use them."""

from __future__ import annotations

import os
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from slabmon import __version__
from slabmon.cli.main import build_parser
from tests.vm.host import PROJECT
from tests.vm.roots import copy_project

# Building and checking packages takes a minute on an idle machine with 2 CPUs.
pytestmark = [pytest.mark.timeout(600), pytest.mark.beside]
# Files that are in packages because of where they are, by their folder in dashboards/.
MORE = {"": "more.json", "rules": "more.yml", "examples": "more.any"}
PREFIX, SYSCONFDIR = Path("opt/slabmon"), Path("opt/etc")


def make(goal: str, into: Path, project: Path = PROJECT) -> None:
    subprocess.run(
        ["make", goal, f"DESTDIR={into}", f"PREFIX=/{PREFIX}", f"SYSCONFDIR=/{SYSCONFDIR}"],
        cwd=project,
        check=True,
        capture_output=True,
    )


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_everything_goes_where_it_is_told_and_away_again(tmp_path: Path) -> None:
    make("install", tmp_path)
    found = files(tmp_path)
    assert found >= {
        PREFIX / "bin/slabmon",
        PREFIX / "lib/slabmon/slabmon/bpf/slabmon.bpf.c",
        PREFIX / "lib/slabmon/slabmon/bpf/include/linux/types.h",
        PREFIX / "lib/systemd/system/slabmon.service",
        PREFIX / "lib/systemd/system/slabmon.socket",
        PREFIX / "lib/sysusers.d/slabmon.conf",
        PREFIX / "lib/tmpfiles.d/slabmon.conf",
        PREFIX / "share/doc/slabmon/service.md",
        PREFIX / "share/doc/slabmon/runbooks/SlabmonDown.md",
        PREFIX / "share/doc/slabmon/slabmon.toml",
        PREFIX / "share/man/man1/slabmon.1",
        PREFIX / "share/bash-completion/completions/slabmon",
        SYSCONFDIR / "slabmon/slabmon.toml",
    }
    assert {path.parts[:2] for path in found} == {PREFIX.parts, SYSCONFDIR.parts}
    unit = (tmp_path / PREFIX / "lib/systemd/system/slabmon.service").read_text()
    assert "@" not in "".join(line for line in unit.splitlines() if "Filter" not in line)
    assert f"/{PREFIX}/bin/slabmon serve --config=/{SYSCONFDIR}/slabmon/slabmon.toml" in unit

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / PREFIX / "lib/slabmon")}
    configuration = str(tmp_path / SYSCONFDIR / "slabmon/slabmon.toml")
    for arguments, says in (
        (["--version"], __version__),
        (["serve", "--config", configuration, "--config.check"], "valid"),
    ):
        said = subprocess.run(
            ["/usr/bin/python3", "-P", "-m", "slabmon", *arguments],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert says in said.stdout

    make("uninstall", tmp_path)
    assert files(tmp_path) == {SYSCONFDIR / "slabmon/slabmon.toml"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with more dashboards, rules and examples, and the Debian package built of it."""
    project = tmp_path_factory.mktemp("packages") / "project"
    copy_project(project)
    for folder, name in MORE.items():
        (project / "dashboards" / folder).mkdir(exist_ok=True)
        (project / "dashboards" / folder / name).write_text("{}")
    subprocess.run(["make", "deb"], cwd=project, check=True, capture_output=True)
    return project


def test_dashboards_rules_and_examples_are_installed_and_packaged(
    project: Path, tmp_path: Path
) -> None:
    staged, unpacked = tmp_path / "staged", tmp_path / "unpacked"
    wanted = set()
    for folder, kind, which in (
        ("", "dashboards", "*.json"),
        ("rules", "rules", "*.yml"),
        ("examples", "examples", "*.*"),
    ):
        for path in (project / "dashboards" / folder).glob(which):
            if not path.stem.endswith("_test"):
                wanted.add(Path(kind) / path.name)
    assert wanted > {Path(folder or "dashboards") / name for folder, name in MORE.items()}
    make("install-files", staged, project)
    (package,) = (project / "build").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    for prefix in (staged / PREFIX, unpacked / "usr"):
        share = prefix / "share/slabmon"
        found = {path.relative_to(share) for path in share.rglob("*") if path.is_file()}
        assert found == wanted


def test_the_debian_package_has_all_files_in_their_places(project: Path) -> None:
    (package,) = (project / "build").glob("*.deb")
    listing = subprocess.run(
        ["dpkg-deb", "--contents", package], check=True, text=True, capture_output=True
    )
    entries = [line.split() for line in listing.stdout.splitlines()]
    assert {owner for _, owner, *_ in entries} == {"root/root"}
    found = {entry[5].removeprefix("./"): entry[0] for entry in entries}
    units = "usr/lib/systemd/system" if "usr/lib/systemd/" in found else "lib/systemd/system"
    for path in (
        "etc/slabmon/slabmon.toml",
        "usr/bin/slabmon",
        "usr/lib/python3/dist-packages/slabmon/__init__.py",
        "usr/lib/python3/dist-packages/slabmon/bpf/slabmon.bpf.c",
        f"{units}/slabmon.service",
        f"{units}/slabmon.socket",
        "usr/lib/sysusers.d/slabmon.conf",
        "usr/lib/tmpfiles.d/slabmon.conf",
        "usr/share/bash-completion/completions/slabmon",
        "usr/share/fish/vendor_completions.d/slabmon.fish",
        "usr/share/zsh/vendor-completions/_slabmon",
        "usr/share/doc/slabmon/changelog.gz",
        "usr/share/doc/slabmon/copyright",
        "usr/share/doc/slabmon/runbooks/SlabmonDown.md",
        "usr/share/man/man1/slabmon.1.gz",
        "usr/share/man/man5/slabmon.toml.5.gz",
        "usr/share/man/man8/slabmon.service.8.gz",
    ):
        assert found[path] == ("-rwxr-xr-x" if path.startswith("usr/bin/") else "-rw-r--r--")
    assert not [path for path in found if "__pycache__" in path]


def test_lintian_has_no_complaint(project: Path) -> None:
    (changes,) = (project / "build").glob("*.changes")
    said = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", changes],
        check=True,
        text=True,
        capture_output=True,
    )
    assert said.stdout == ""


def test_the_rpm_package_has_all_files_in_their_places(tmp_path: Path) -> None:
    project = tmp_path / "project"
    copy_project(project)
    subprocess.run(["make", "rpm"], cwd=project, check=True, capture_output=True)
    (package,) = (project / "build").rglob("*.rpm")

    def query(*what: str) -> set[str]:
        # Database: a query of a file asks for the keys in it.
        said = subprocess.run(
            ["rpm", "--dbpath", tmp_path / "database", "--query", "--package", *what, package],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return set(said.stdout.splitlines())

    library = "/usr/lib/python3/site-packages/slabmon"
    assert query("--list") >= {
        "/etc/slabmon/slabmon.toml",
        "/usr/bin/slabmon",
        f"{library}/__init__.py",
        f"{library}/bpf/slabmon.bpf.c",
        "/usr/lib/systemd/system/slabmon.service",
        "/usr/lib/systemd/system/slabmon.socket",
        "/usr/lib/sysusers.d/slabmon.conf",
        "/usr/lib/tmpfiles.d/slabmon.conf",
        "/usr/share/bash-completion/completions/slabmon",
        "/usr/share/fish/vendor_completions.d/slabmon.fish",
        "/usr/share/zsh/site-functions/_slabmon",
        "/usr/share/doc/slabmon/runbooks/SlabmonDown.md",
        "/usr/share/man/man8/slabmon.service.8",
        "/usr/share/slabmon/rules/slabmon.yml",
    }
    assert query("--configfiles") == {"/etc/slabmon/slabmon.toml"}
    assert query("--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]") == {"root:root"}
    assert query("--queryformat", "%{LICENSE}") == {pyproject("license")}
    names = {requirement.split()[0] for requirement in query("--requires")}
    assert names >= {"python3-bcc", "python3-msgspec", "python3-numpy", "python3-tornado"}


def pyproject(key: str) -> str:
    """Return a field of the project."""
    value: str = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][key]
    return value


# Which commands the plugin runs, by the sos of this Debian.
SOS = """
import runpy, sys
from sos.report.plugins import Plugin
commands = []
def add(self, added, **_):
    commands.extend([added] if type(added) is str else added)
Plugin.add_cmd_output = add
Plugin.add_copy_spec = Plugin.add_journal = lambda self, *_, **__: None
Plugin.is_service_running = lambda self, name: name == "slabmon"
plugin = runpy.run_path(sys.argv[1])["Slabmon"]
import sos.policies
assert issubclass(plugin, tuple(sos.policies.load().valid_subclasses))
plugin.setup(plugin.__new__(plugin))
print("\\n".join(commands))
"""


def test_the_plugin_of_sos_runs_commands_that_there_are() -> None:
    said = subprocess.run(
        ["/usr/bin/python3", "-c", SOS, PROJECT / "packaging/sos/slabmon.py"],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    commands = [shlex.split(line) for line in said.stdout.splitlines()]
    assert len(commands) == 9
    for name, *arguments in commands:
        assert name == "slabmon"
        if arguments != ["--version"]:
            build_parser().parse_args(arguments)
