# SPDX-License-Identifier: Apache-2.0
"""A plugin of sos: who holds kernel memory, for a report to support.

Copy it to sos/report/plugins of sos, then: sos report --only-plugins slabmon
"""

from sos.report.plugins import DebianPlugin, IndependentPlugin, Plugin


# DebianPlugin: sos 4.0 on Debian takes no independent plugin.
class Slabmon(Plugin, IndependentPlugin, DebianPlugin):
    """Holders of kernel memory, and what slabmon itself says of the host."""

    short_desc = "slabmon: holders of kernel memory"
    plugin_name = "slabmon"
    profiles = ("system", "memory", "performance")
    packages = ("slabmon",)
    services = ("slabmon",)

    def setup(self) -> None:
        """Collect configuration and figures; nothing stays attached."""
        self.add_copy_spec(["/etc/slabmon/slabmon.toml", "/etc/default/slabmon"])
        self.add_journal(units=["slabmon.service", "slabmon.socket"])
        self.add_cmd_output(
            [
                "slabmon --version",
                "slabmon check",
                "slabmon memory",
                "slabmon census --format json",
                "slabmon census --by cgroup",
                "slabmon snapshot --seconds 10 --format json",
            ]
        )
        if self.is_service_running("slabmon"):
            daemon = "--connect unix:/run/slabmon/slabmon.sock"
            self.add_cmd_output(
                [
                    f"slabmon leaks {daemon} --format json",
                    f"slabmon top {daemon} -b -n 1 --view overview",
                ]
            )
            self.add_cmd_output(
                f"slabmon report {daemon} -o -", suggest_filename="slabmon-report.html"
            )
