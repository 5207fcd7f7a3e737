// SPDX-License-Identifier: Apache-2.0
// What LOAD broadcasts to activation tiles, beat by beat: rows, lines of an image with zeros around them, or
// windows cut from lines of samples at any byte.
#pragma once

#include "bursts.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Lines of beats, of which some are zeros and the others are read.
struct LineShape {
    unsigned lines;
    unsigned line_beats;
    unsigned top;
    unsigned read_lines;
    unsigned left;
    unsigned read_beats;
};

// Of each line, for each of `columns` output pixels `run_beats` beats from byte `offset` + pixel *
// `step_bytes` on.
struct WindowShape {
    unsigned columns;
    unsigned run_beats;
    unsigned step_bytes;
    unsigned offset;
};

// A beat for the banks, if there is one in this trip.
template <class Z>
struct LineBeat {
    Word<Z, 64> value;
    bool valid;
    bool ends_line;
};

// Lines as they are.
template <class Z>
class LineSource {
  public:
    explicit LineSource(const LineShape& shape) : shape_(shape) {}

    unsigned trips() const { return shape_.lines * shape_.line_beats; }

    // Whether this trip takes a beat that is read.
    bool reads() const {
#pragma HLS INLINE
        const bool in_lines = shape_.top <= line_ && line_ < shape_.top + shape_.read_lines;
        const bool in_line = shape_.left <= place_ && place_ < shape_.left + shape_.read_beats;
        return in_lines && in_line;
    }

    // A trip: the beat that was read, or zeros.
    LineBeat<Z> next(const Word<Z, 64>& value) {
#pragma HLS INLINE
        place_++;
        const bool ends_line = place_ == shape_.line_beats;
        if (ends_line) {
            place_ = 0;
            line_++;
        }
        return {value, true, ends_line};
    }

  private:
    LineShape shape_;
    unsigned line_ = 0;
    unsigned place_ = 0;
};

// The 8 bytes from byte `first` of two beats on.
template <class Z>
Word<Z, 64> bytes_across(const Word<Z, 64>& low, const Word<Z, 64>& high, unsigned first) {
#pragma HLS INLINE
    Word<Z, 64> bytes = zero<Z, 64>();
across_bytes:
    for (unsigned byte = 0; byte < 8; byte++) {
#pragma HLS UNROLL factor=8
        const unsigned place = first + byte;
        set_lane<Z, 8>(bytes, byte, place < 8 ? lane_u<Z, 8>(low, place % 8) : lane_u<Z, 8>(high, place % 8));
    }
    return bytes;
}

// Windows of lines. While those of a line leave, the next line is read: two lines of at most `Beats` beats,
// each in two memories, since a window's bytes are in two neighbouring beats.
template <class Z, unsigned Beats>
class WindowSource {
  public:
    WindowSource(const LineShape& shape, const WindowShape& windows)
        : shape_(shape), windows_(windows), start_(windows.offset), byte_(windows.offset) {
// Lines are short; a trip writes one word of a memory and reads one.
#pragma HLS BIND_STORAGE variable=even_ type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=odd_ type=ram_s2p impl=lutram
    }

    unsigned trips() const {
        const unsigned longest =
            shape_.line_beats < shape_.read_beats ? shape_.read_beats : shape_.line_beats;
        return shape_.read_beats + (shape_.lines - 1) * longest + shape_.line_beats;
    }

    bool reads() const {
#pragma HLS INLINE
        return line_ != shape_.lines && place_ < shape_.read_beats;
    }

    LineBeat<Z> next(const Word<Z, 64>& read) {
#pragma HLS INLINE
        const bool leaves = line_ != 0 && place_ < shape_.line_beats;
        if (reads()) keep(read);
        Word<Z, 64> value = zero<Z, 64>();
        if (leaves) value = cut();
        place_++;
        const bool read_all = line_ == shape_.lines || place_ >= shape_.read_beats;
        const bool left_all = line_ == 0 || place_ >= shape_.line_beats;
        const bool ends_line = leaves && place_ == shape_.line_beats;
        if (read_all && left_all) next_line();
        return {value, leaves, ends_line};
    }

  private:
    static constexpr unsigned half = Beats / 2;

    void keep(const Word<Z, 64>& beat) {
#pragma HLS INLINE
        const unsigned word = (line_ % 2 == 0 ? 0 : half) + place_ / 2;
        if (place_ % 2 == 0) {
            even_[word] = beat;
        } else {
            odd_[word] = beat;
        }
    }

    // The next beat of the line before the one that is being read.
    Word<Z, 64> cut() {
#pragma HLS INLINE
        const unsigned first = line_ % 2 == 0 ? half : 0;
        const unsigned beat = byte_ / 8;
        // A window that begins with a beat does not need the next one, which may be beyond the line.
        const unsigned next = byte_ % 8 == 0 ? beat : beat + 1;
        const Word<Z, 64> even = even_[first + (beat % 2 == 0 ? beat : next) / 2];
        const Word<Z, 64> odd = odd_[first + (beat % 2 == 0 ? next : beat) / 2];
        const Word<Z, 64> bytes =
            beat % 2 == 0 ? bytes_across<Z>(even, odd, byte_ % 8) : bytes_across<Z>(odd, even, byte_ % 8);
        byte_ += 8;
        run_++;
        if (run_ == windows_.run_beats) {
            run_ = 0;
            start_ += windows_.step_bytes;
            byte_ = start_;
        }
        return bytes;
    }

    void next_line() {
#pragma HLS INLINE
        line_++;
        place_ = 0;
        start_ = windows_.offset;
        byte_ = windows_.offset;
    }

    LineShape shape_;
    WindowShape windows_;
    // A trip writes one half of them and reads the other.
    Word<Z, 64> even_[Beats];
    Word<Z, 64> odd_[Beats];
    unsigned line_ = 0;
    unsigned place_ = 0;
    unsigned start_;
    unsigned byte_;
    unsigned run_ = 0;
};

// A design without memories for windows.
template <class Z>
class WindowSource<Z, 0> {
  public:
    WindowSource(const LineShape&, const WindowShape&) {}
    unsigned trips() const { return 0; }
    bool reads() const { return false; }
    LineBeat<Z> next(const Word<Z, 64>& read) { return {read, false, false}; }
};

// Lines or windows, so that LOAD has one loop that writes the banks.
template <class Z, unsigned Beats>
class TileSource {
  public:
    TileSource(const LineShape& lines, const WindowShape& windows)
        : cuts_(Beats != 0 && windows.columns != 0), lines_(lines), windows_(lines, windows) {}

    unsigned trips() const { return cuts_ ? windows_.trips() : lines_.trips(); }
    bool reads() const { return cuts_ ? windows_.reads() : lines_.reads(); }
    LineBeat<Z> next(const Word<Z, 64>& read) { return cuts_ ? windows_.next(read) : lines_.next(read); }

  private:
    bool cuts_;
    LineSource<Z> lines_;
    WindowSource<Z, Beats> windows_;
};

}  // namespace hetfab
