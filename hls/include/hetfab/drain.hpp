// SPDX-License-Identifier: Apache-2.0
// What both GEMM cores share: the walk over the blocks of a tile, and the drain of a finished block's sums
// while the next block is summed.
#pragma once

#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// The blocks of a tile: column group by column group, in a group block of rows by block of rows. A block
// takes as many trips as its steps, or as the drain of the block before it if that takes longer.
class BlockWalk {
  public:
    BlockWalk(unsigned rows, unsigned rows_per_block, unsigned col_groups, unsigned steps,
              unsigned drain_trips)
        : rows_(rows),
          rows_per_block_(rows_per_block),
          steps_(steps),
          period_(steps < drain_trips ? drain_trips : steps),
          blocks_left_((rows + rows_per_block - 1) / rows_per_block * col_groups),
          trips_(blocks_left_ == 0 ? 0 : blocks_left_ * period_ + drain_trips) {}

    // All blocks, and the drain of the last one.
    unsigned trips() const { return trips_; }
    bool summing() const { return blocks_left_ != 0 && step_ < steps_; }
    unsigned step() const { return step_; }
    unsigned first_row() const { return first_row_; }
    unsigned col_group() const { return col_group_; }
    unsigned valid_rows() const {
        const unsigned left = rows_ - first_row_;
        return left < rows_per_block_ ? left : rows_per_block_;
    }
    // This trip is the last one of a block.
    bool ends_block() const { return blocks_left_ != 0 && step_ + 1 == period_; }

    // Moves on by a trip; true when a new group of columns begins.
    bool next() {
#pragma HLS INLINE
        if (!ends_block()) {
            step_++;
            return false;
        }
        step_ = 0;
        blocks_left_--;
        first_row_ += rows_per_block_;
        if (first_row_ < rows_) return false;
        first_row_ = 0;
        col_group_++;
        return true;
    }

  private:
    unsigned rows_;
    unsigned rows_per_block_;
    unsigned steps_;
    unsigned period_;
    unsigned blocks_left_;
    unsigned trips_;
    unsigned step_ = 0;
    unsigned first_row_ = 0;
    unsigned col_group_ = 0;
};

// Holds the sums of a finished block and writes a row a trip; when they are added to what the RAM holds, a
// row takes two trips, a read and a write through the RAM's one port.
template <class Z, unsigned Rows, unsigned Cols>
class Drain {
  public:
    Drain(unsigned acc, unsigned tile_rows, unsigned col_groups, bool accumulate)
        : acc_(acc), tile_rows_(tile_rows), col_groups_(col_groups), accumulate_(accumulate) {}

    unsigned trips() const { return accumulate_ ? 2 * Rows : Rows; }
    // Words written so far.
    unsigned written() const { return written_; }

    void begin(const S<Z, 32> (&sums)[Rows][Cols], unsigned first_row, unsigned col_group) {
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
        rows_left_ = tile_rows_ - first_row < Rows ? tile_rows_ - first_row : Rows;
        word_ = acc_ + first_row * col_groups_ + col_group;
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
    unsigned tile_rows_;
    unsigned col_groups_;
    bool accumulate_;
    bool adding_ = false;
    unsigned row_ = 0;
    unsigned rows_left_ = 0;
    unsigned word_ = 0;
    unsigned written_ = 0;
};

}  // namespace hetfab
