// SPDX-License-Identifier: Apache-2.0
// The words of a design's memories and streams, and the token that every engine answers with.
#pragma once

#include <cstdint>

#include "ints.hpp"
#include "isa.hpp"

namespace hetfab {

template <class D, class Z>
struct DesignTypes {
    using Instruction = Word<Z, isa::instruction_bits>;
    using Token = Word<Z, isa::token_bits>;
    using Beat = Word<Z, D::bus_bits>;
    // A bank holds these; a bank per row of the array makes a word of the activation RAMs.
    using ActDBank = Word<Z, 64>;
    using ActLBank = Word<Z, 128>;
    using WgtDWord = Word<Z, 32 * D::gemm_d_cols>;
    using WgtLWord = Word<Z, 32 * D::gemm_l_cols>;
    using LoadContext = Word<Z, 64>;
    using ParWord = Word<Z, 64 * D::lanes>;
    using AccDWord = Word<Z, 32 * D::gemm_d_cols>;
    using AccLWord = Word<Z, 32 * D::gemm_l_cols>;
    using SumWord = Word<Z, 32 * D::lanes>;
    using ResWord = Word<Z, 64>;
    // Half a word of lanes bytes, the banks of out_ram, exp_ram and mid_ram.
    using Half = Word<Z, 4 * D::lanes>;
    using DwpWord = Word<Z, 64>;
    using FunWord = Word<Z, 64>;
    using VecContext = Word<Z, 64>;
    using Tag = Word<Z, 64>;
    using RowsWord = U<Z, isa::rows_fifo_bits>;

    static_assert(D::bus_bits == 64, "the kernels count in beats of 64 bits: a design's bus has 64 bits");
    static_assert(D::lanes * 8 == D::bus_bits, "a beat holds one byte for every lane of the vector engines");
    static_assert(D::gemm_d_rows % 2 == 0, "a chain of DSPs serves two rows");
    static_assert(D::gemm_d_cols % D::lanes == 0 && D::gemm_l_cols % D::lanes == 0,
                  "a word of accumulators is whole groups of lanes channels");
    static_assert(Z::template exact_word<isa::instruction_bits>, "an instruction has exactly its bits");
    static_assert(Z::template exact_word<isa::token_bits>, "a token has exactly its bits");
    static_assert(Z::template exact_word<64> && Z::template exact_word<128>, "banks have exactly their bits");
    static_assert(Z::template exact_word<32 * D::gemm_d_cols> && Z::template exact_word<32 * D::gemm_l_cols>,
                  "words of weights and accumulators have exactly their bits");
    static_assert(Z::template exact_word<64 * D::lanes>, "a word of par_ram has exactly its bits");
    static_assert(Z::template exact_word<32 * D::lanes>, "a word of sum_ram has exactly its bits");
    static_assert(Z::template exact_word<4 * D::lanes>, "half a word of out_ram has exactly its bits");
    static_assert(Z::template exact_integer<8> && Z::template exact_integer<32>,
                  "operands and accumulators have exactly their bits");
};

// Equal banks of fun_ram.
constexpr unsigned fun_banks = 4;

// Words of a memory that a design may lack: a port has at least one.
constexpr unsigned depth_of(unsigned words) { return words == 0 ? 1 : words; }

// What an engine did with an instruction.
struct Outcome {
    bool known;
    unsigned work;
    // The event counts of the token, for DISPATCH's counters.
    unsigned count0 = 0;
    std::uint64_t count1 = 0;
    unsigned count2 = 0;
};

// The token holds counts of the work. A tool that knows a count from the instruction alone (the trips of a
// loop, say) may form the token before the work ends, so this is no point of order: the fence before the
// write of the token is one, and STORE's write responses (docs/synthesis.md).
template <class D, class Z>
typename DesignTypes<D, Z>::Token make_token(const typename DesignTypes<D, Z>::Instruction& instruction,
                                             Outcome outcome) {
#pragma HLS INLINE
    typename DesignTypes<D, Z>::Token token = zero<Z, isa::token_bits>();
    Z::template set<isa::Token::Signal0>(token, number<Z, isa::Header::Signal0>(instruction));
    Z::template set<isa::Token::Signal1>(token, number<Z, isa::Header::Signal1>(instruction));
    Z::template set<isa::Token::Fault>(token, outcome.known ? 0U : 1U);
    Z::template set<isa::Token::Work>(token, outcome.work & ((1U << isa::Token::Work::bits) - 1));
    Z::template set<isa::Token::Count0>(token, outcome.count0);
    Z::template set<isa::Token::Count1>(token, outcome.count1);
    Z::template set<isa::Token::Count2>(token, outcome.count2);
    return token;
}

}  // namespace hetfab
