// SPDX-License-Identifier: Apache-2.0
// SGB's bitmap in a memory whose reads miss the last writes, as in a pipeline; tests/test_recent_words.py
// calls it.
#include <deque>
#include <utility>
#include <vector>

#include "hetfab/sgb.hpp"

namespace {

// A read misses what the last `lag` trips wrote; each trip writes one word.
class LaggingBitmap {
  public:
    LaggingBitmap(std::size_t words, std::size_t lag) : words_(words), lag_(lag) {}

    class Word {
      public:
        Word(LaggingBitmap& bitmap, unsigned place) : bitmap_(&bitmap), place_(place) {}
        operator std::uint64_t() const { return bitmap_->words_[place_]; }
        void operator=(std::uint64_t word) { bitmap_->write(place_, word); }

      private:
        LaggingBitmap* bitmap_;
        unsigned place_;
    };
    Word operator[](unsigned place) { return {*this, place}; }

  private:
    void write(unsigned place, std::uint64_t word) {
        written_.emplace_back(place, word);
        if (written_.size() <= lag_) return;
        words_[written_.front().first] = written_.front().second;
        written_.pop_front();
    }

    std::vector<std::uint64_t> words_;
    std::deque<std::pair<unsigned, std::uint64_t>> written_;
    std::size_t lag_;
};

}  // namespace

// Whether each column is new, of columns below `bits`.
extern "C" void hetfab_meet_columns(const std::uint32_t* columns, std::uint64_t count, std::uint64_t bits,
                                    std::uint64_t lag, std::uint8_t* found) {
    LaggingBitmap bitmap(bits / hetfab::bitmap_word_bits + 1, lag);
    hetfab::RecentWords recent;
    for (std::uint64_t at = 0; at < count; at++) {
        found[at] = hetfab::meet_column(bitmap, recent, columns[at]) ? 1 : 0;
    }
}
