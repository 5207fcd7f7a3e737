// SPDX-License-Identifier: Apache-2.0
// RST: rows in lists by their share, the highest first, and in a list the one that came last first.
#pragma once

#include "rst_memory.hpp"

namespace hetfab {

constexpr unsigned list_word_bits = 64;
constexpr unsigned list_words = isa::rst_scores / list_word_bits;
constexpr unsigned share_bits = 7;
static_assert(isa::rst_scores == 1U << share_bits, "a share is a quotient of so many bits");

// The list heads, and a bit for each that has rows. Links are in memories of vertices.
struct ShareLists {
    Vertex heads[isa::rst_scores];
    std::uint64_t filled[list_words];
};

// The share of a part of a whole, in steps of 1 / (rst_scores - 1).
inline unsigned share_of(unsigned part, unsigned whole) {
#pragma HLS INLINE
    unsigned rest = part * (isa::rst_scores - 1);
    unsigned share = 0;
quotient_bits_down:
    for (unsigned bit = share_bits; bit > 0; bit--) {
#pragma HLS UNROLL factor=share_bits
        const unsigned shifted = whole << (bit - 1);
        if (rest >= shifted) {
            rest -= shifted;
            share |= 1U << (bit - 1);
        }
    }
    return share;
}

inline void clear_lists(ShareLists& lists) {
#pragma HLS INLINE
emptied_words:
    for (unsigned word = 0; word < list_words; word++) {
#pragma HLS UNROLL factor=list_words
        lists.filled[word] = 0;
    }
}

// The highest share of which there are rows; rst_scores for none.
inline unsigned highest_share(const ShareLists& lists) {
#pragma HLS INLINE
    std::uint64_t bits = 0;
    unsigned high = list_words;
words_up:
    for (unsigned word = 0; word < list_words; word++) {
#pragma HLS UNROLL factor=list_words
        if (lists.filled[word] != 0) {
            bits = lists.filled[word];
            high = word;
        }
    }
    unsigned low = 0;
bits_up:
    for (unsigned bit = 0; bit < list_word_bits; bit++) {
#pragma HLS UNROLL factor=list_word_bits
        if ((bits >> bit & 1) != 0) low = bit;
    }
    return high * list_word_bits + low;
}

inline void mark_list(ShareLists& lists, unsigned share, bool filled) {
#pragma HLS INLINE
    const std::uint64_t bit = std::uint64_t{1} << (share % list_word_bits);
    const std::uint64_t word = lists.filled[share / list_word_bits];
    lists.filled[share / list_word_bits] = filled ? word | bit : word & ~bit;
}

inline bool has_rows(const ShareLists& lists, unsigned share) {
#pragma HLS INLINE
    return (lists.filled[share / list_word_bits] >> (share % list_word_bits) & 1) != 0;
}

// Takes a row out of the list of its share.
template <unsigned Size>
void leave_list(ShareLists& lists, unsigned row, unsigned share, Vertex (&behind)[Size],
                Vertex (&before)[Size]) {
#pragma HLS INLINE
    const Vertex follower = behind[row];
    const Vertex leader = before[row];
    if (follower != no_vertex) before[follower] = leader;
    if (leader != no_vertex) {
        behind[leader] = follower;
    } else {
        lists.heads[share] = follower;
        mark_list(lists, share, follower != no_vertex);
    }
}

// Puts a row at the head of the list of its share.
template <unsigned Size>
void enter_list(ShareLists& lists, unsigned row, unsigned share, Vertex (&behind)[Size],
                Vertex (&before)[Size]) {
#pragma HLS INLINE
    const Vertex follower = has_rows(lists, share) ? lists.heads[share] : no_vertex;
    behind[row] = follower;
    before[row] = no_vertex;
    if (follower != no_vertex) before[follower] = static_cast<Vertex>(row);
    lists.heads[share] = static_cast<Vertex>(row);
    mark_list(lists, share, true);
}

}  // namespace hetfab
