"""Metric families as Prometheus text and as OpenMetrics, and which of the two a client wants.

Written for memory and time: prometheus_client takes 2 MiB when imported and three times as long,
because it makes an object of each sample and escapes its labels again for each metric. The tests
read both forms with that library's parsers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPENMETRICS_VERSIONS = ("", "1.0.0")
_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One metric's series. `name` is that of the catalogue: a counter's without `_total`; `unit`
    ends the name or is empty."""

    name: str
    kind: str
    help: str
    labels: Labels
    series: Mapping[Labels, float]
    unit: str = ""

    @property
    def exposed(self) -> str:
        """The name of its samples."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


class Exposition:
    """Writes families. Remembers how label sets are written from one time to the next: most
    families have the same ones, and they are the same in the next scrape."""

    def __init__(self) -> None:
        self._written: dict[tuple[Labels, Labels], str] = {}

    def text(self, families: Iterable[Family]) -> bytes:
        """As TEXT."""
        return b"".join(self._write(families, lambda family: (
            f"# HELP {family.exposed} {family.help.translate(_IN_HELP)}\n"
            f"# TYPE {family.exposed} {family.kind}\n")))  # fmt: skip

    def openmetrics(self, families: Iterable[Family]) -> bytes:
        """As OPENMETRICS."""
        written = b"".join(self._write(families, lambda family: (
            f"# HELP {family.name} {family.help.translate(_IN_LABELS)}\n"
            f"# TYPE {family.name} {family.kind}\n"
            + (f"# UNIT {family.name} {family.unit}\n" if family.unit else ""))))  # fmt: skip
        return written + b"# EOF\n"

    def _write(self, families: Iterable[Family], head: Callable[[Family], str]) -> Iterator[bytes]:
        """Family by family: a string for each line of all of them would take far more room."""
        before, self._written = self._written, {}
        for family in families:
            lines = [head(family)]
            name = family.exposed
            for values, value in family.series.items():
                key = family.labels, values
                labels = self._written.get(key)
                if labels is None:
                    labels = self._written[key] = before.get(key) or _label_set(*key)
                lines.append(f"{name}{labels} {float(value)!r}\n")
            yield "".join(lines).encode()


def _label_set(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = sorted(zip(names, values, strict=True))
    written = ",".join(f'{name}="{value.translate(_IN_LABELS)}"' for name, value in pairs)
    return f"{{{written}}}"


def preferred(accept: str) -> str:
    """TEXT or OPENMETRICS, whichever an Accept header prefers (RFC 9110, 12.5.1); of equals the
    one named first, and TEXT for whoever names neither."""
    best, found = 0.0, TEXT
    for accepted in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in accepted.split(";"))
        given = dict(part.partition("=")[::2] for part in parameters)
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            weight = 0.0
        if not weight > best:  # NaN is not
            continue
        if kind == "application/openmetrics-text":
            if given.get("version", "").strip('"') in _OPENMETRICS_VERSIONS:
                best, found = weight, OPENMETRICS
        elif kind in ("text/plain", "text/*", "*/*"):
            best, found = weight, TEXT
    return found
