// SPDX-License-Identifier: Apache-2.0
// What both GEMM cores share: the walk over the blocks of a tile and over the words of each, and the drain of
// a finished block's sums while the next block is summed.
#pragma once

#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// How the rows of a tile are cut into blocks of an array: all have `block_rows` rows, but the last one.
struct RowBlocks {
    unsigned count;
    unsigned block_rows;
    unsigned last_rows;
};

// Rows one after the other, as many a block as the array has.
template <unsigned ArrayRows>
RowBlocks blocks_of_rows(unsigned rows) {
#pragma HLS INLINE
    const unsigned count = (rows + ArrayRows - 1) / ArrayRows;
    return {count, ArrayRows, count == 0 ? 0 : rows - (count - 1) * ArrayRows};
}

// Which words of an activation RAM an output pixel takes: `run` words of each of `lines` lines. A row of a
// matmul is one line.
struct StripShape {
    unsigned act;
    unsigned lines;
    unsigned run;
    unsigned line_words;
    unsigned step_words;
};

// The words of the output pixels of a strip, one after the other. Words of a line are `slices` apart: slice
// by slice, in a slice line by line.
class StripWalk {
  public:
    StripWalk(const StripShape& shape, unsigned slices)
        : shape_(shape), slices_(slices), pixel_(shape.act), line_(shape.act), word_(shape.act) {}

    unsigned word() const { return word_; }

    // To the next word of the pixel; counters, since a product in the carried path would be slow.
    void next() {
#pragma HLS INLINE
        run_place_++;
        word_ += slices_;
        if (run_place_ != shape_.run) return;
        run_place_ = 0;
        line_place_++;
        line_ += shape_.line_words;
        if (line_place_ == shape_.lines) {
            line_place_ = 0;
            slice_++;
            line_ = pixel_ + slice_;
        }
        word_ = line_;
    }

    // To the next pixel, or to the first one for another group of columns.
    void next_pixel(bool first) {
#pragma HLS INLINE
        pixel_ = first ? shape_.act : pixel_ + shape_.step_words;
        line_ = pixel_;
        word_ = pixel_;
        run_place_ = 0;
        line_place_ = 0;
        slice_ = 0;
    }

  private:
    StripShape shape_;
    unsigned slices_;
    unsigned pixel_;
    unsigned line_;
    unsigned word_;
    unsigned run_place_ = 0;
    unsigned line_place_ = 0;
    unsigned slice_ = 0;
};

// The blocks of a tile: column group by column group, in a group block of rows by block of rows. A block
// takes as many trips as its steps, or as the drain of the block before it if that takes longer.
class BlockWalk {
  public:
    BlockWalk(const RowBlocks& blocks, unsigned col_groups, unsigned steps, bool accumulate)
        : blocks_(blocks),
          steps_(steps),
          drain_trips_(accumulate ? 2 * blocks.block_rows : blocks.block_rows),
          period_(steps < drain_trips_ ? drain_trips_ : steps),
          blocks_left_(blocks.count * col_groups),
          trips_(blocks_left_ == 0 ? 0 : blocks_left_ * period_ + drain_trips_) {}

    // All blocks, and the drain of the last one.
    unsigned trips() const { return trips_; }
    bool summing() const { return blocks_left_ != 0 && step_ < steps_; }
    unsigned step() const { return step_; }
    // The block is the first one of a group of columns.
    bool first_block() const { return block_ == 0; }
    unsigned col_group() const { return col_group_; }
    unsigned valid_rows() const {
        return block_ + 1 == blocks_.count ? blocks_.last_rows : blocks_.block_rows;
    }
    // This trip is the last one of a block.
    bool ends_block() const { return blocks_left_ != 0 && step_ + 1 == period_; }

    // Moves on by a trip; true when a new block begins.
    bool next() {
#pragma HLS INLINE
        if (!ends_block()) {
            step_++;
            return false;
        }
        step_ = 0;
        blocks_left_--;
        block_++;
        if (block_ != blocks_.count) return true;
        block_ = 0;
        col_group_++;
        return true;
    }

  private:
    RowBlocks blocks_;
    unsigned steps_;
    unsigned drain_trips_;
    unsigned period_;
    unsigned blocks_left_;
    unsigned trips_;
    unsigned step_ = 0;
    unsigned block_ = 0;
    unsigned col_group_ = 0;
};

// Holds the sums of a finished block and writes a row a trip; when they are added to what the RAM holds, a
// row takes two trips, a read and a write through the RAM's one port.
template <class Z, unsigned Rows, unsigned Cols>
class Drain {
  public:
    Drain(unsigned acc, unsigned col_groups, bool accumulate)
        : acc_(acc), col_groups_(col_groups), accumulate_(accumulate) {
// A block's sums move here in one cycle.
#pragma HLS ARRAY_PARTITION variable=held_ type=complete dim=0
    }

    // Words written so far.
    unsigned written() const { return written_; }

    // The sums of the block that a walk is at. Its rows follow those of the block before.
    void begin(const S<Z, 32> (&sums)[Rows][Cols], const BlockWalk& walk) {
#pragma HLS INLINE
    hold_rows:
        for (unsigned row = 0; row < Rows; row++) {
#pragma HLS UNROLL factor=Rows
        hold_cols:
            for (unsigned col = 0; col < Cols; col++) {
#pragma HLS UNROLL factor=Cols
                held_[row][col] = sums[row][col];
            }
        }
        row_ = 0;
        rows_left_ = walk.valid_rows();
        if (walk.first_block()) word_ = acc_ + walk.col_group();
        adding_ = false;
    }

    template <class AccRam>
    void step(AccRam acc_ram) {
#pragma HLS INLINE
        if (rows_left_ == 0) return;
        if (accumulate_ && !adding_) {
            before_ = acc_ram[word_];
            adding_ = true;
            return;
        }
        Word<Z, 32 * Cols> word = zero<Z, 32 * Cols>();
    drain_cols:
        for (unsigned col = 0; col < Cols; col++) {
#pragma HLS UNROLL factor=Cols
            const S<Z, 32> before = accumulate_ ? lane_s<Z, 32>(before_, col) : S<Z, 32>(0);
            set_lane<Z, 32>(word, col, wrap<Z, 32>(sum<Z, 33>(before, held_[row_][col])));
        }
        acc_ram[word_] = word;
        written_++;
        adding_ = false;
        row_++;
        word_ += col_groups_;
        rows_left_--;
    }

  private:
    S<Z, 32> held_[Rows][Cols];
    Word<Z, 32 * Cols> before_ = zero<Z, 32 * Cols>();
    unsigned acc_;
    unsigned col_groups_;
    bool accumulate_;
    bool adding_ = false;
    unsigned row_ = 0;
    unsigned rows_left_ = 0;
    unsigned word_ = 0;
    unsigned written_ = 0;
};

}  // namespace hetfab
