# SPDX-License-Identifier: Apache-2.0
"""The emulated overlay: the HLS kernels compiled for the host, with registers, DRAM and on-chip memories.

``build_emulator`` compiles the sources for a geometry, once; ``Emulator`` is one overlay that runs programs.
"""

import ctypes
import functools
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from hetfab.hls.build.cache import cached_file
from hetfab.hls.build.compiler import Compiler, find_compiler, host_processor
from hetfab.hls.build.design_header import design_header
from hetfab.overlay.dense_stages import Stage
from hetfab.overlay.design import Geometry, identity_of
from hetfab.overlay.errors import DeviceMemoryError, GeometryMismatchError, PackageMissingError
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.run_log import RUN_LOG_DTYPE

_HLS = Path(__file__).resolve().parents[1]
_SOURCE = _HLS / "build" / "emulator.cpp"
_FLAGS = ("-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_HLS_WORDS = ("-Wno-unknown-pragmas", "-Wno-unused-label")
_FAST = ("-O3",)
_SMALL = ("-O2",)
#: Named in projects of hls4ml, and without effect in a simulation.
_SIMULATED_PART = "xc7z020clg400-1"


class Arithmetic(Enum):
    """The integers that the kernels are compiled with."""

    NATIVE = "native"
    AP_INT = "ap_int"


class Bodies(Enum):
    """The inner tile functions of the kernels: their own, or their vectorised equals for a host."""

    PLAIN = "plain"
    HOST = "host"


class Progress(Enum):
    """How far a run is."""

    RUNNING = 0
    DONE = 1
    DEADLOCK = 2
    FAULT = 3


def build_emulator(
    geometry: Geometry,
    arithmetic: Arithmetic = Arithmetic.NATIVE,
    *,
    debug: bool = False,
    bodies: Bodies = Bodies.HOST,
    march: str = "native",
    defines: Sequence[str] = (),
    stages: Sequence[Stage] = (),
) -> Path:
    """Compiles the emulated overlay of a geometry, or finds it in the cache.

    Args:
        geometry: What the kernels are built for.
        arithmetic: Native integers, or the ``ap_int`` headers that come with hls4ml.
        debug: Checks the range of every native integer, and every access against the declared sets of its
            instruction, and records the accesses of each loop; a matrix product takes about thirty times as long.
        bodies: Whose inner tile functions; builds with ``debug``, with ``AP_INT`` or with an integer family of their
            own have the kernels' in any case.
        march: The processor that native integers without ``debug`` are compiled for, as ``-march`` names it.
        defines: Preprocessor definitions, ``NAME`` or ``NAME=value``.
        stages: Dense stages with fixed weights.

    Returns:
        Path of the shared library.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the kernels.
        CacheUnwritableError: The cache cannot be written.
        PackageMissingError: ``AP_INT`` without hls4ml.
    """
    flags = [*_FLAGS, *_HLS_WORDS, *(f"-D{define}" for define in defines)]
    if arithmetic is Arithmetic.AP_INT:
        # Its headers read members before they are set, which optimizing builds warn of.
        flags += [*_SMALL, "-Wno-uninitialized", "-Wno-maybe-uninitialized", "-DHETFAB_AP_INT"]
        flags += ["-isystem", str(ap_types_folder())]
    else:
        flags += [*_SMALL, "-DHETFAB_DEBUG"] if debug else [*_FAST, f"-march={march}"]
        if bodies is Bodies.HOST and not debug:
            flags.append("-DHETFAB_HOST_BODIES")
    compiler = find_compiler()
    header = design_header(geometry, identity_of(geometry, stages))
    flags += ["-DHETFAB_STAGES"] if stages else []
    own = _texts_of_stages(stages) if stages else []
    key = _digest([_sources(), header, *own, *_weights(stages), *compiler.command, compiler.version, *flags])
    key = _digest([key, host_processor()])
    build = functools.partial(
        _compile, compiler=compiler, flags=flags, header=header, stages=stages, arithmetic=arithmetic
    )
    return cached_file(f"emulator-{key[:24]}.so", build)


def _compile(
    folder: Path,
    *,
    compiler: Compiler,
    flags: Sequence[str],
    header: str,
    stages: Sequence[Stage],
    arithmetic: Arithmetic,
) -> Path:
    (folder / "design.hpp").write_text(header, encoding="utf-8")
    sources = _write_stages(folder, stages, arithmetic) if stages else []
    library = folder / "emulator.so"
    includes = [f"-I{_HLS / 'include'}", f"-I{_HLS}", f"-I{folder}"]
    # Projects of hls4ml are compiled by themselves: their headers do not pass the warnings asked for here.
    objects = [_object(compiler, flags, includes, source) for source in sources]
    compiler.run([*flags, *includes, "-o", str(library), str(_SOURCE), *objects])
    return library


def _object(compiler: Compiler, flags: Sequence[str], includes: Sequence[str], source: Path) -> str:
    """Compiles what was generated, without warnings as errors."""
    target = source.with_suffix(".o")
    kept = [flag for flag in flags if flag not in ("-shared", "-Werror", "-Wall", "-Wextra", "-Wconversion")]
    compiler.run([*kept, *includes, "-w", "-c", "-o", str(target), str(source)])
    return str(target)


def _weights(stages: Sequence[Stage]) -> list[str]:
    return [json.dumps(stage.as_dict(), sort_keys=True) for stage in stages]


def _write_stages(folder: Path, stages: Sequence[Stage], arithmetic: Arithmetic) -> list[Path]:
    # Designs without stages are emulated where the templates' package is not installed.
    from hetfab.hls.build.dataflow.sources import write_native_stages, write_project_stages

    if arithmetic is Arithmetic.AP_INT:
        return write_project_stages(folder, stages, _SIMULATED_PART)
    return write_native_stages(folder, stages)


def _texts_of_stages(stages: Sequence[Stage]) -> list[str]:
    """The stages as a header, and contents of what writes their sources."""
    from hetfab.hls.build.dataflow.sources import stages_header

    files = [*(_HLS / "build" / "dataflow").rglob("*"), *(_HLS / "hls4ml_extension").rglob("*")]
    writers = [path.read_text("utf-8") for path in sorted(files) if path.suffix in (".py", ".j2")]
    return [stages_header(stages), *writers]


def _sources() -> str:
    """Names and contents of everything that a build may include."""
    files = sorted(path for pattern in ("**/*.hpp", "**/*.cpp") for path in _HLS.glob(pattern))
    return _digest([text for path in files for text in (str(path.relative_to(_HLS)), path.read_text("utf-8"))])


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def ap_types_folder() -> Path:
    """The folder of the open ``ap_int`` headers.

    Raises:
        PackageMissingError: hls4ml, which brings them, is not installed.
    """
    # find_spec of the top package alone: importing hls4ml takes seconds.
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or spec.origin is None:
        raise PackageMissingError(
            "the Python package hls4ml is not installed",
            "hls4ml 1.3, which brings the ap_int headers",
            "pip install 'hetfab[hls]', or use native integers",
        )
    return Path(spec.origin).parent / "templates" / "vivado" / "ap_types"


class Emulator:
    """One emulated overlay. Use it as a context manager.

    Memories keep their content between runs; a start resets DISPATCH and the run log. After a deadlock or a fault
    inside an engine it hangs as hardware does, neither done nor idle: only a new ``Emulator`` runs again.
    """

    def __init__(self, library: Path, geometry: Geometry, stages: Sequence[Stage] = ()) -> None:
        """Loads a library.

        Args:
            library: From ``build_emulator``.
            geometry: The one that it was built for.
            stages: Those that it was built with.

        Raises:
            GeometryMismatchError: The library was built for another geometry.
        """
        self.geometry = geometry
        self._functions = _functions(library)
        self._overlay: int | None = self._functions.hetfab_open()
        self._buffers: dict[int, npt.NDArray[np.uint8]] = {}
        # Not by its registers: they read as zero until DISPATCH has made a pass.
        found = f"{int(self._functions.hetfab_geometry_hash()):016x}"
        expected = identity_of(geometry, stages)
        if found != expected:
            self.close()
            raise GeometryMismatchError(
                f"'{library}' was built for the geometry {found}",
                f"an emulator of the geometry {expected}",
                "build the emulator for this design",
            )

    def __enter__(self) -> "Emulator":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    def close(self) -> None:
        """Frees the overlay; mapped buffers are released."""
        if self._overlay is not None:
            self._functions.hetfab_close(self._overlay)
            self._overlay = None
            self._buffers.clear()

    def map_memory(self, address: int, buffer: npt.NDArray[np.uint8]) -> None:
        """Makes a buffer visible as DRAM; the overlay reads and writes it in place.

        Args:
            address: Physical address of its first byte.
            buffer: uint8 ``[bytes]``, contiguous and writable; it is kept alive until it is unmapped.

        Raises:
            DeviceMemoryError: The buffer overlaps a mapped one, or is of another kind.
        """
        if buffer.dtype != np.uint8 or buffer.ndim != 1 or not (buffer.flags.c_contiguous and buffer.flags.writeable):
            raise DeviceMemoryError(
                f"a buffer of {buffer.dtype} with shape {buffer.shape} for address {address:#x}",
                "a contiguous, writable array of bytes",
                "allocate it as uint8 of one dimension",
            )
        for base, other in self._buffers.items():
            if address < base + len(other) and base < address + len(buffer):
                raise DeviceMemoryError(
                    f"{len(buffer)} bytes at {address:#x} overlap {len(other)} bytes at {base:#x}",
                    "regions of physical memory that do not overlap",
                    "unmap the other buffer first, or choose another address",
                )
        self._buffers[address] = buffer
        self._functions.hetfab_map(self._overlay, address, buffer.ctypes.data, len(buffer))

    def unmap_memory(self, address: int) -> None:
        """Takes a mapped buffer away; a later access to it is a fault.

        Args:
            address: The one that it was mapped at.

        Raises:
            DeviceMemoryError: Nothing is mapped there.
        """
        if self._buffers.pop(address, None) is None:
            raise DeviceMemoryError(
                f"no buffer is mapped at {address:#x}", "the address of a mapped buffer", "map it first"
            )
        self._functions.hetfab_unmap(self._overlay, address)

    def check_order(self, check: bool) -> None:
        """Sets whether runs stop at accesses that no semaphores order (``docs/order.md``), as they do at first.

        Args:
            check: For the next start and those after it.
        """
        self._functions.hetfab_check_order(self._overlay, int(check))

    def stall(self, engine: int) -> None:
        """Lets an engine begin no instruction any more, as one that stalls in hardware.

        Args:
            engine: Its number in the instruction set.
        """
        self._functions.hetfab_stall(self._overlay, engine)

    def read_register(self, offset: int) -> int:
        """Reads 32 bits; 0 where no register is, and what DISPATCH wrote in its last pass: 0 before the first."""
        return int(self._functions.hetfab_read_register(self._overlay, offset))

    def write_register(self, offset: int, value: int) -> None:
        """Writes 32 bits; bit 0 of the control register starts the program when the overlay is idle."""
        self._functions.hetfab_write_register(self._overlay, offset, value)

    def advance(self, passes: int, seed: int = 0) -> Progress:
        """Lets the scheduler take steps.

        Args:
            passes: Largest number of steps: one engine's instruction, or one pass of DISPATCH.
            seed: 0 steps round-robin, another number at random; results must not depend on it.
        """
        return Progress(self._functions.hetfab_advance(self._overlay, passes, seed))

    def bodies(self) -> str:
        """``plain``, or the instructions that host bodies use: ``avx512vnni``, ``avx2``, ``sse2`` or ``portable``."""
        return bytes(self._functions.hetfab_bodies()).decode()

    def message(self) -> str:
        """What stopped the run: the fault, or the state dump of a deadlock; empty while there is none."""
        return bytes(self._functions.hetfab_message(self._overlay)).decode()

    def run_log(self) -> npt.NDArray[np.void]:
        """Records of the retired instructions in program order, ``RUN_LOG_DTYPE``; ``layer`` is 0."""
        count = int(self._functions.hetfab_run_log(self._overlay, None, 0))
        records = np.zeros(count, RUN_LOG_DTYPE)
        self._functions.hetfab_run_log(self._overlay, records.ctypes.data, count)
        return records

    def bank_accesses(self) -> dict[str, dict[str, int]]:
        """How often the pipelined loops accessed the on-chip memories, since the overlay was opened.

        Returns:
            By loop that took a trip and memory that it accessed, the largest number of accesses in one trip; the loop
            ``instruction`` stands for accesses outside of all others. Empty in builds without ``debug``.
        """
        memories = [memory.name for memory in isa().memories if memory.word_bits]
        found: dict[str, dict[str, int]] = {}
        for loop, name in enumerate(loops()):
            if self._functions.hetfab_loop_trips(self._overlay, loop):
                largest = {
                    memory: int(self._functions.hetfab_bank_accesses(self._overlay, loop, memory.encode()))
                    for memory in memories
                }
                found[name] = {memory: accesses for memory, accesses in largest.items() if accesses}
        return found

    def read_rows_fifo(self) -> npt.NDArray[np.uint32]:
        """The words that SGB has sent to AGG and AGG not yet taken, the oldest first; they stay."""
        words = np.empty(int(self._functions.hetfab_read_rows_fifo(self._overlay, None, 0)), np.uint32)
        self._functions.hetfab_read_rows_fifo(self._overlay, words.ctypes.data, len(words))
        return words

    def read_ram(self, memory: str, word: int, count: int) -> npt.NDArray[np.uint8]:
        """Reads words of an on-chip memory.

        Args:
            memory: Its name.
            word: First word.
            count: Number of words.

        Returns:
            uint8 ``[count, word_bytes]``.

        Raises:
            DeviceMemoryError: There is no such memory, or it is not that deep.
        """
        self._check_words(memory, word, count)
        data = np.empty((count, self.geometry.word_bytes(memory)), np.uint8)
        self._functions.hetfab_read_ram(self._overlay, memory.encode(), word, count, data.ctypes.data)
        return data

    def write_ram(self, memory: str, word: int, data: npt.NDArray[np.uint8]) -> None:
        """Writes words of an on-chip memory.

        Args:
            memory: Its name.
            word: First word.
            data: uint8 ``[count, word_bytes]``.

        Raises:
            DeviceMemoryError: As ``read_ram``, or the words have another width.
        """
        self._check_words(memory, word, len(data))
        if data.dtype != np.uint8 or data.shape[1:] != (self.geometry.word_bytes(memory),):
            raise DeviceMemoryError(
                f"words of {data.dtype} with shape {data.shape[1:]} for {memory}",
                f"words of {self.geometry.word_bytes(memory)} bytes",
                "reshape the data",
            )
        content = np.ascontiguousarray(data)
        self._functions.hetfab_write_ram(self._overlay, memory.encode(), word, len(content), content.ctypes.data)

    def _check_words(self, memory: str, word: int, count: int) -> None:
        names = [entry.name for entry in isa().memories if entry.word_bits]
        if memory not in names:
            raise DeviceMemoryError(f"no on-chip memory '{memory}'", "one of " + ", ".join(names), "correct the name")
        depth = self.geometry.depth(memory)
        if word < 0 or count < 0 or word + count > depth:
            raise DeviceMemoryError(
                f"words {word} to {word + count - 1} of {memory}", f"words below {depth}", "correct the range"
            )


@functools.cache
def _functions(library: Path) -> ctypes.CDLL:
    functions = ctypes.CDLL(str(library))
    overlay, number, pointer = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p
    half, text, status = ctypes.c_uint32, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "open": (overlay, []),
        "geometry_hash": (number, []),
        "close": (None, [overlay]),
        "map": (None, [overlay, number, pointer, number]),
        "unmap": (None, [overlay, number]),
        "read_register": (half, [overlay, half]),
        "write_register": (None, [overlay, half, half]),
        "check_order": (None, [overlay, status]),
        "stall": (None, [overlay, half]),
        "advance": (status, [overlay, number, half]),
        "bodies": (text, []),
        "message": (text, [overlay]),
        "run_log": (number, [overlay, pointer, number]),
        "loop_trips": (number, [overlay, half]),
        "bank_accesses": (half, [overlay, half, text]),
        "read_rows_fifo": (number, [overlay, pointer, number]),
        "read_ram": (status, [overlay, text, number, number, pointer]),
        "write_ram": (status, [overlay, text, number, number, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(functions, f"hetfab_{name}")
        function.restype, function.argtypes = result, arguments
    return functions
