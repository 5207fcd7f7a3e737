# SPDX-License-Identifier: Apache-2.0
"""What a build of a bitstream is told, and where each of its files lies."""

from dataclasses import dataclass
from pathlib import Path

from hetfab.hls.build.bitstream.scripts import engines_of
from hetfab.overlay.design import Design


@dataclass(frozen=True)
class BuildConfiguration:
    """A build.

    Attributes:
        design: What is built.
        folder: Folder of all files of the build, made if it does not exist.
        version: Release of the tools that is asked for, such as ``2024.1``; None takes the one that is found.
        jobs: Engines that are synthesised at a time, and processes of Vivado.
        host: ``user@machine`` that has the tools and is reached by ssh; None for this machine.
    """

    design: Design
    folder: Path
    version: str | None = None
    jobs: int = 1
    host: str | None = None

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the IPs that Vitis HLS makes: DISPATCH and the design's engines."""
        return engines_of(self.design)

    @property
    def places(self) -> "Places":
        """Where the files lie."""
        return Places(self.design.name)


@dataclass(frozen=True)
class Places:
    """Paths of a build's files, relative to its folder.

    Attributes:
        name: Of the design.
    """

    name: str

    sources = Path("sources")
    ip = Path("ip")
    reports = Path("reports")
    vivado = Path("vivado")
    logs = Path("logs")
    stamps = Path("stamps")
    #: Folder of the package, as a board has it.
    overlays = Path("overlays")

    @property
    def hwh(self) -> Path:
        """The hardware handoff that Vivado writes."""
        return Path("handoff") / f"{self.name}.hwh"

    @property
    def bit(self) -> Path:
        """The bitstream that Vivado writes."""
        return Path("handoff") / f"{self.name}.bit"

    @property
    def package(self) -> Path:
        """Folder of the three files of the package."""
        return self.overlays / self.name

    def engine(self, engine: str) -> Path:
        """Working folder of Vitis HLS for an engine."""
        return Path("hls") / engine

    def engine_script(self, engine: str) -> Path:
        """Script of Vitis HLS for an engine."""
        return self.engine(engine) / "synthesis.tcl"

    def engine_zip(self, engine: str) -> Path:
        """The IP that Vitis HLS exports."""
        return self.ip / f"{engine}.zip"

    def engine_reports(self, engine: str) -> Path:
        """Folder with an engine's reports of synthesis."""
        return self.reports / "synthesis" / engine

    def vivado_script(self, step: str) -> Path:
        """Script of Vivado for a step."""
        return self.vivado / f"{step}.tcl"

    @property
    def resources(self) -> Path:
        """Comparison of what Vitis HLS reports with the tables."""
        return self.reports / "resources.json"

    @property
    def utilization(self) -> Path:
        """Vivado's report of what the placed design takes."""
        return self.reports / "utilization.rpt"

    @property
    def timing(self) -> Path:
        """Vivado's summary of the timing of the routed design."""
        return self.reports / "timing.rpt"

    @property
    def closure(self) -> Path:
        """What of the two reports the build read."""
        return self.reports / "closure.json"

    def log(self, step: str) -> Path:
        """What the tool of a step printed."""
        return self.logs / f"{step.replace(':', '-')}.log"

    def stamp(self, step: str) -> Path:
        """The mark of a step that is done."""
        return self.stamps / f"{step.replace(':', '-')}.json"

    def spent(self, step: str) -> Path:
        """The mark of a step whose product a later step has begun to change."""
        return self.stamps / f"{step.replace(':', '-')}.spent"
