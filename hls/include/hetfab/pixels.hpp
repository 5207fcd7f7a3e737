// SPDX-License-Identifier: Apache-2.0
// Stored tensors on chip as VEC reads and writes them: where the pixels of a tile lie, and what their words
// hold.
#pragma once

#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// The fields of VEC's context; a window of one tap where an instruction has none.
template <class Z>
struct VecContext {
    unsigned banks = 1;
    unsigned res_line_words = 0;
    unsigned res_pixel_words = 0;
    unsigned exp_line_words = 0;
    unsigned exp_pixel_words = 0;
    bool packed = false;
    bool is_signed = false;
    unsigned lines = 1;
    unsigned columns = 1;
    unsigned line_words = 0;
    unsigned column_words = 0;
    U<Z, 17> reciprocal = 0;
    U<Z, 6> shift = 0;
};

// A field of a configure instruction in the word of the context: bits 32 to 95 of the instruction.
template <class Field>
using Kept = isa::Field<Field::lsb - 32, Field::bits>;

template <class Z>
Word<Z, 64> kept_word(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    Word<Z, 64> word = zero<Z, 64>();
    set_lane<Z, 32>(word, 0, lane_u<Z, 32>(instruction, 1));
    set_lane<Z, 32>(word, 1, lane_u<Z, 32>(instruction, 2));
    return word;
}

// Reads the context: its first word, and with a window the second.
template <class Z, class ContextRam, class Events>
VecContext<Z> vec_context(ContextRam vec_context, bool with_window, Events& events) {
#pragma HLS INLINE
    using Pixels = isa::ConfigurePixels;
    using Window = isa::ConfigurePool;
    Word<Z, 64> word[isa::vec_words];
#pragma HLS ARRAY_PARTITION variable=word type=complete dim=0
    const unsigned words = with_window ? isa::vec_words : 1;
vec_words:
    for (unsigned position = 0; position < words; position++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=2
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::vec_context);
        word[position] = vec_context[position];
    }
    events.loop(isa::loops::vec_context, words);
    VecContext<Z> context;
    context.banks = number<Z, Kept<Pixels::Banks>>(word[0]) + 1;
    context.res_line_words = number<Z, Kept<Pixels::ResLineWords>>(word[0]);
    context.res_pixel_words = number<Z, Kept<Pixels::ResPixelWords>>(word[0]);
    context.exp_line_words = number<Z, Kept<Pixels::ExpLineWords>>(word[0]);
    context.exp_pixel_words = number<Z, Kept<Pixels::ExpPixelWords>>(word[0]);
    context.packed = flag<Z, Kept<Pixels::Packed>>(word[0]);
    context.is_signed = flag<Z, Kept<Pixels::Signed>>(word[0]);
    if (with_window) {
        context.lines = number<Z, Kept<Window::Lines>>(word[1]);
        context.columns = number<Z, Kept<Window::Columns>>(word[1]);
        context.line_words = number<Z, Kept<Window::LineWords>>(word[1]);
        context.column_words = number<Z, Kept<Window::ColumnWords>>(word[1]);
        context.reciprocal = get<Z, Kept<Window::Reciprocal>>(word[1]);
        context.shift = U<Z, 6>(number<Z, Kept<Window::Exponent>>(word[1]) + isa::q8_bits);
    }
    return context;
}

// The first word of a row's pixel: rows are pixels of all banks at one column, then of the next.
class PixelPlace {
  public:
    PixelPlace(unsigned first, unsigned banks, unsigned line_words, unsigned pixel_words)
        : word_(first), column_(first), banks_(banks), line_words_(line_words), pixel_words_(pixel_words) {}

    unsigned word() const { return word_; }

    void next() {
        bank_++;
        word_ += line_words_;
        if (bank_ != banks_) return;
        bank_ = 0;
        column_ += pixel_words_;
        word_ = column_;
    }

  private:
    unsigned word_;
    unsigned column_;
    unsigned banks_;
    unsigned line_words_;
    unsigned pixel_words_;
    unsigned bank_ = 0;
};

// The walk over a window's taps, line by line.
class TapPlace {
  public:
    template <class Z>
    explicit TapPlace(const VecContext<Z>& context)
        : lines_(context.lines),
          columns_(context.columns),
          line_words_(context.line_words),
          column_words_(context.column_words) {}

    unsigned offset() const { return offset_; }
    bool first() const { return line_ == 0 && column_ == 0; }
    bool last() const { return line_ == lines_ - 1 && column_ == columns_ - 1; }

    void next() {
        if (last()) {
            line_ = column_ = offset_ = first_ = 0;
            return;
        }
        column_++;
        offset_ += column_words_;
        if (column_ != columns_) return;
        column_ = 0;
        line_++;
        first_ += line_words_;
        offset_ = first_;
    }

  private:
    unsigned lines_;
    unsigned columns_;
    unsigned line_words_;
    unsigned column_words_;
    unsigned line_ = 0;
    unsigned column_ = 0;
    unsigned offset_ = 0;
    unsigned first_ = 0;
};

// A channel of a word: a nibble of it when packed, else a byte.
template <class Z>
S<Z, 9> stored_channel(const Word<Z, 64>& word, unsigned channel, bool packed, bool is_signed) {
#pragma HLS INLINE
    const int top = packed ? 8 : 128;
    const int bits = packed ? static_cast<int>(slice_of<Z, 4>(word, channel))
                            : static_cast<int>(lane_u<Z, 8>(word, channel % 8));
    return S<Z, 9>(is_signed ? (bits ^ top) - top : bits);
}

// The channels of a group: a whole word of bytes, or half a word of nibbles.
template <class D, class Z>
void stored_group(const Word<Z, 64>& word, unsigned half, const VecContext<Z>& context,
                  S<Z, 9> (&channels)[D::lanes]) {
#pragma HLS INLINE
stored_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const unsigned place = context.packed ? half * D::lanes + lane : lane;
        channels[lane] = stored_channel<Z>(word, place, context.packed, context.is_signed);
    }
}

// The larger one of each channel of two words.
template <class Z>
Word<Z, 64> larger(const Word<Z, 64>& a, const Word<Z, 64>& b, bool packed, bool is_signed) {
#pragma HLS INLINE
    Word<Z, 64> word = zero<Z, 64>();
larger_bytes:
    for (unsigned byte = 0; byte < 8; byte++) {
#pragma HLS UNROLL factor=8
        // Nibbles are compared each on its own; of a byte the high one is signed and the low one decides
        // ties.
        const int flip = is_signed ? (packed ? 0x88 : 0x80) : 0;
        const int one = static_cast<int>(lane_u<Z, 8>(a, byte)) ^ flip;
        const int other = static_cast<int>(lane_u<Z, 8>(b, byte)) ^ flip;
        const int high = (one >> 4) > (other >> 4) ? one & 0xf0 : other & 0xf0;
        const int low = (one & 15) > (other & 15) ? one & 15 : other & 15;
        const int found = packed ? high | low : one > other ? one : other;
        set_lane<Z, 8>(word, byte, wrap<Z, 8>(found ^ flip));
    }
    return word;
}

}  // namespace hetfab
