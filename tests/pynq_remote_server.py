# SPDX-License-Identifier: Apache-2.0
"""PYNQ.remote's server with the emulated device behind it: ``python pynq_remote_server.py BIT NAME PROCESSOR``.

It answers to pynq's own messages. A bitstream that is written to the configuration port is loaded when it is the one of
BIT: pynq does not send the .hwh file. The first line that it prints is its port.
"""

import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pynq
from pynq import Device
from pynq.pl_server.embedded_device import bit2bin
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from hetfab.driver.pynq_device.device import EmulatedDevice

_FIRMWARE = "/lib/firmware/"
_MANAGER = "/sys/class/fpga_manager/fpga0/"
_PIECE_BYTES = 1 << 20


class Files(remote_device_pb2_grpc.RemoteDeviceServicer):
    """The board's files, and its configuration port."""

    def __init__(self, device: EmulatedDevice, bit: Path, name: str, processor: str) -> None:
        self._device, self._bit = device, bit
        self._files = {
            "/proc/version": f"Linux version 6.6.0 ({processor})".encode(),
            "/proc/device-tree/chosen/pynq_board": name.encode() + b"\0",
            f"{_MANAGER}state": b"operating",
            f"{_MANAGER}flags": b"0",
        }

    def existsfile(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.ExistsFileResponse(exists=request.file_path in self._files)

    def readfile(self, request: Any, context: Any) -> Any:
        content = self._files[request.file_path]
        for place in range(0, len(content), _PIECE_BYTES):
            yield remote_device_pb2.ReadFileResponse(data=content[place : place + _PIECE_BYTES])

    def writefile(self, request_iterator: Any, context: Any) -> Any:
        requests = list(request_iterator)
        path = requests[0].file_path
        self._files[path] = b"".join(request.data for request in requests)
        if path == f"{_MANAGER}firmware":
            self._configure(self._files[_FIRMWARE + self._files[path].decode()])
        return remote_device_pb2.WriteFileResponse()

    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)

    def _configure(self, content: bytes) -> None:
        if content == bytes(bit2bin(self._bit.read_bytes())):
            pynq.Overlay(str(self._bit), device=self._device)


class Registers(mmio_pb2_grpc.MmioServicer):
    """What is mapped, by its number."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device
        self._places: list[Any] = []

    def get_mmio(self, request: Any, context: Any) -> Any:
        self._places.append((request.base_addr, request.length))
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=str(len(self._places) - 1))

    def read(self, request: Any, context: Any) -> Any:
        value = int(self._mapped(request)[request.offset // 4])
        field = mmio_pb2.ReadResponse.DESCRIPTOR.fields_by_name["data"]
        # The message's number is signed in pynq 3.1.
        signed = value - (value >> 31 << 32) if field.type == field.TYPE_INT32 else value
        return mmio_pb2.ReadResponse(status=True, data=signed)

    def write(self, request: Any, context: Any) -> Any:
        self._mapped(request)[request.offset // 4] = int.from_bytes(request.data, "little")
        return mmio_pb2.WriteResponse(status=True)

    def _mapped(self, request: Any) -> Any:
        return self._device.mmap(*self._places[int(request.mmio_id)])


class Buffers(buffer_pb2_grpc.RemoteBufferServicer):
    """Buffers of the board, by their number."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device
        self._buffers: dict[str, Any] = {}
        self._made = 0

    def allocate(self, request: Any, context: Any) -> Any:
        self._made += 1
        self._buffers[str(self._made)] = self._device.allocate((request.size,), np.uint8, cacheable=1)
        return buffer_pb2.AllocateResponse(buffer_id=str(self._made))

    def write(self, request_iterator: Any, context: Any) -> Any:
        place = 0
        for request in request_iterator:
            raw = np.frombuffer(request.data, np.uint8)
            self._buffers[request.buffer_id][place : place + len(raw)] = raw
            place += len(raw)
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any, context: Any) -> Any:
        raw = self._buffers[request.buffer_id].tobytes()
        for place in range(0, len(raw), _PIECE_BYTES):
            yield buffer_pb2.BufferReadResponse(data=raw[place : place + _PIECE_BYTES])

    def flush(self, request: Any, context: Any) -> Any:
        self._buffers[request.buffer_id].flush()
        return buffer_pb2.FlushResponse()

    def invalidate(self, request: Any, context: Any) -> Any:
        self._buffers[request.buffer_id].invalidate()
        return buffer_pb2.InvalidateResponse()

    def freebuffer(self, request: Any, context: Any) -> Any:
        self._buffers.pop(request.buffer_id).freebuffer()
        return buffer_pb2.FreeBufferResponse()

    def physical_address(self, request: Any, context: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._buffers[request.buffer_id].physical_address)


def main() -> None:
    """Serves until the standard input ends."""
    bit, name, processor = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    device = EmulatedDevice()
    Device.active_device = device
    device.get_bitfile_metadata(str(bit))  # From here on it is the board.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(Files(device, bit, name, processor), server)
    mmio_pb2_grpc.add_MmioServicer_to_server(Registers(device), server)
    buffer_pb2_grpc.add_RemoteBufferServicer_to_server(Buffers(device), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
