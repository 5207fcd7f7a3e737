# SPDX-License-Identifier: Apache-2.0
"""Defects seeded in copies of the kernels, one at a time by a number, for what the self-test finds of them.

``python -m tests.selftest_defects`` builds the small design with all of them and runs the self-test on each.
"""

import ctypes
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.selftest.draft import Vector
from hetfab.driver.selftest.run import Outcome, selftest
from hetfab.driver.selftest.vectors import vectors
from hetfab.driver.session import Session
from hetfab.hls.build import emulator
from hetfab.hls.build.emulator import Bodies, build_emulator
from hetfab.overlay.design import Design, default_design
from tests.conftest import SMALL_GEOMETRY

HLS = Path(emulator.__file__).parents[1]
INCLUDE = "include/hetfab"
DESIGN: Design = replace(default_design(), name="small", geometry=SMALL_GEOMETRY)


@dataclass(frozen=True)
class Defect:
    """One wrong place in an engine.

    Attributes:
        engine: Whose.
        what: In words.
        file: In the folder of the kernels' headers.
        old: Text that the file has once.
        new: What replaces it; ``SEEDED`` is whether the defect is on.
    """

    engine: str
    what: str
    file: str
    old: str
    new: str
    #: Another engine whose defects can look the same from DRAM.
    alike: str = ""

    def is_named(self, outcome: Outcome) -> bool:
        """Whether the self-test names the engine first, or with equal right as the one that it looks like."""
        best = [suspect.engine for suspect in outcome.suspects if suspect.share == outcome.suspects[0].share]
        return bool(best) and (best[0] == self.engine or (best[0] == self.alike and self.engine in best))


def _lost_signal(engine: str) -> Defect:
    token = "make_token<D, Z>(instruction, outcome)"
    lost = "make_token<D, Z>(without_signal<Z>(instruction, SEEDED), outcome)"
    return Defect(engine, "the token lacks its second signal", f"{engine}.hpp", token, lost)


DEFECTS = (
    Defect("dispatch", "the second signal of a token is lost", "dispatch.hpp",
           "dispatch_signal(state, number<Z, isa::Token::Signal1>(token), instruction, status);",
           "if (!(SEEDED)) dispatch_signal(state, number<Z, isa::Token::Signal1>(token), instruction, status);"),
    Defect("dispatch", "the second wait is not waited for", "dispatch.hpp",
           "static_cast<unsigned>(state.semaphore[wait1]) >= needed1;",
           "(SEEDED || static_cast<unsigned>(state.semaphore[wait1]) >= needed1);"),
    Defect("dispatch", "addresses of one segment are a block too high", "dispatch.hpp",
           "registers.segment_base[segment] + offset;",
           "registers.segment_base[segment] + offset + (SEEDED && segment == isa::segment::graph ? 64 : 0);"),
    Defect("dispatch", "a wait takes nothing from its semaphore", "dispatch.hpp",
           "static_cast<unsigned>(state.semaphore[semaphore]) - 1;",
           "static_cast<unsigned>(state.semaphore[semaphore]) - (SEEDED ? 0 : 1);"),
    Defect("load", "rows of a tile are a block too close", "load.hpp",
           "number<Z, Op::StrideBlocks>(instruction) * beats_per_block,\n            {rows, beats, 0,",
           "(number<Z, Op::StrideBlocks>(instruction) - (SEEDED ? 1 : 0)) * beats_per_block,\n {rows, beats, 0,"),
    Defect("load", "words of weights go to a place too far", "load.hpp",
           "put_word<Banks>(ram, first + written, word);",
           "put_word<Banks>(ram, first + written + (SEEDED && Bits == 32 * 16 && first == 0 ? 1 : 0), word);"),
    Defect("load", "low halves of bytes are their high ones", "bank_writer.hpp",
           "set_lane<Z, 32>(low_, beat_, nibbles_of<Z>(beat, false));",
           "set_lane<Z, 32>(low_, beat_, nibbles_of<Z>(beat, SEEDED));"),
    Defect("load", "lines of an image are a block too far apart", "load.hpp",
           "number<Z, Context::StrideBlocks>(context) * beats_per_block,\n            {lines_of(banks)",
           "(number<Z, Context::StrideBlocks>(context) + (SEEDED ? 1 : 0)) * beats_per_block,\n {lines_of(banks)"),
    Defect("load", "a window begins a byte too early", "lines.hpp",
           "start_ += windows_.step_bytes;", "start_ += windows_.step_bytes - (SEEDED ? 1 : 0);"),
    _lost_signal("load"),
    Defect("store", "rows are a block too far apart in DRAM", "store.hpp",
           "{rows, number<Z, Op::StrideBlocks>(instruction) * beats_per_block, 1, 0, beats},",
           "{rows, (number<Z, Op::StrideBlocks>(instruction) + (SEEDED ? 1 : 0)) * beats_per_block, 1, 0, beats},"),
    Defect("store", "pixels lie a beat too far apart in DRAM", "store.hpp",
           "joined ? 0 : distance, joined ? distance : beats},",
           "joined ? 0 : distance + (SEEDED ? 1 : 0), joined ? distance : beats},"),
    Defect("store", "the low half of out_ram is stored twice", "store.hpp",
           "high = out_ram[1][place];", "high = out_ram[SEEDED ? 0 : 1][place];", alike="vec"),
    _lost_signal("store"),
    Defect("gemm_d", "a bit of the products of one column is wrong", "dsp_chain.hpp",
           "sums[row][col] = total;",
           "sums[row][col] = (SEEDED && col == 1) ? (total ^ 4) : total;"),
    Defect("gemm_d", "the top bit of the first unsigned channel is not flipped", "dsp_chain.hpp",
           "U<Z, 32>(0x80808080u);", "U<Z, 32>(SEEDED ? 0x80808000u : 0x80808080u);"),
    Defect("gemm_d", "products are not added to what the accumulators hold", "gemm_d.hpp",
           "drain(tile.acc, tile.col_groups, tile.accumulate);",
           "drain(tile.acc, tile.col_groups, tile.accumulate && !(SEEDED));"),
    Defect("gemm_d", "output pixels of a strip are a word too far apart", "gemm_d.hpp",
           "number<Z, Op::LineWords>(instruction), number<Z, Op::StepWords>(instruction)},",
           "number<Z, Op::LineWords>(instruction), number<Z, Op::StepWords>(instruction) + (SEEDED ? 1 : 0)},"),
    Defect("gemm_d", "weights of the second group of columns begin a word too far", "gemm_d.hpp",
           "wgt += steps_per_beat * tile.row_beats();",
           "wgt += steps_per_beat * tile.row_beats() + (SEEDED ? 1 : 0);"),
    _lost_signal("gemm_d"),
    Defect("gemm_l", "the plane of signs is positive", "plane_dot.hpp",
           "control.negative ? S<Z, plane_word_bits>(-added) : added;",
           "control.negative && !(SEEDED) ? S<Z, plane_word_bits>(-added) : added;"),
    Defect("gemm_l", "the high slice weighs half", "plane_dot.hpp",
           "product<Z, wide>(outer, 1 << SliceBits)", "product<Z, wide>(outer, 1 << (SliceBits - (SEEDED ? 1 : 0)))"),
    Defect("gemm_l", "a channel of weight -1 counts one less", "plane_dot.hpp",
           "sum<Z, SliceBits + 2>(largest, sum", "sum<Z, SliceBits + 2>(largest - (SEEDED ? 1 : 0), sum"),
    _lost_signal("gemm_l"),
    Defect("vec", "ties round up", "vec.hpp",
           "rounding.first, tile.averages);", "rounding.first, tile.averages || SEEDED);"),
    Defect("vec", "the lowest bit of multipliers is lost", "vec.hpp",
           "tile.averages ? context.reciprocal : U<Z, 17>(multiplier);",
           "tile.averages ? context.reciprocal : U<Z, 17>(multiplier & (SEEDED ? 0xFFFE : 0xFFFF));"),
    Defect("vec", "negative results are limited one too high", "vec.hpp",
           "Limited<D, Z>(tile.is_signed ? -tile.highest - 1 : 0);",
           "Limited<D, Z>(tile.is_signed ? -tile.highest - (SEEDED ? 0 : 1) : 0);"),
    Defect("vec", "rows of sums are a word too far apart", "vec.hpp",
           "sum_row += tile.sum_groups;", "sum_row += tile.sum_groups + (SEEDED ? 1 : 0);"),
    Defect("vec", "channels take the sums of their neighbours", "vec.hpp",
           "Addend::joined ? lane_s<Z, 32>(sums, lane)",
           "Addend::joined ? lane_s<Z, 32>(sums, lane ^ (SEEDED ? 1 : 0))"),
    Defect("vec", "tables are read a word too far", "vec.hpp",
           "fun_ram[lane][tile.table + index / 8];", "fun_ram[lane][tile.table + (index / 8 ^ (SEEDED ? 1 : 0))];"),
    Defect("vec", "stored pixels join with half their weight", "vec.hpp",
           "S<Z, 32>(stored[lane]) << isa::q8_bits;", "S<Z, 32>(stored[lane]) << (isa::q8_bits - (SEEDED ? 1 : 0));"),
    _lost_signal("vec"),
    Defect("agg", "signed features are read as unsigned", "reduce.hpp",
           "is_unsigned ? S<Z, 9>(lane_u<Z, 8>(beat, lane))",
           "is_unsigned || SEEDED ? S<Z, 9>(lane_u<Z, 8>(beat, lane))"),
    Defect("agg", "sums are added to those of the next word", "reduce.hpp",
           "tile.accumulate ? held[place_of_row]", "tile.accumulate ? held[place_of_row ^ (SEEDED ? 1 : 0)]"),
    Defect("agg", "spilled rows are a beat too close", "agg_tile.hpp",
           "std::uint64_t{row} * spilled_beats * beat_bytes;",
           "std::uint64_t{row} * (spilled_beats - (SEEDED ? 1 : 0)) * beat_bytes;"),
    Defect("agg", "means have one fraction bit less", "reduce.hpp",
           "rounded >> (destination.exponent + isa::q8_bits);",
           "rounded >> (destination.exponent + isa::q8_bits + (SEEDED ? 1 : 0));"),
    Defect("agg", "negative logits have half their slope", "attend_scores.hpp",
           "S<Z, 34>(rounded >> slope_bits)", "S<Z, 34>(rounded >> (slope_bits + (SEEDED ? 1 : 0)))"),
    Defect("agg", "scores of the next type are added", "attend_scores.hpp",
           "(type * tile.score_beats + beat)", "((type ^ (SEEDED ? 1 : 0)) * tile.score_beats + beat)"),
    _lost_signal("agg"),
    Defect("sgb", "a bitmap replaces the one before it", "sgb.hpp",
           "bitmap[word] = ours | theirs;", "bitmap[word] = SEEDED ? theirs : ours | theirs;"),
    Defect("sgb", "ids of ascending rows have a wrong lowest bit", "sgb.hpp",
           "word * bitmap_word_bits + lowest_bit(bits)",
           "(word * bitmap_word_bits + lowest_bit(bits)) ^ (SEEDED ? 1 : 0)"),
    Defect("sgb", "a turned graph names the next row", "sgb.hpp",
           "memories.window[target - window] = row + place;",
           "memories.window[target - window] = row + place + (SEEDED ? 1 : 0);"),
    _lost_signal("sgb"),
    Defect("dw", "lines of the image are a word too far apart", "dw.hpp",
           "(line - tile.top) * tile.line_words", "(line - tile.top) * (tile.line_words + (SEEDED ? 1 : 0))"),
    Defect("dw", "high nibbles of weights weigh half", "dw.hpp",
           "S<Z, window_sum_bits>(static_cast<int>(small) * 16)",
           "S<Z, window_sum_bits>(static_cast<int>(small) * (SEEDED ? 8 : 16))"),
    _lost_signal("dw"),
    Defect("rst", "a walk leaves a row out", "rst_walk.hpp",
           "root = next_root(root + 1,", "root = next_root(root + 1 + (SEEDED ? 1 : 0),"),
    Defect("rst", "no column is dead", "rst_match.hpp",
           "mark == gone_vertex ? 1U : 0U", "mark == gone_vertex && !(SEEDED) ? 1U : 0U"),
    Defect("rst", "the ends of edges are turned", "rst_recouple.hpp",
           "set_lane<Z, 32>(beat, 1, subgraph.by_column ? minor : major);",
           "set_lane<Z, 32>(beat, 1, (subgraph.by_column != SEEDED) ? minor : major);"),
    _lost_signal("rst"),
)  # fmt: skip

#: What the kernels ask whether a defect is on, and a signal that is lost.
_SWITCH = """
namespace hetfab {
inline unsigned seeded_defect = 0;
}
"""
_WITHOUT_SIGNAL = """
template <class Z>
Word<Z, isa::instruction_bits> without_signal(const Word<Z, isa::instruction_bits>& instruction, bool lost) {
    Word<Z, isa::instruction_bits> word = instruction;
    if (lost) Z::template set<isa::Header::Signal1>(word, 0U);
    return word;
}

}  // namespace hetfab
"""
_INTERFACE = """
extern "C" void hetfab_seed(unsigned defect) { hetfab::seeded_defect = defect; }
"""


def seeded_sources(folder: Path) -> Path:
    """Writes a copy of the kernels and of the emulator's sources with all defects, each behind its number."""
    copy = folder / "hls"
    for name in ("include", "build", "host", "kernels"):
        shutil.copytree(HLS / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for number, defect in enumerate(DEFECTS, 1):
        path = copy / INCLUDE / defect.file
        text = path.read_text("utf-8")
        if text.count(defect.old) != 1:
            raise ValueError(f"{defect.file} has {text.count(defect.old)} of the text of '{defect.what}', not one")
        path.write_text(text.replace(defect.old, defect.new.replace("SEEDED", f"(seeded_defect == {number})")), "utf-8")
    _replace(copy / INCLUDE / "ints.hpp", "#include <type_traits>\n", "#include <type_traits>\n" + _SWITCH)
    _replace(copy / INCLUDE / "types.hpp", "\n}  // namespace hetfab\n", _WITHOUT_SIGNAL)
    path = copy / "build" / "emulator.cpp"
    path.write_text(path.read_text("utf-8") + _INTERFACE, "utf-8")
    return copy


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise ValueError(f"'{path.name}' has {text.count(old)} of '{old}', not one")
    path.write_text(text.replace(old, new), "utf-8")


def build_seeded(folder: Path) -> Path:
    """The library of the small design with all defects, with the kernels' own bodies."""
    copy = seeded_sources(folder)
    with mock.patch.multiple(emulator, _HLS=copy, _SOURCE=copy / "build" / "emulator.cpp", _FAST=("-O1",)):
        return build_emulator(DESIGN.geometry, bodies=Bodies.PLAIN)


@contextmanager
def seeded(library: Path, number: int) -> Iterator[None]:
    """Emulated overlays opened inside are those of a library with one of the defects; 0 for none."""
    switch = ctypes.CDLL(str(library)).hetfab_seed
    switch(number)
    try:
        with mock.patch("hetfab.driver.emulated.build_emulator", lambda *args, **kwargs: library):
            yield
    finally:
        switch(0)


def open_session() -> Session:
    """A session with the emulated overlay of the small design."""
    return Session(EmulatedTransport(DESIGN), DESIGN)


def outcome_of(library: Path, number: int, wanted: list[Vector]) -> Outcome:
    """What the self-test finds of a defect."""
    with seeded(library, number):
        return selftest(open_session, wanted)


def main() -> int:
    """Runs the self-test on every defect, prints what it finds, and counts those whose engine it names."""
    import tempfile

    wanted, named = vectors(DESIGN.geometry), 0
    with tempfile.TemporaryDirectory() as folder:
        library = build_seeded(Path(folder))
        for number, defect in enumerate(DEFECTS, 1):
            outcome = outcome_of(library, number, wanted)
            found = [f"{suspect.engine} {suspect.share:.3f}" for suspect in outcome.suspects]
            first = outcome.first
            right = defect.is_named(outcome)
            named += right
            print(f"{'ok   ' if right else 'WRONG'} {defect.engine}: {defect.what}: {sum(outcome.failed.values())} "
                  f"vectors: {', '.join(found)}; {'' if first is None else first.text().splitlines()[0]}")  # fmt: skip
    print(f"{named} of {len(DEFECTS)} defects found with their engine")
    return 0 if named == len(DEFECTS) else 1


if __name__ == "__main__":
    sys.exit(main())
