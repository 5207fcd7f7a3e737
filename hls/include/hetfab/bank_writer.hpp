// SPDX-License-Identifier: Apache-2.0
// Writers of the cores' activation RAMs, whose banks are RAMs of their own: a line that several strips need
// is written to all their banks at once.
#pragma once

#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// What the banks of a tile take: row after row a bank each, or the lines of an image, of which a bank needs
// `kernel_lines` from `line_stride` lines behind the first one of the bank before.
struct BankShape {
    bool rows;
    unsigned first_bank;
    unsigned banks;
    unsigned line_stride;
    unsigned kernel_lines;
};

// The banks that take the current line: always neighbours.
struct BankRange {
    unsigned begin;
    unsigned end;

    bool has(unsigned bank) const { return begin <= bank && bank < end; }
};

template <unsigned Banks>
class BankWindow {
  public:
    explicit BankWindow(const BankShape& shape)
        : shape_(shape),
          range_{shape.first_bank, shape.first_bank + 1},
          until_opening_(shape.line_stride),
          until_closing_(shape.kernel_lines) {}

    const BankRange& range() const { return range_; }

    void next_line() {
#pragma HLS INLINE
        if (shape_.rows) {
            range_.begin = range_.end == Banks ? 0 : range_.end;
            range_.end = range_.begin + 1;
            return;
        }
        until_opening_--;
        if (until_opening_ == 0) {
            until_opening_ = shape_.line_stride;
            if (range_.end != shape_.first_bank + shape_.banks) range_.end++;
        }
        until_closing_--;
        if (until_closing_ == 0) {
            until_closing_ = shape_.line_stride;
            range_.begin++;
        }
    }

  private:
    BankShape shape_;
    BankRange range_;
    unsigned until_opening_;
    unsigned until_closing_;
};

// Writes words to banks, each of which has a counter of its own: of the lines that a bank takes, each is at
// another place than in the bank before.
template <class Z, unsigned Banks, int Bits>
class BankWriter {
  public:
    explicit BankWriter(unsigned first) {
#pragma HLS ARRAY_PARTITION variable=next_ type=complete dim=0
    first_words:
        for (unsigned bank = 0; bank < Banks; bank++) {
#pragma HLS UNROLL factor=Banks
            next_[bank] = first;
        }
    }

    template <class ActRam>
    void write(const Word<Z, Bits>& word, const BankRange& range, ActRam act_ram) {
#pragma HLS INLINE
    written_banks:
        for (unsigned bank = 0; bank < Banks; bank++) {
#pragma HLS UNROLL factor=Banks
            if (range.has(bank)) {
                act_ram[bank][next_[bank]] = word;
                next_[bank]++;
            }
        }
    }

  private:
    unsigned next_[Banks];
};

// The nibbles of a beat of bytes: all high halves, or all low halves, as 32 bits.
template <class Z>
U<Z, 32> nibbles_of(const Word<Z, 64>& beat, bool high) {
#pragma HLS INLINE
    U<Z, 32> nibbles = 0;
nibble_bytes:
    for (unsigned channel = 0; channel < 8; channel++) {
#pragma HLS UNROLL factor=8
        const auto byte = static_cast<std::uint32_t>(lane_u<Z, 8>(beat, channel));
        nibbles =
            U<Z, 32>(static_cast<std::uint32_t>(nibbles) | ((high ? byte >> 4 : byte & 15) << (4 * channel)));
    }
    return nibbles;
}

// GEMM-L's copy of a tile, beat by beat. A word holds 32 channels: two beats of packed ones as they are, or
// the high halves of four beats of bytes, whose low halves are written a trip later, since a bank has one
// port.
template <class Z, unsigned Banks>
class SliceWriter {
  public:
    SliceWriter(unsigned first, bool packed) : writer_(first), packed_(packed) {}

    // Writes at most one word, in one place of the code, so that a tool sees one access to the banks' ports:
    // the low halves wait for the next trip, which completes no word.
    template <class ActRam>
    void write(const Word<Z, 64>& beat, const BankRange& range, ActRam act_ram) {
#pragma HLS INLINE
        const bool waiting = pending_;
        const Word<Z, 128> low = low_;
        const BankRange banks = waiting ? pending_range_ : range;
        pending_ = false;
        const bool complete = take(beat, range);
        if (waiting || complete) writer_.write(waiting ? low : high_, banks, act_ram);
    }

    // Writes the low halves that wait for the port.
    template <class ActRam>
    void flush(ActRam act_ram) {
#pragma HLS INLINE
        if (pending_) writer_.write(low_, pending_range_, act_ram);
        pending_ = false;
    }

  private:
    // True with the last beat of a word.
    bool take(const Word<Z, 64>& beat, const BankRange& range) {
#pragma HLS INLINE
        if (packed_) {
            Z::set_beat(high_, beat_, beat);
            beat_ = 1 - beat_;
            return beat_ == 0;
        }
        set_lane<Z, 32>(high_, beat_, nibbles_of<Z>(beat, true));
        set_lane<Z, 32>(low_, beat_, nibbles_of<Z>(beat, false));
        beat_ = (beat_ + 1) % 4;
        if (beat_ != 0) return false;
        pending_ = true;
        pending_range_ = range;
        return true;
    }

    BankWriter<Z, Banks, 128> writer_;
    Word<Z, 128> high_ = zero<Z, 128>();
    Word<Z, 128> low_ = zero<Z, 128>();
    bool packed_;
    unsigned beat_ = 0;
    bool pending_ = false;
    BankRange pending_range_ = {0, 0};
};

}  // namespace hetfab
