// SPDX-License-Identifier: Apache-2.0
// What was made of the words of an on-chip memory, kept until one of these is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>

namespace hetfab {

namespace {

// The last few values. A key names its words, from `first` on `words` of them.
template <class Key, class Value>
class WordsCache {
  public:
    // Words were written: what came from them is no more.
    void written(std::uint64_t first, std::uint64_t count) {
        kept_.remove_if([&](const Kept& kept) {
            return kept.key.first < first + count && first < std::uint64_t{kept.key.first} + kept.key.words;
        });
    }
    void clear() { kept_.clear(); }

    template <class Make>
    const Value& get(const Key& key, Make make) {
        for (auto found = kept_.begin(); found != kept_.end(); ++found) {
            if (!(found->key == key)) continue;
            kept_.splice(kept_.begin(), kept_, found);
            return kept_.front().value;
        }
        kept_.push_front({key, make()});
        if (kept_.size() > most) kept_.pop_back();
        return kept_.front().value;
    }

  private:
    static constexpr std::size_t most = 4;

    struct Kept {
        Key key;
        Value value;
    };
    std::list<Kept> kept_;
};

}  // namespace

}  // namespace hetfab
