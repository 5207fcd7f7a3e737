# SPDX-License-Identifier: Apache-2.0
"""The one exception tree: every error has a code, what was found, what was expected, and what to do.

The exit status of the command line is a property of the branch: 1 the input is wrong, 3 the environment
lacks something, 4 the run failed. This module imports nothing of hetfab, so that a board can load it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


def counted(number: int, noun: str) -> str:
    """A number and its noun, as messages and tables say it: '1 node', '1,200 nodes'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def why_unreadable(error: Exception) -> str:
    """Why a file could not be read, in words that do not repeat its path."""
    match error:
        case OSError(strerror=str(reason)):
            return reason
        case UnicodeDecodeError():
            return "it is not text in UTF-8"
        case RecursionError():
            return "it is nested too deeply"
    return str(error)


class HetfabError(Exception):
    """Base of all errors that a user can cause or meet.

    Args:
        found: What was found, with the names and numbers that matter.
        expected: What was expected instead.
        do: The next thing to try.
    """

    code: ClassVar[str] = "hetfab"
    exit_code: ClassVar[int] = 4

    def __init__(self, found: str, expected: str, do: str) -> None:
        super().__init__(found, expected, do)
        self.found = found
        self.expected = expected
        self.do = do

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker of a search raises it in another process, whatever its class asks of ``__init__``.
        return _again, (type(self), self.args, vars(self))

    def __str__(self) -> str:
        return f"{self.found}\n  expected: {self.expected}\n  do: {self.do}"

    def as_dict(self) -> dict[str, Any]:
        """Returns the four parts as ``--json`` prints them; an error may add others."""
        return {"code": self.code, "found": self.found, "expected": self.expected, "do": self.do}


def _again(kind: type[HetfabError], arguments: tuple[str, ...], attributes: Mapping[str, Any]) -> HetfabError:
    """The same error in another process."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class InputError(HetfabError):
    """A file or a value that the user gave is wrong."""

    code = "input"
    exit_code = 1


class RulesBrokenError(InputError):
    """HLS sources that break rules of the lint; all places are named at once.

    Args:
        found: What they have in common.
        expected: As of every error.
        do: As of every error.
        findings: For each place ``file``, ``line``, ``rule``, ``found``, ``expected`` and ``do``.
    """

    code = "rules-broken"

    def __init__(self, found: str, expected: str, do: str, findings: Sequence[Mapping[str, Any]]) -> None:
        places = "{file}:{line}: {rule}: {found}\n      expected: {expected}\n      do: {do}"
        super().__init__("\n    ".join([found, *(places.format(**finding) for finding in findings)]), expected, do)
        self.findings = tuple(findings)

    def as_dict(self) -> dict[str, Any]:
        """The four parts and the findings."""
        return super().as_dict() | {"findings": list(self.findings)}


class SourceUnreadableError(InputError):
    """A C++ source that is to be checked cannot be read."""

    code = "source-unreadable"


class ModelUnreadableError(InputError):
    """The file is not ONNX, is truncated, or fails the ONNX checker."""

    code = "model-unreadable"


class ModelVersionError(InputError):
    """The file's opset or IR version is outside what hetfab reads."""

    code = "model-version"


class OperatorsUnsupportedError(InputError):
    """Operators or operator forms that this stage does not handle; all are named at once.

    Args:
        found: What cannot be done with them.
        expected: As of every error.
        do: As of every error.
        refused: A line for each operator, none where ``found`` says it all.
    """

    code = "operators-unsupported"

    def __init__(self, found: str, expected: str, do: str, refused: Sequence[str] = ()) -> None:
        super().__init__("\n    ".join([found, *refused]), expected, do)
        self.refused = tuple(refused) or (found,)


class HostFallbackError(InputError):
    """Operators that only the host can run, where it must not, or where nothing would be left for the overlay."""

    code = "host-fallback"


class ModelStructureError(InputError):
    """The model's shapes, types or constants contradict each other."""

    code = "model-structure"


class InputsUnboundError(InputError):
    """Model inputs whose meaning is unknown; all are named at once."""

    code = "inputs-unbound"


class BindingInvalidError(InputError):
    """An input binding is malformed or contradicts the model or the graph."""

    code = "binding-invalid"


class NotQuantizedError(InputError):
    """A model without the ``Quant`` operators that the compiler needs."""

    code = "model-not-quantized"


class AlreadyQuantizedError(InputError):
    """A quantized model where a float model is needed."""

    code = "model-quantized"


class GraphUnreadableError(InputError):
    """The graph file cannot be read."""

    code = "graph-unreadable"


class GraphInvalidError(InputError):
    """The graph contradicts itself: ids outside their type, wrong shapes, unknown types."""

    code = "graph-invalid"


class WorkloadUnreadableError(InputError):
    """The file with numbers of a graph cannot be read."""

    code = "workload-unreadable"


class RelationMissingError(InputError):
    """The graph lacks a node type, relation or metapath that the model names."""

    code = "relation-missing"


class FeaturesNotFiniteError(InputError):
    """Features contain NaN or infinity."""

    code = "features-not-finite"


class FeatureWidthError(InputError):
    """The graph's features have another width than the model's input."""

    code = "feature-width"


class FeaturesMissingError(InputError):
    """The model reads features of a node type that has none."""

    code = "features-missing"


class GraphUnfitError(InputError):
    """The graph differs in several ways from what the model wants.

    Args:
        found: All differences.
        expected: As of every error.
        do: As of every error.
        differences: The error of each difference.
    """

    code = "graph-unfit"

    def __init__(self, found: str, expected: str, do: str, differences: Sequence[InputError]) -> None:
        super().__init__(found, expected, do)
        self.differences = tuple(differences)

    def as_dict(self) -> dict[str, Any]:
        """The four parts, and those of each difference."""
        return super().as_dict() | {"differences": [error.as_dict() for error in self.differences]}


class CountFixedError(InputError):
    """The model was made for another number of nodes of a type."""

    code = "count-fixed"


class NodesUnknownError(InputError):
    """Predictions of nodes were asked for that the graph does not have."""

    code = "nodes-unknown"


class NodesOptionsError(InputError):
    """What predictions of some nodes were asked for with says nothing, or goes with nodes only."""

    code = "nodes-options"


class RunOptionError(InputError):
    """A run was asked for with a time or a number of repetitions that cannot be."""

    code = "run-options"


class FusionInvalidError(InputError):
    """Fusion weights cannot be read, or are of another model."""

    code = "fusion-invalid"


class NodesDependentError(InputError):
    """Predictions of some nodes were asked for, and each depends on all nodes."""

    code = "nodes-dependent"


class LimitExceededError(InputError):
    """The graph exceeds a limit that the program is proven for."""

    code = "limit-exceeded"


class ScheduleInvalidError(InputError):
    """A schedule of AGG's scratchpad is not one of the edges, or finds a row where it is not."""

    code = "schedule-invalid"


class WidthsUnsupportedError(InputError):
    """Widths of weights or activations that no engine takes."""

    code = "widths-unsupported"


class SamplesInvalidError(InputError):
    """A file of samples cannot be read, or does not fit the model's input."""

    code = "samples-invalid"


class CalibrationDataError(InputError):
    """There is nothing to calibrate with."""

    code = "calibration-data"


class SearchInvalidError(InputError):
    """What a search is to choose from is incomplete, or numbers are of no use to it."""

    code = "search-invalid"


class LimitUnreachableError(InputError):
    """Nothing that can be chosen keeps a limit; the nearest that does is named."""

    code = "limit-unreachable"


class LabelsMissingError(InputError):
    """A command needs labels that the graph does not have."""

    code = "labels-missing"


class DesignInvalidError(InputError):
    """A design or board file is unreadable or its values are not allowed."""

    code = "design-invalid"


class ConstantsInvalidError(InputError):
    """A file of measured constants cannot be read."""

    code = "constants-invalid"


class DesignTooSmallError(InputError):
    """A buffer of the design cannot hold one tile."""

    code = "design-too-small"


class DesignTooLargeError(InputError):
    """A design needs more of a resource than its board has."""

    code = "design-too-large"


class Hls4mlRefusedError(InputError):
    """A model that hls4ml would compute wrongly, or a layer that ``HeteroDense`` cannot be."""

    code = "hls4ml-refused"


class SplitInvalidError(InputError):
    """The output channels of layers cannot be split between the two cores as asked."""

    code = "split-invalid"


class GeometryMismatchError(InputError):
    """A program for one geometry met a design or an overlay of another."""

    code = "geometry-mismatch"


class OverlayPackageError(InputError):
    """An overlay package is missing, incomplete, damaged, or for another board."""

    code = "overlay-package"


class BitstreamInvalidError(InputError):
    """A contributed bitstream has no usable link, or what speaks for it is of another overlay."""

    code = "bitstream-invalid"


class DownloadRefusedError(InputError):
    """What a link leads to is not what was promised, or it may not be followed; nothing of it is kept."""

    code = "download-refused"


class TargetInvalidError(InputError):
    """What names a target says nothing, holds a password, or leads where this cannot be done."""

    code = "target-invalid"


class BoardMismatchError(InputError):
    """The board that was reached is not the one that the overlay was built for."""

    code = "board-mismatch"


class ProgramUnreadableError(InputError):
    """The file is not a program, or is truncated or altered."""

    code = "program-unreadable"


class ReferenceMismatchError(InputError):
    """The reference of a run is not the model that the program was compiled from."""

    code = "reference-mismatch"


class IsaVersionError(InputError):
    """A program or an overlay of another version of the instruction set."""

    code = "isa-version"


class FormatVersionError(InputError):
    """A file of an older or newer version of its format; the message names the command that writes it anew."""

    code = "format-version"


class FieldRangeError(InputError):
    """A value does not fit its instruction field."""

    code = "field-range"


class StreamInvalidError(InputError):
    """A bound stream whose waits, signals or instructions break the rules of the instruction set."""

    code = "stream-invalid"


class OverflowPossibleError(InputError):
    """A layer whose sums could leave their width."""

    code = "overflow-possible"


class OutputUnwritableError(InputError):
    """The output cannot be written."""

    code = "output-unwritable"


class EnvironmentLacksError(HetfabError):
    """The environment lacks a tool, a package or a writable folder."""

    code = "environment"
    exit_code = 3


class CompilerMissingError(EnvironmentLacksError):
    """No C++ compiler was found."""

    code = "compiler-missing"


class CompilerFailedError(EnvironmentLacksError):
    """The C++ compiler refused the kernels."""

    code = "compiler-failed"


class CacheUnwritableError(EnvironmentLacksError):
    """The folder for built overlays cannot be written, or nothing loads from it."""

    code = "cache-unwritable"


class PackageMissingError(EnvironmentLacksError):
    """An optional Python package is not installed."""

    code = "package-missing"


class ToolMissingError(EnvironmentLacksError):
    """A tool of a build is not on the path, here or on the host that was named."""

    code = "tool-missing"


class ToolVersionError(EnvironmentLacksError):
    """A tool of a build has a version that hetfab writes no scripts for, or not the one that was asked for."""

    code = "tool-version"


class ToolLicenceError(EnvironmentLacksError):
    """A tool of a build found no licence for the part or for itself."""

    code = "tool-licence"


class DiskFullError(EnvironmentLacksError):
    """The disk has no room for a build, or filled up during it."""

    code = "disk-full"


class BuildBusyError(EnvironmentLacksError):
    """Another build uses the folder."""

    code = "build-busy"


class HostUnreachableError(EnvironmentLacksError):
    """A host or a board cannot be reached, or files cannot be copied."""

    code = "host-unreachable"


class DownloadFailedError(EnvironmentLacksError):
    """A server cannot be reached, or does not have the file."""

    code = "download-failed"


class ClusterUnreachableError(EnvironmentLacksError):
    """The cluster that evaluations are to run on cannot be reached, has no workers, or has another hetfab."""

    code = "cluster-unreachable"


class HostKeyError(EnvironmentLacksError):
    """The key of a host is not known, or not the one that is known."""

    code = "host-key"


class LoginRefusedError(EnvironmentLacksError):
    """A board does not let the user in."""

    code = "login-refused"


class BoardPythonError(EnvironmentLacksError):
    """A board has no Python that hetfab runs with."""

    code = "board-python"


class BoardSoftwareError(EnvironmentLacksError):
    """A board lacks hetfab or what it needs there, or has a version that does not go with this one."""

    code = "board-software"


class BoardBusyError(EnvironmentLacksError):
    """Another program works with the board's overlay."""

    code = "board-busy"


class PynqVersionError(EnvironmentLacksError):
    """The installed pynq cannot load overlays of this board."""

    code = "pynq-version"


class RunError(HetfabError):
    """The run failed."""

    code = "run"


class WorkerDiedError(RunError):
    """Every worker that tried an evaluation died of it, or with it."""

    code = "worker-died"


class DeadlockError(RunError):
    """No engine can step and instructions remain."""

    code = "deadlock"


class DeadlineError(RunError):
    """A wait passed its deadline."""

    code = "deadline"


class EngineStalledError(DeadlineError):
    """An engine took an instruction and did not finish it within the deadline."""

    code = "engine-stalled"


class LoadDeadlineError(DeadlineError):
    """Loading an overlay did not end within its deadline."""

    code = "load-deadline"


class SemaphoreError(RunError):
    """A semaphore does not count what was signalled and taken: a signal was lost or repeated."""

    code = "semaphore-wrong"


class DeviceResetError(RunError):
    """The overlay was reset during a run."""

    code = "device-reset"


class DeviceLostError(RunError):
    """The device does not answer any more: it lost its power, or the link to it is gone."""

    code = "device-lost"


class LinkLostError(DeviceLostError):
    """The link to a board broke, or the board does not answer over it."""

    code = "link-lost"


class CopyDamagedError(RunError):
    """A file that was copied to a board is not there what it is here."""

    code = "copy-damaged"


class BusError(RunError):
    """The bus refused an access to the device's registers or memory."""

    code = "bus-error"


class AnswerGarbledError(RunError):
    """The device answers what no overlay of hetfab does."""

    code = "answer-garbled"


class ClockStoppedError(RunError):
    """The overlay's clock does not run, or not as fast as when it was loaded."""

    code = "clock-stopped"


class MemoryAlteredError(RunError):
    """The device's memory does not hold any more what the driver wrote."""

    code = "memory-altered"


class RegisterAlteredError(RunError):
    """A register does not hold what was written, or what a run leaves in it."""

    code = "register-altered"


class InterruptSpuriousError(RunError):
    """The overlay raised an interrupt that was not enabled."""

    code = "interrupt-spurious"


class ResultsDifferError(RunError):
    """Two runs of the same program on the same content of memory gave different results."""

    code = "results-differ"


class EngineFaultError(RunError):
    """An engine reported a fault: an unmapped access, a bad instruction, a protocol violation."""

    code = "engine-fault"


class DeviceMemoryError(RunError):
    """The device's memory cannot hold what the run needs."""

    code = "device-memory"


class StaleMemoryError(RunError):
    """The device would read bytes that the host changed and did not flush."""

    code = "stale-memory"


class OverlayStateError(RunError):
    """An overlay cannot do this now: it is closed, stopped, replaced, or holds no program or graph."""

    code = "overlay-state"


class SelftestFailedError(RunError):
    """An overlay gives other results than the golden model.

    Args:
        found: The engine suspected most, and the first difference.
        expected: As of every error.
        do: As of every error.
        outcome: Everything that the self-test found, as ``--json`` prints it.
    """

    code = "selftest-failed"

    def __init__(self, found: str, expected: str, do: str, outcome: Mapping[str, Any]) -> None:
        super().__init__(found, expected, do)
        self.outcome = outcome

    def as_dict(self) -> dict[str, Any]:
        """The four parts and the outcome."""
        return super().as_dict() | {"outcome": dict(self.outcome)}


class BuildError(HetfabError):
    """A step of a build failed."""

    code = "build"


class ToolFailedError(BuildError):
    """A tool ended with an error, or without a file that it should have written."""

    code = "tool-failed"


class ScriptRefusedError(BuildError):
    """A script for a tool does not pass the check of its commands."""

    code = "script-refused"


class ReportUnreadableError(BuildError):
    """A tool's report does not have the form that is expected."""

    code = "report-unreadable"


class TimingFailedError(BuildError):
    """The design is built, but is too slow for its clock."""

    code = "timing-failed"
