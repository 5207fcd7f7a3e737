// SPDX-License-Identifier: Apache-2.0
// Instructions on strips that the instruction set does not define, where hardware would go on with what its
// registers held: their fields are looked at before they execute.
#pragma once

#include <stdexcept>
#include <string>

#include "../kernels/tops.hpp"
#include "hetfab/gemm_d.hpp"
#include "hetfab/gemm_l.hpp"
#include "hetfab/load.hpp"
#include "hetfab/store.hpp"

namespace hetfab {

namespace {

[[noreturn]] inline void refuse(const std::string& found, const std::string& expected) {
    throw std::out_of_range(found + ", not " + expected);
}

// An array's banks, lines and words that a strip takes.
inline void check_strip(const char* name, const StripShape& strip, unsigned banks, unsigned array_rows) {
    if (banks != 0 && banks <= array_rows && strip.lines != 0 && strip.run != 0) return;
    refuse(std::string(name) + " of banks " + std::to_string(banks) + ", lines " +
               std::to_string(strip.lines) + ", run " + std::to_string(strip.run),
           "1 to " + std::to_string(array_rows) + " banks, at least 1 line and a run of at least 1");
}

// Banks and whole words of what LOAD broadcasts.
inline void check_banks(const TileCopy& copy) {
    const BankShape& banks = copy.banks;
    const unsigned rows = copy.to_l ? Design::gemm_l_rows : Design::gemm_d_rows;
    if (banks.banks == 0 || banks.first_bank + banks.banks > rows) {
        refuse(std::to_string(banks.banks) + " banks from bank " + std::to_string(banks.first_bank) + " on",
               "at least 1, below bank " + std::to_string(rows));
    }
    if (banks.line_stride == 0 || banks.kernel_lines == 0) {
        refuse("kernel_lines " + std::to_string(banks.kernel_lines) + ", line_stride " +
                   std::to_string(banks.line_stride),
               "at least 1 each");
    }
    const unsigned multiple = copy.to_l ? (copy.packed ? 2 : 4) : 1;
    if (copy.lines.line_beats % multiple != 0) {
        refuse("lines of " + std::to_string(copy.lines.line_beats) + " beats",
               "a multiple of " + std::to_string(multiple) + ", whole words of act_l_ram");
    }
}

inline void check_lines(const LineShape& lines) {
    if (lines.top + lines.read_lines <= lines.lines && lines.left + lines.read_beats <= lines.line_beats)
        return;
    refuse("top " + std::to_string(lines.top) + ", lines " + std::to_string(lines.read_lines) + ", left " +
               std::to_string(lines.left) + ", beats " + std::to_string(lines.read_beats),
           "at most " + std::to_string(lines.lines) + " lines and " + std::to_string(lines.line_beats) +
               " beats with the zeros");
}

inline void check_windows(const TileCopy& copy) {
    const unsigned needed = lines_of(copy.banks);
    if (copy.lines.lines != needed) {
        refuse(std::to_string(copy.lines.lines) + " lines", std::to_string(needed) + ", what the banks need");
    }
    const WindowShape& windows = copy.windows;
    const unsigned end = windows.offset + (windows.columns - 1) * windows.step_bytes + 8 * windows.run_beats;
    if (copy.lines.read_beats <= Design::gather_beats && end <= 8 * copy.lines.read_beats) return;
    refuse("lines of " + std::to_string(copy.lines.read_beats) + " beats with windows up to byte " +
               std::to_string(end - 1),
           "windows within lines of at most " + std::to_string(Design::gather_beats) +
               " beats, the gather_beats");
}

inline void check_load(unsigned opcode, const Types::Instruction& instruction,
                       const Types::LoadContext* contexts) {
    if (opcode != isa::LoadLines::opcode && opcode != isa::LoadWindows::opcode) return;
    const bool windows = opcode == isa::LoadWindows::opcode;
    const TileCopy copy = context_copy<Family>(instruction, windows, contexts);
    check_banks(copy);
    if (windows) {
        check_windows(copy);
    } else {
        check_lines(copy.lines);
    }
}

inline void check_store(const RowsCopy& copy) {
    const unsigned pixels = copy.columns * copy.row_beats;
    if (copy.runs.runs != 1 || copy.columns == 1 || copy.runs.run_beats == pixels) return;
    refuse("joined runs of " + std::to_string(copy.runs.run_beats) + " beats",
           std::to_string(pixels) + ", those of all pixels");
}

inline void check_strips(unsigned engine, unsigned opcode, const Types::Instruction& instruction,
                         const Types::LoadContext* contexts) {
    if (engine == isa::engine::load) check_load(opcode, instruction, contexts);
    if (engine == isa::engine::store &&
        (opcode == isa::StoreRuns::opcode || opcode == isa::StoreMiddle::opcode)) {
        check_store(pixels_copy<Family>(instruction, opcode == isa::StoreMiddle::opcode));
    }
    if (engine == isa::engine::gemm_d && opcode == isa::MatmulLines::opcode) {
        const MatmulTile tile = matmul_strips<Family>(instruction);
        check_strip("matmul_lines", tile.strip, tile.blocks.block_rows, Design::gemm_d_rows);
    }
    if (engine == isa::engine::gemm_l && opcode == isa::MatmulPlanesLines::opcode) {
        const PlanesTile tile = planes_strips<Family>(instruction);
        check_strip("matmul_planes_lines", tile.strip, tile.blocks.block_rows, Design::gemm_l_rows);
    }
}

}  // namespace

}  // namespace hetfab
