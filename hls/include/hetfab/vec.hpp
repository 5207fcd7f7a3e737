// SPDX-License-Identifier: Apache-2.0
// VEC: bias, requantization, addition of aggregates or stored tensors, limits, functions, pooling, and the
// export of 32-bit results. Every result takes the same way: a product, rounded to 24 bits, a sum, rounded to
// a byte, or to 16 bits that are stored, looked up or normalized.
#pragma once

#include <type_traits>

#include "events.hpp"
#include "normalize.hpp"
#include "pixels.hpp"
#include "rounding.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Of the four 16-bit halves of a parameter, which one is the multiplier.
constexpr unsigned par_multiplier_half = isa::ParameterRecord::Multiplier::lsb / 16;
static_assert(isa::ParameterRecord::bytes == 8 && isa::ParameterRecord::Bias::lsb == 0,
              "a parameter is 64 bits and begins with its bias");

// Of the sum of a window: 255 x 255 taps of bytes.
constexpr int window_bits = 25;
// Bits of a result before it is limited to a byte.
constexpr int result_bits = 9;

// A design with functions, or one that normalizes, has results of 16 bits.
template <class D>
constexpr bool has_wide_results = D::fun_words + D::norm_words != 0;
// Bits of a result before it is limited.
template <class D>
constexpr int vec_bits = has_wide_results<D> ? 17 : result_bits;
// A result that is limited; its ends may be those of the range.
template <class D, class Z>
using Limited = S<Z, vec_bits<D> + 1>;

template <class D>
constexpr isa::Loop vec_loop = has_wide_results<D> ? isa::loops::vec_functions : isa::loops::vec_groups;

// A design without AGG has no sums that join accumulators, and no adder for them.
template <class D>
constexpr bool joins_sums = (D::engine_mask >> isa::Reduce::engine & 1U) != 0;

// What is added to a group's first term: aggregates, or a stored tensor. Joined sums are part of that term:
// the accumulators take them before their bias.
enum class Addend { none, sums, stored, joined };

// The fields of VEC's operations; those that an operation lacks are zero.
template <class Z>
struct VecTile {
    unsigned acc;
    unsigned sum;
    unsigned sum_groups;
    unsigned out;
    unsigned par;
    unsigned rows;
    unsigned groups;
    unsigned row_blocks;
    unsigned row_words;
    int highest;
    bool from_l;
    bool from_sum;
    bool with_acc;
    Addend addend;
    bool averages;
    bool pools_largest;
    bool exports_acc;
    bool wide_result;
    bool packed;
    bool halves;
    bool mapped;
    bool normalizes;
    unsigned table;
    unsigned width;
    bool is_signed;
    bool to_exp;
    U<Z, 6> shift;
    U<Z, 6> post_shift;

    bool adds_sums() const { return addend == Addend::sums || addend == Addend::joined; }
    bool reads_stored() const { return addend == Addend::stored || averages || pools_largest; }
    // Of an argument, the bits that choose an entry of a table.
    unsigned index_mask() const { return (1U << width) - 1; }
    // Trips that a group takes: of int32 a quarter each, of 16 bits or entries of a table half.
    unsigned parts() const { return wide_result ? 4 : halves || mapped ? 2 : 1; }
    unsigned row_trips() const { return normalizes ? groups : packed || mapped ? 2 * row_words : row_words; }
    // Words that the results of a row take; of 16 bits, the last half group may be left out.
    unsigned result_words() const {
        return wide_result             ? 4 * groups
               : packed                ? (groups + 1) / 2
               : halves && groups != 0 ? 2 * groups - 1
                                       : groups;
    }
    // From an output row to the next.
    unsigned out_words() const {
        return row_blocks == 0 ? row_words : row_blocks * (isa::block_bytes / isa::beat_bytes);
    }
};

// A design that has res_ram or exp_ram knows pixels.
template <class D>
constexpr bool has_pixels = D::res_words + D::exp_words != 0;

// Whether an operation's results are of 16 bits, or entries of a table.
inline bool is_function(int opcode) {
#pragma HLS INLINE
    return opcode == isa::RequantizeFunction::opcode || opcode == isa::CombineFunction::opcode ||
           opcode == isa::RequantizeJoinedFunction::opcode;
}

// Whether an operation's accumulators take sums before their bias.
inline bool is_joined(int opcode) {
#pragma HLS INLINE
    return opcode == isa::RequantizeJoined::opcode || opcode == isa::RequantizeJoinedFunction::opcode;
}

template <class Z>
VecTile<Z> vec_tile(const Word<Z, isa::instruction_bits>& instruction, int opcode) {
#pragma HLS INLINE
    using Op = isa::Combine;
    using Join = isa::Join;
    static_assert(std::is_same_v<isa::Requantize::Acc, Op::Acc> &&
                      std::is_same_v<isa::Requantize::Out, Op::Out> &&
                      std::is_same_v<isa::Requantize::Highest, Op::Highest> &&
                      std::is_same_v<isa::Requantize::Signed, Op::Signed> &&
                      std::is_same_v<isa::Requantize::Packed, Op::Packed> &&
                      std::is_same_v<isa::Requantize::Shift, Op::Shift> &&
                      std::is_same_v<isa::Requantize::ToExp, Join::ToExp> &&
                      std::is_same_v<isa::ExportSums::SumGroups, Op::SumGroups> &&
                      std::is_same_v<isa::ExportSums::WithAcc, Op::WithAcc> &&
                      std::is_same_v<isa::ExportAccumulators::Core, Op::Core> &&
                      std::is_same_v<isa::ExportAccumulators::FromSum, isa::Requantize::FromSum> &&
                      std::is_same_v<isa::ExportAccumulators::RowWords, Op::RowWords> &&
                      std::is_same_v<Join::Res, Op::Sum> && std::is_same_v<Join::PostShift, Op::PostShift> &&
                      std::is_same_v<isa::PoolMax::Res, Join::Res> &&
                      std::is_same_v<isa::PoolMax::ToExp, Join::ToExp> &&
                      std::is_same_v<isa::PoolAverage::Res, Join::Res> &&
                      std::is_same_v<isa::PoolAverage::Wide, Join::Wide> &&
                      std::is_same_v<isa::PoolAverage::PostShift, Op::PostShift> &&
                      std::is_same_v<isa::RequantizeFunction::FromSum, isa::Requantize::FromSum> &&
                      std::is_same_v<isa::CombineFunction::WithAcc, Op::WithAcc> &&
                      std::is_same_v<isa::CombineFunction::PostShift, Op::PostShift> &&
                      std::is_same_v<isa::RequantizeFunction::Width, isa::CombineFunction::Width> &&
                      std::is_same_v<isa::Normalize::FromSum, isa::Requantize::FromSum> &&
                      std::is_same_v<isa::RequantizeJoined::Sum, Op::Sum> &&
                      std::is_same_v<isa::RequantizeJoined::SumGroups, Op::SumGroups> &&
                      std::is_same_v<isa::RequantizeJoinedFunction::Width, isa::CombineFunction::Width> &&
                      std::is_same_v<isa::Normalize::Shift, Op::Shift>,
                  "VEC's operations share the places of their fields");
    const bool function = is_function(opcode);
    const bool joined = is_joined(opcode);
    const bool sums = opcode == isa::Combine::opcode || opcode == isa::ExportSums::opcode ||
                      opcode == isa::CombineFunction::opcode;
    const bool joins = opcode == Join::opcode;
    const bool averages = opcode == isa::PoolAverage::opcode;
    const bool pools = averages || opcode == isa::PoolMax::opcode;
    const bool exports_acc = opcode == isa::ExportAccumulators::opcode;
    const bool wide = exports_acc || opcode == isa::ExportSums::opcode ||
                      ((joins || averages) && flag<Z, Join::Wide>(instruction));
    const bool normalizes = opcode == isa::Normalize::opcode;
    const bool of_source =
        normalizes || opcode == isa::Requantize::opcode || opcode == isa::RequantizeFunction::opcode;
    const bool is_signed = normalizes || flag<Z, Op::Signed>(instruction);
    const unsigned bits = normalizes ? 16 : number<Z, isa::CombineFunction::Width>(instruction) + 1;
    const unsigned mask = (1U << bits) - 1;
    const bool mapped = function && flag<Z, isa::CombineFunction::Mapped>(instruction);
    return {number<Z, Op::Acc>(instruction), number<Z, Op::Sum>(instruction),
            number<Z, Op::SumGroups>(instruction) + 1, number<Z, Op::Out>(instruction),
            number<Z, Op::Par>(instruction), number<Z, Op::Rows>(instruction),
            number<Z, Op::Groups>(instruction), number<Z, Op::RowBlocks>(instruction),
            number<Z, Op::RowWords>(instruction),
            static_cast<int>(function || normalizes ? (is_signed ? mask >> 1 : mask)
                                                    : number<Z, Op::Highest>(instruction)),
            flag<Z, Op::Core>(instruction),
            (of_source || exports_acc) && flag<Z, isa::Requantize::FromSum>(instruction),
            !pools && (!sums || flag<Z, Op::WithAcc>(instruction)),
            sums     ? Addend::sums
            : joins  ? Addend::stored
            : joined ? Addend::joined
                     : Addend::none,
            averages, opcode == isa::PoolMax::opcode, exports_acc, wide,
            !wide && !function && !normalizes && opcode != isa::PoolMax::opcode &&
                flag<Z, Op::Packed>(instruction),
            function && !mapped, mapped, normalizes,
            isa::fun_unit * number<Z, isa::CombineFunction::Table>(instruction), bits, is_signed,
            (opcode == isa::Requantize::opcode || joins || pools) && flag<Z, Join::ToExp>(instruction),
            get<Z, Op::Shift>(instruction),
            // A requantization adds nothing to its product, which is shifted back.
            of_source || joined ? U<Z, 6>(isa::post_left) : get<Z, Op::PostShift>(instruction)};
}

// A group of lanes channels of a word of Cols accumulators.
template <class D, class Z, int Cols>
void acc_group(const Word<Z, 32 * Cols>& word, unsigned part, S<Z, 32> (&value)[D::lanes]) {
#pragma HLS INLINE
acc_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        value[lane] = lane_s<Z, 32>(word, part * D::lanes + lane);
    }
}

// The walk over a core's accumulators: groups of lanes channels, whole words to a row.
template <unsigned Parts>
struct AccPlace {
    unsigned word;
    unsigned part = 0;

    void next_group() {
        part++;
        if (part != Parts) return;
        part = 0;
        word++;
    }
    // A row's last word may not be full.
    void next_row() {
        if (part != 0) word++;
        part = 0;
    }
};

// Where a trip is: in a row which word or half word, which group, which part of its results; and
// the row's words in each memory.
template <class D, class Z>
struct VecWalk {
    unsigned position = 0;
    unsigned group = 0;
    unsigned part = 0;
    AccPlace<D::gemm_d_cols / D::lanes> acc_d;
    AccPlace<D::gemm_l_cols / D::lanes> acc_l;
    AccPlace<1> acc_sum;
    PixelPlace stored_row;
    PixelPlace exp_row;
    unsigned sum_row;
    unsigned out_row;

    VecWalk(const VecTile<Z>& tile, const VecContext<Z>& context)
        : acc_d{tile.acc},
          acc_l{tile.acc},
          acc_sum{tile.acc},
          stored_row(tile.sum, context.banks, context.res_line_words, context.res_pixel_words),
          exp_row(tile.out, context.banks, context.exp_line_words, context.exp_pixel_words),
          sum_row(tile.sum),
          out_row(tile.out) {}

    // Pooled words are not groups: all of them have results.
    bool inside(const VecTile<Z>& tile) const { return tile.pools_largest || group < tile.groups; }

    void next(const VecTile<Z>& tile) {
        const bool counts = inside(tile);
        part = part + 1 < tile.parts() ? part + 1 : 0;
        position++;
        const bool ends_row = position == tile.row_trips();
        if ((part == 0 || ends_row) && counts) {
            group++;
            acc_d.next_group();
            acc_l.next_group();
            acc_sum.next_group();
        }
        if (ends_row) next_row(tile);
    }

  private:
    void next_row(const VecTile<Z>& tile) {
        position = group = part = 0;
        acc_d.next_row();
        acc_l.next_row();
        stored_row.next();
        exp_row.next();
        sum_row += tile.sum_groups;
        out_row += tile.out_words();
    }
};

// What all lanes of an instruction have in common.
template <class D, class Z>
struct VecRounding {
    Distance<Z, isa::term_bits> first;
    Distance<Z, vec_bits<D>> second;

    VecRounding(const VecTile<Z>& tile, const VecContext<Z>& context)
        : first(tile.averages ? context.shift : tile.shift), second(tile.post_shift) {
#pragma HLS INLINE
    }
};

// What a group adds up: accumulators with their parameters, or the sums of a window, and what is added to
// them.
template <class D, class Z>
struct VecOperands {
    S<Z, 32> acc[D::lanes];
    Word<Z, 64 * D::lanes> par;
    S<Z, 32> addend[D::lanes];
};

// The sums of one group in Q.8, or its accumulators with their bias.
template <class D, class Z>
void vec_group(const VecTile<Z>& tile, const VecContext<Z>& context, const VecRounding<D, Z>& rounding,
               const VecOperands<D, Z>& operands, S<Z, 32> (&value)[D::lanes]) {
#pragma HLS INLINE
group_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 32> biased = biased_sum<Z>(operands.acc[lane], lane_s<Z, 32>(operands.par, 2 * lane));
        const U<Z, 16> multiplier = lane_u<Z, 16>(operands.par, 4 * lane + par_multiplier_half);
        const U<Z, 17> factor = tile.averages ? context.reciprocal : U<Z, 17>(multiplier);
        const S<Z, 50> scaled = scaled_sum<Z>(biased, factor);
        const S<Z, isa::term_bits> term = shifted<Z, isa::term_bits>(scaled, rounding.first, tile.averages);
        const S<Z, 32> total = wrap<Z, 32>(sum<Z, 33>(operands.addend[lane], term));
        value[lane] = tile.exports_acc ? biased : total;
    }
}

// The results of a group, rounded and limited.
template <class D, class Z>
void vec_limited(const VecTile<Z>& tile, const VecRounding<D, Z>& rounding, const S<Z, 32> (&value)[D::lanes],
                 Limited<D, Z> (&limited)[D::lanes]) {
#pragma HLS INLINE
    const Limited<D, Z> largest = Limited<D, Z>(tile.highest);
    const Limited<D, Z> smallest = Limited<D, Z>(tile.is_signed ? -tile.highest - 1 : 0);
limited_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 48> left = S<Z, 48>(value[lane]) << isa::post_left;
        const Limited<D, Z> rounded = shifted<Z, vec_bits<D>>(left, rounding.second);
        limited[lane] = rounded < smallest ? smallest : rounded > largest ? largest : rounded;
    }
}

// The results as bytes.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_bytes(const Limited<D, Z> (&limited)[D::lanes]) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
byte_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        set_lane<Z, 8>(word, lane, wrap<Z, 8>(limited[lane]));
    }
    return word;
}

// Half of the results as little-endian int16: the lanes that one output word holds.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_halves(const Limited<D, Z> (&limited)[D::lanes], unsigned part) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
half_lanes:
    for (unsigned lane = 0; lane < D::lanes / 2; lane++) {
#pragma HLS UNROLL factor=D::lanes/2
        set_lane<Z, 16>(word, lane, wrap<Z, 16>(limited[part * (D::lanes / 2) + lane]));
    }
    return word;
}

// The entries of a table at half of the results; each lane reads a bank of its own.
template <class D, class Z, class FunRam>
Word<Z, 32> vec_entries(const VecTile<Z>& tile, bool reads, const Limited<D, Z> (&limited)[D::lanes],
                        unsigned part, FunRam fun_ram) {
#pragma HLS INLINE
    static_assert(D::lanes / 2 == fun_banks, "a bank for each entry that is read at once");
    std::uint32_t entries = 0;
entry_lanes:
    for (unsigned lane = 0; lane < D::lanes / 2; lane++) {
#pragma HLS UNROLL factor=D::lanes/2
        const auto place = static_cast<int>(limited[part * (D::lanes / 2) + lane]);
        const unsigned index = static_cast<unsigned>(place) & tile.index_mask();
        Word<Z, 64> word = zero<Z, 64>();
        if (reads) word = fun_ram[lane][tile.table + index / 8];
        entries |= static_cast<std::uint32_t>(lane_u<Z, 8>(word, index % 8)) << (8 * lane);
    }
    Word<Z, 32> half = zero<Z, 32>();
    set_lane<Z, 32>(half, 0, U<Z, 32>(entries));
    return half;
}

// The low nibbles of a group's bytes, as 32 bits.
template <class D, class Z>
Word<Z, 32> vec_nibbles(const Word<Z, 8 * D::lanes>& bytes) {
#pragma HLS INLINE
    std::uint32_t nibbles = 0;
nibble_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        nibbles |= (static_cast<std::uint32_t>(lane_u<Z, 8>(bytes, lane)) & 15) << (4 * lane);
    }
    Word<Z, 32> half = zero<Z, 32>();
    set_lane<Z, 32>(half, 0, U<Z, 32>(nibbles));
    return half;
}

// A quarter of the group as little-endian int32: the lanes that one output word holds.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_quarter(const S<Z, 32> (&value)[D::lanes], unsigned quarter) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
quarter_lanes:
    for (unsigned lane = 0; lane < D::lanes / 4; lane++) {
#pragma HLS UNROLL factor=D::lanes/4
        set_lane<Z, 32>(word, lane, value[quarter * (D::lanes / 4) + lane]);
    }
    return word;
}

// Half of an output word, as its bank holds it.
template <class D, class Z>
Word<Z, 32> vec_half(const Word<Z, 8 * D::lanes>& word, unsigned half) {
#pragma HLS INLINE
    Word<Z, 32> found = zero<Z, 32>();
    set_lane<Z, 32>(found, 0, lane_u<Z, 32>(word, half));
    return found;
}

// What a trip makes: a word, or half a word of packed results.
template <class Z>
struct VecResult {
    Word<Z, 32> low;
    Word<Z, 32> high;
    bool writes_low;
    bool writes_high;
};

// What a trip writes: the largest word of a window, a group's quarter, its bytes or its nibbles, half of its
// 16-bit results or of their entries.
template <class D, class Z, class FunRam>
VecResult<Z> vec_result(const VecTile<Z>& tile, bool inside, const VecWalk<D, Z>& walk,
                        const S<Z, 32> (&value)[D::lanes], const Limited<D, Z> (&limited)[D::lanes],
                        const Word<Z, 64>& largest, FunRam fun_ram) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
    Word<Z, 32> half = zero<Z, 32>();
    if (tile.pools_largest) {
        word = largest;
    } else if (inside) {
        word = tile.wide_result ? vec_quarter<D, Z>(value, walk.part) : vec_bytes<D, Z>(limited);
    }
    if (tile.packed) half = vec_nibbles<D, Z>(word);
    if constexpr (D::fun_words != 0) {
        if (tile.halves && inside) word = vec_halves<D, Z>(limited, walk.part);
        if (tile.mapped) {
            half = vec_entries<D, Z>(tile, inside, limited, walk.part, fun_ram);
        }
    }
    const bool by_halves = tile.packed || tile.mapped;
    const bool odd = walk.position % 2 == 1;
    return {by_halves ? half : vec_half<D, Z>(word, 0), by_halves ? half : vec_half<D, Z>(word, 1),
            !by_halves || !odd, !by_halves || odd};
}

// Writes a word, or half of one, to its two banks.
template <class Ram, class Z>
void put_halves(Ram ram, unsigned place, const VecResult<Z>& result) {
#pragma HLS INLINE
    if (result.writes_low) ram[0][place] = result.low;
    if (result.writes_high) ram[1][place] = result.high;
}

// The accumulators of a group, or zeros.
template <class D, class Z, class AccDRam, class AccLRam>
void read_acc(const VecTile<Z>& tile, const VecWalk<D, Z>& walk, const Word<Z, 32 * D::lanes>& sums,
              AccDRam acc_d_ram, AccLRam acc_l_ram, S<Z, 32> (&acc)[D::lanes]) {
#pragma HLS INLINE
    const bool reads = tile.with_acc && walk.inside(tile);
    if (reads && tile.from_sum) {
        acc_group<D, Z, D::lanes>(sums, 0, acc);
    } else if (reads && tile.from_l) {
        acc_group<D, Z, D::gemm_l_cols>(acc_l_ram[walk.acc_l.word], walk.acc_l.part, acc);
    } else if (reads) {
        acc_group<D, Z, D::gemm_d_cols>(acc_d_ram[walk.acc_d.word], walk.acc_d.part, acc);
    } else {
        acc_group<D, Z, D::lanes>(zero<Z, 32 * D::lanes>(), 0, acc);
    }
}

// A word of sum_ram for either use, or zeros.
template <class D, class Z, class SumRam>
Word<Z, 32 * D::lanes> read_sums(const VecTile<Z>& tile, const VecWalk<D, Z>& walk, SumRam sum_ram) {
#pragma HLS INLINE
    const bool reads = walk.inside(tile) && (tile.adds_sums() || tile.from_sum);
    const unsigned place = tile.from_sum ? walk.acc_sum.word : walk.sum_row + walk.group;
    return reads ? sum_ram[place] : zero<Z, 32 * D::lanes>();
}

// A stored word of a pixel's tap, or zeros.
template <class D, class Z, class ResRam>
Word<Z, 64> read_stored(const VecTile<Z>& tile, const VecContext<Z>& context, const VecWalk<D, Z>& walk,
                        const TapPlace& tap, ResRam res_ram) {
#pragma HLS INLINE
    Word<Z, 64> word = zero<Z, 64>();
    if constexpr (D::res_words != 0) {
        const unsigned in_pixel = tile.pools_largest ? walk.position
                                  : context.packed   ? walk.group / 2
                                                     : walk.group;
        if (tile.reads_stored() && walk.inside(tile)) {
            word = res_ram[walk.stored_row.word() + tap.offset() + in_pixel];
        }
    }
    return word;
}

// Writes what a trip made to the row's place, in out_ram or in exp_ram.
template <class D, class Z, class OutRam, class ExpRam>
void put_result(const VecTile<Z>& tile, const VecWalk<D, Z>& walk, const VecResult<Z>& result, OutRam out_ram,
                ExpRam exp_ram) {
#pragma HLS INLINE
    const unsigned in_row = tile.packed || tile.mapped ? walk.position / 2 : walk.position;
    if (!tile.to_exp) put_halves(out_ram, walk.out_row + in_row, result);
    if constexpr (D::exp_words != 0) {
        if (tile.to_exp) put_halves(exp_ram, walk.exp_row.word() + in_row, result);
    }
}

// What joins a group's term: aggregates, stored integers in Q.8, or nothing.
template <class D, class Z>
void addends(const VecTile<Z>& tile, const Word<Z, 32 * D::lanes>& sums, const S<Z, 9> (&stored)[D::lanes],
             S<Z, 32> (&addend)[D::lanes]) {
#pragma HLS INLINE
addend_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 32> in_q8 = S<Z, 32>(stored[lane]) << isa::q8_bits;
        addend[lane] = tile.addend == Addend::stored ? in_q8
                       : tile.addend == Addend::sums ? lane_s<Z, 32>(sums, lane)
                                                     : S<Z, 32>(0);
    }
}

// What the accumulators take before their bias: joined sums, or the sums of a window, for which they are
// zero.
template <class D, class Z>
void add_early(const VecTile<Z>& tile, const Word<Z, 32 * D::lanes>& sums,
               const S<Z, window_bits> (&window)[D::lanes], S<Z, 32> (&acc)[D::lanes]) {
#pragma HLS INLINE
early_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        if constexpr (joins_sums<D>) {
            const S<Z, 32> early = tile.averages                   ? S<Z, 32>(window[lane])
                                   : tile.addend == Addend::joined ? lane_s<Z, 32>(sums, lane)
                                                                   : S<Z, 32>(0);
            acc[lane] = wrap<Z, 32>(sum<Z, 33>(acc[lane], early));
        } else if constexpr (D::res_words != 0) {
            if (tile.averages) acc[lane] = window[lane];
        }
    }
}

// Adds a tap to the sums of a window.
template <class D, class Z>
void add_tap(const S<Z, 9> (&stored)[D::lanes], bool first, S<Z, window_bits> (&sums)[D::lanes]) {
#pragma HLS INLINE
tap_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        sums[lane] = sum<Z, window_bits>(first ? S<Z, window_bits>(0) : sums[lane], stored[lane]);
    }
}

// A trip makes a word of bytes or of 16-bit results, half a word of nibbles or entries, a quarter of a
// group's int32, or a group that is kept to be normalized; pooling makes as many trips of it as a window has
// taps.
template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class FunRam, class SumRam,
          class ResRam, class OutRam, class ExpRam, class Events>
unsigned vec_rows(const VecTile<Z>& tile, const VecContext<Z>& context, AccDRam acc_d_ram, AccLRam acc_l_ram,
                  ParRam par_ram, FunRam fun_ram, SumRam sum_ram, ResRam res_ram, OutRam out_ram,
                  ExpRam exp_ram, NormRows<D, Z>& kept, Events& events) {
#pragma HLS INLINE
    const VecRounding<D, Z> rounding(tile, context);
    const unsigned trips = tile.rows * tile.row_trips() * context.lines * context.columns;
    VecWalk<D, Z> walk(tile, context);
    TapPlace tap(context);
    unsigned written = 0;
    S<Z, window_bits> window_sums[D::lanes] = {};
#pragma HLS ARRAY_PARTITION variable = window_sums type = complete dim = 0
    Word<Z, 64> largest = zero<Z, 64>();
vec_groups:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min = 64 max = 2048
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(vec_loop<D>);
        const bool inside = walk.inside(tile);
        const Word<Z, 32 * D::lanes> sums = read_sums<D, Z>(tile, walk, sum_ram);
        VecOperands<D, Z> operands;
#pragma HLS ARRAY_PARTITION variable = operands.acc type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = operands.addend type = complete dim = 0
        read_acc<D, Z>(tile, walk, sums, acc_d_ram, acc_l_ram, operands.acc);
        operands.par = inside && tile.with_acc ? par_ram[tile.par + walk.group] : zero<Z, 64 * D::lanes>();
        const Word<Z, 64> word = read_stored<D, Z>(tile, context, walk, tap, res_ram);
        S<Z, 9> stored[D::lanes];
#pragma HLS ARRAY_PARTITION variable = stored type = complete dim = 0
        stored_group<D, Z>(word, walk.group % 2, context, stored);
        addends<D, Z>(tile, sums, stored, operands.addend);
        if constexpr (D::res_words != 0) {
            add_tap<D, Z>(stored, tap.first(), window_sums);
            largest = tap.first() ? word : larger<Z>(largest, word, context.packed, context.is_signed);
        }
        add_early<D, Z>(tile, sums, window_sums, operands.acc);
        S<Z, 32> value[D::lanes];
#pragma HLS ARRAY_PARTITION variable = value type = complete dim = 0
        vec_group<D, Z>(tile, context, rounding, operands, value);
        Limited<D, Z> limited[D::lanes];
#pragma HLS ARRAY_PARTITION variable = limited type = complete dim = 0
        vec_limited<D, Z>(tile, rounding, value, limited);
        if constexpr (D::norm_words != 0) {
            if (tile.normalizes) keep_group<D, Z>(limited, kept);
        }
        const VecResult<Z> result = vec_result<D, Z>(tile, inside, walk, value, limited, largest, fun_ram);
        if (tap.last()) {
            if (!tile.normalizes) put_result<D, Z>(tile, walk, result, out_ram, exp_ram);
            if (result.writes_high) written++;
            walk.next(tile);
        }
        tap.next();
    }
    events.loop(vec_loop<D>, trips);
    return written;
}

// An instruction on rows of a tile, with the context where it needs one.
template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class FunRam, class SumRam,
          class ResRam, class OutRam, class ExpRam, class ContextRam, class Events>
unsigned vec_tile_rows(const VecTile<Z>& tile, AccDRam acc_d_ram, AccLRam acc_l_ram, ParRam par_ram,
                       FunRam fun_ram, SumRam sum_ram, ResRam res_ram, OutRam out_ram, ExpRam exp_ram,
                       ContextRam context_ram, NormRows<D, Z>& kept, Events& events) {
#pragma HLS INLINE
    VecContext<Z> context;
    if constexpr (has_pixels<D>) {
        const bool pools = tile.averages || tile.pools_largest;
        if (tile.to_exp || tile.reads_stored()) {
            context = vec_context<Z>(context_ram, pools, events);
        }
    }
    return vec_rows<D, Z>(tile, context, acc_d_ram, acc_l_ram, par_ram, fun_ram, sum_ram, res_ram, out_ram,
                          exp_ram, kept, events);
}

// Whether an opcode of the design makes rows of results.
template <class D>
bool makes_rows(int opcode) {
#pragma HLS INLINE
    const int last = has_pixels<D> ? isa::PoolAverage::opcode : isa::ExportAccumulators::opcode;
    const bool function = D::fun_words != 0 && is_function(opcode);
    const bool normalizes = D::norm_words != 0 && opcode == isa::Normalize::opcode;
    const bool plain =
        (opcode >= isa::Requantize::opcode && opcode <= last) || opcode == isa::RequantizeJoined::opcode;
    return (plain || function || normalizes) && (joins_sums<D> || !is_joined(opcode));
}

template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class FunRam, class SumRam,
          class ResRam, class OutRam, class ExpRam, class ContextRam, class Events>
Outcome vec_execute(const Word<Z, isa::instruction_bits>& instruction, AccDRam acc_d_ram, AccLRam acc_l_ram,
                    ParRam par_ram, FunRam fun_ram, SumRam sum_ram, ResRam res_ram, OutRam out_ram,
                    ExpRam exp_ram, ContextRam context_ram, Events& events) {
#pragma HLS INLINE off
    static_assert(D::lanes % 4 == 0, "an output word holds a quarter of a group's 32-bit results");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if constexpr (has_pixels<D>) {
        if (opcode == isa::ConfigurePixels::opcode || opcode == isa::ConfigurePool::opcode) {
            context_ram[opcode - isa::ConfigurePixels::opcode] = kept_word<Z>(instruction);
            return {true, 1};
        }
    }
    if (!makes_rows<D>(opcode)) return {opcode == isa::Sync::opcode, 0};
    const VecTile<Z> tile = vec_tile<Z>(instruction, opcode);
    NormRows<D, Z> kept;
#pragma HLS BIND_STORAGE variable = kept.channels type = ram_s2p impl = bram
    const unsigned written = vec_tile_rows<D, Z>(tile, acc_d_ram, acc_l_ram, par_ram, fun_ram, sum_ram,
                                                 res_ram, out_ram, exp_ram, context_ram, kept, events);
    if constexpr (D::norm_words != 0) {
        if (tile.normalizes) return {true, normalize_rows<D, Z>(instruction, par_ram, out_ram, kept, events)};
    }
    return {true, written};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class FunRam, class SumRam,
          class ResRam, class OutRam, class ExpRam, class ContextRam, class Events>
void vec_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, AccDRam acc_d_ram, AccLRam acc_l_ram,
              ParRam par_ram, FunRam fun_ram, SumRam sum_ram, ResRam res_ram, OutRam out_ram, ExpRam exp_ram,
              ContextRam context_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = vec_execute<D, Z>(instruction, acc_d_ram, acc_l_ram, par_ram, fun_ram, sum_ram,
                                              res_ram, out_ram, exp_ram, context_ram, events);
    HETFAB_FENCE(acc_d_ram, acc_l_ram, par_ram, fun_ram, sum_ram, res_ram, out_ram, exp_ram, context_ram,
                 tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
