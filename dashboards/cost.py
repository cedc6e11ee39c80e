# SPDX-License-Identifier: Apache-2.0
"""The cost of slabmon itself on the selected hosts."""

from __future__ import annotations

from dashboards.panels import Panel, of_metric, rows, series
from dashboards.queries import Query, about, gauge, rate, top

PART = "{{instance}} {{part}}"


def panels() -> list[Panel]:
    """Return a row of the host's dashboard."""
    per_run = f"{rate('bpf_run_seconds_total')} / ({rate('bpf_runs_total')} > 0)"
    return [
        series(
            "CPU time, and the budget",
            about("cost_cpus", "100 % is one CPU."),
            "percentunit",
            Query(f"sum by (instance, part) ({gauge('cost_cpus')})", PART),
            Query(f"sum by (instance) ({gauge('budget_cpus')})", "{{instance}} budget"),
        ),
        of_metric("CPU time of the processes", "process_cpu_seconds_total", legend=PART),
        series(
            "Run time of BPF programs",
            "Mean time of a run, while BPF statistics are enabled.",
            "s",
            Query(top(per_run), "{{instance}} {{program}}"),
        ),
        of_metric(
            "Measured runs of BPF programs", "bpf_runs_total", legend="{{instance}} {{program}}"
        ),
        series(
            "Memory",
            "Resident memory of the processes, with a share of shared pages, and BPF memory.",
            "bytes",
            Query(f"sum by (instance, part) ({gauge('process_proportional_bytes')})", PART),
            Query(f"sum by (instance) ({gauge('bpf_memory_bytes')})", "{{instance}} BPF"),
        ),
        of_metric("Resident memory", "process_resident_bytes", legend=PART),
        rows(
            "Tracking",
            about("tracking_state"),
            "bool_yes_no",
            f"{gauge('tracking_state')} == 1",
            {"instance": "Host", "state": "State", "Value": "Now"},
            width=8,
        ),
        rows(
            "Stage of tracking",
            about("tracking_stage"),
            "bool_yes_no",
            f"{gauge('tracking_stage')} == 1",
            {"instance": "Host", "stage": "Stage", "Value": "Now"},
            width=8,
        ),
        of_metric("Wakes", "tracking_wakes_total", legend="{{instance}}", width=4),
        of_metric(
            "Share of time asleep", "tracking_asleep_seconds_total", legend="{{instance}}", width=4
        ),
        rows(
            "Disabled for the budget",
            about("budget_step_taken"),
            "bool_yes_no",
            f"{gauge('budget_step_taken')} == 1",
            {"instance": "Host", "step": "Step", "Value": "Taken"},
            width=6,
        ),
        of_metric("Sampling interval", "sample_bytes", legend="{{instance}}", width=6),
        of_metric("Label sets folded", "folded_series", legend="{{instance}} {{family}}", width=6),
        of_metric(
            "Changes of the folded series",
            "folded_moves_total",
            legend="{{instance}} {{family}}",
            width=6,
        ),
        of_metric("Time of a reading", "snapshot_seconds", legend="{{instance}}", width=8),
        of_metric(
            "Time to obtain a reading", "scrape_duration_seconds", legend="{{instance}}", width=8
        ),
        of_metric("Age of the reading", "snapshot_age_seconds", legend="{{instance}}", width=8),
        of_metric("Connections", "http_connections", legend="{{instance}}", width=6),
        of_metric(
            "Connections refused",
            "http_refused_connections_total",
            legend="{{instance}} {{reason}}",
            width=6,
        ),
        of_metric(
            "Wrong passwords", "http_authentication_failures_total", legend="{{instance}}", width=6
        ),
        series(
            "Web process",
            "Processes restarted after one died; 1 while the configuration on disk is invalid; 0 "
            "while the history cannot be written.",
            "short",
            Query(f"{rate('web_restarts_total')}", "{{instance}} restarts/s"),
            Query(f"{gauge('web_configuration_failed')}", "{{instance}} configuration refused"),
            Query(f"{gauge('history_up')}", "{{instance}} history written"),
            width=6,
        ),
        rows(
            "Versions",
            about("build_info"),
            "bool_yes_no",
            gauge("build_info"),
            {
                "instance": "Host",
                "version": "slabmon",
                "release": "Kernel",
                "machine": "Machine",
                "Value": "Is",
            },
            width=24,
        ),
    ]
