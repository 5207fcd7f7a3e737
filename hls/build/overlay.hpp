// SPDX-License-Identifier: Apache-2.0
// The emulated overlay: streams, ports and memories around the kernels, and a single-threaded scheduler. An
// engine's step executes one instruction to its end; DISPATCH's step is one pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../kernels/tops.hpp"
#include "bank_accesses.hpp"
#include "graph_check.hpp"
#include "hetfab/agg.hpp"
#include "hetfab/dispatch.hpp"
#include "hetfab/dw.hpp"
#include "hetfab/gemm_d.hpp"
#include "hetfab/gemm_l.hpp"
#include "hetfab/load.hpp"
#include "hetfab/rst.hpp"
#include "hetfab/sgb.hpp"
#include "hetfab/store.hpp"
#include "hetfab/vec.hpp"
#include "memories.hpp"
#include "narrow_weights.hpp"
#include "order_check.hpp"
#include "register_file.hpp"
#include "restructure_check.hpp"
#include "run_log.hpp"
#include "state_dump.hpp"
#include "strip_check.hpp"

// What a design with fixed weights has beside GEMM-D's array.
#ifdef HETFAB_STAGES
#include "stages.hpp"
#endif

// Host bodies compute with native integers, and check neither ranges nor declared sets.
#if defined(HETFAB_HOST_BODIES) && !defined(HETFAB_DEBUG) && !defined(HETFAB_AP_INT) && \
    !defined(HETFAB_FAMILY)
#include "host/bodies.hpp"
#else
#include "plain_bodies.hpp"
#endif

namespace hetfab {

// Without a name: a process loads libraries of several designs, and named variables would be one for all.
namespace {

enum class Progress { running = 0, done = 1, deadlock = 2, fault = 3 };

class Overlay {
  public:
    Overlay() : ports_{PortModel(dram), PortModel(dram), PortModel(dram), PortModel(dram), PortModel(dram)} {
        ports_[features_port].outstanding = feature_outstanding;
        dispatch_reset(state_);
    }

    std::uint32_t read_register(unsigned offset) {
        if (offset == isa::registers::control) {
            const std::uint32_t value = (running_ ? 1U : 0U) | (done_ ? 2U : 0U) | (running_ ? 0U : 4U);
            done_ = false;
            return value;
        }
        return file_.read(offset);
    }

    void write_register(unsigned offset, std::uint32_t value) {
        if (offset == isa::registers::control) {
            if ((value & 1) != 0 && !running_) start();
        } else {
            file_.write(offset, value);
        }
    }

    Progress advance(std::uint64_t passes, std::uint32_t seed) {
        if (seed != seed_) {
            seed_ = seed;
            random_.seed(seed);
        }
        constexpr unsigned steppers = isa::engine::count + 1;
        for (std::uint64_t pass = 0; pass < passes && progress_ == Progress::running; pass++) {
            const unsigned who = seed == 0 ? turn_++ % steppers : static_cast<unsigned>(random_() % steppers);
            step(who);
        }
        return progress_;
    }

    const std::string& message() const { return message_; }

    // What a port has requested there and not moved yet is looked up again, as on a bus of physical
    // addresses.
    void unmap(std::uint64_t address) {
        const MappedBytes gone = dram.unmap(address);
        for (PortModel& port : ports_) port.unmapped(gone.bytes, gone.size);
    }

    // From the next start on.
    void check_order(bool check) { checks_order_ = check; }

    // The engine begins no instruction any more, as one that stalls in hardware.
    void stall(unsigned engine) { stalled_ |= 1U << engine; }

    const RunLog& log() const { return log_; }

    RamModel* ram(const std::string& name) {
        // Whoever asks may write.
        bodies_.forget();
        narrow_.forget();
        const auto found = rams_.find(name);
        return found == rams_.end() ? nullptr : found->second;
    }

    // What SGB has sent and AGG not yet taken.
    const hls::stream<Types::RowsWord>& rows_fifo() const { return rows_fifo_; }

    const BankAccesses& bank_accesses() const { return accesses_; }

    Dram dram;

  private:
    enum Port { load_port, store_port, features_port, graph_port, dispatch_port, port_count };

    void start() {
        dispatch_arguments(registers_, file_.arguments());
        dispatch_reset(state_);
        begun_ = false;
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            instructions_[engine] = {};
            tokens_[engine] = {};
        }
        rows_fifo_ = {};
        rows_in_fifo_ = 0;
        for (PortModel& port : ports_) port.reset();
        order_.start(checks_order_ ? shared_dram() : std::vector<Range>(), checks_order_);
        log_.clear();
        message_.clear();
        turn_ = 0;
        random_.seed(seed_);
        running_ = true;
        done_ = false;
        progress_ = Progress::running;
    }

    void step(unsigned who) {
        const bool dispatches = who == isa::engine::count;
        if (!dispatches && !can_begin(who)) return;
        try {
            if (dispatches) {
                dispatch();
            } else {
                execute(who);
            }
        } catch (const Race& race) {
            progress_ = Progress::fault;
            message_ = race.what();
        } catch (const std::exception& error) {
            progress_ = Progress::fault;
            message_ = where(who) + ": " + error.what();
        }
    }

    void dispatch() {
        hls::burst_maxi<Types::Beat> program(ports_[dispatch_port]);
        if (!std::exchange(begun_, true)) dispatch_begin<Design>(file_.status());
        const bool progress =
            dispatch_pass(state_, registers_, program, instructions_, tokens_, file_.status());
        mark_retired();
        if (dispatch_finished(state_, registers_)) {
            dispatch_drain(state_, program);
            done_ = true;
            running_ = false;
            progress_ = state_.fault == isa::fault::none ? Progress::done : Progress::fault;
            if (state_.fault != isa::fault::none) message_ = fault_text(state_, registers_);
        } else if (!progress && engines_idle()) {
            progress_ = Progress::deadlock;
            message_ = "no engine can step: " + state_dump(state_, registers_);
        }
    }

    // An engine with an instruction whose rows are all in rows_fifo: a step executes it to its end.
    bool can_begin(unsigned engine) const {
        return !instructions_[engine].empty() && (stalled_ >> engine & 1) == 0 &&
               sets::rows_fifo_taken(halves(instructions_[engine].front())) <= rows_in_fifo_;
    }

    bool engines_idle() const {
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            if (can_begin(engine) || !tokens_[engine].empty()) return false;
        }
        return true;
    }

    // Index in the program of the instruction that an engine executes next.
    std::uint32_t current(unsigned engine) const {
        const auto waiting = static_cast<Count>(instructions_[engine].size());
        return state_.issued_index[state_.issued_place(engine, between(waiting, state_.issued[engine]))];
    }

    std::string where(unsigned who) const {
        if (who == isa::engine::count)
            return "engine 'dispatch', at instruction " + std::to_string(state_.fetched);
        return std::string("engine '") + isa::engine_names[who] + "', instruction " +
               std::to_string(executing_);
    }

    void execute(unsigned engine) {
        executing_ = current(engine);
        const std::uint32_t index = executing_;
        const unsigned opcode = peek_opcode(engine);
        check_alignment(engine, opcode, instructions_[engine].front());
        check_shape(engine, opcode, instructions_[engine].front());
        if (engine == isa::engine::vec) check_pixels(opcode, instructions_[engine].front());
        check_strips(engine, opcode, instructions_[engine].front(), load_context_.words());
        check_graph_operands(engine, opcode, instructions_[engine].front());
        check_weights(engine, opcode, instructions_[engine].front());
        const sets::Word issued = halves(instructions_[engine].front());
#ifdef HETFAB_DEBUG
        const DeclaredScope scope(declared, issued, order_.regions(issued));
#endif
        order_.enter(index, issued);
        for (PortModel& port : ports_) port.traffic = {};
        OverlayEvents events(accesses_);
        run(engine, events);
        rows_in_fifo_ += sets::rows_fifo_sent(issued);
        rows_in_fifo_ -= sets::rows_fifo_taken(issued);
        order_.leave(index, issued);
        accesses_.end_instruction();
        // DISPATCH requests instructions ahead.
        for (const PortModel& checked : ports_) {
            if (&checked != &ports_[dispatch_port]) checked.check_idle();
        }
        fill(log_.add(index), engine, opcode, events);
    }

    void fill(Record& record, unsigned engine, unsigned opcode, const OverlayEvents& events) const {
        record.engine = static_cast<std::uint8_t>(engine);
        record.opcode = static_cast<std::uint8_t>(opcode);
        record.counts.cycles = events.cycles;
        record.counts.macs = events.mac_count;
        record.counts.edges = events.edge_count;
        record.counts.misses = events.miss_count;
        const bool gathers = engine == isa::engine::agg || engine == isa::engine::sgb;
        const PortModel& data = ports_[gathers ? features_port : load_port];
        const PortModel* const read_ports[] = {&data, &ports_[graph_port]};
        for (unsigned port = 0; port < 2; port++) {
            record.counts.read_bytes[port] = read_ports[port]->traffic.read_bytes;
            record.counts.read_bursts[port] = read_ports[port]->traffic.read_bursts;
        }
        const Traffic& written = ports_[engine == isa::engine::agg ? features_port : store_port].traffic;
        record.counts.write_bytes = written.write_bytes;
        record.counts.write_bursts = written.write_bursts;
    }

    static sets::Word halves(const Types::Instruction& instruction) {
        unsigned char bytes[instruction_bytes];
        write_bytes(instruction, bytes);
        sets::Word word;
        std::memcpy(&word, bytes, sizeof word);
        return word;
    }

    // The DRAM in which the program may have a race, as far as DISPATCH can fetch it.
    std::vector<Range> shared_dram() {
        DramUse use = order_.dram_use();
        const std::uint64_t base = registers_.segment_base[isa::segment::program];
        const std::uint32_t length = registers_.program_length;
        try {
            for (std::uint32_t first = 0; first < length; first += fetch_words) {
                const std::uint32_t words = std::min(length - first, std::uint32_t{fetch_words});
                add_use(dram.resolve(base + std::uint64_t{first} * instruction_bytes,
                                     std::uint64_t{words} * instruction_bytes, false),
                        words, use);
            }
        } catch (const std::out_of_range&) {
            // DISPATCH will stop there.
        }
        return use.shared();
    }

    void add_use(const unsigned char* program, std::uint32_t words, DramUse& use) {
        for (std::uint32_t index = 0; index < words; index++) {
            Types::Instruction word;
            read_bytes(word, program + std::uint64_t{index} * instruction_bytes);
            const unsigned engine = number<Family, isa::Header::Engine>(word);
            if (dispatch_resolve<Design, Family>(registers_, engine, word)) use.add(halves(word));
        }
    }

    unsigned peek_opcode(unsigned engine) const {
        return number<Family, isa::Header::Opcode>(instructions_[engine].front());
    }

    void run(unsigned engine, OverlayEvents& events) {
        hls::stream<Types::Instruction>& in = instructions_[engine];
        hls::stream<Types::Token>& out = tokens_[engine];
        if (engine == isa::engine::load) {
            load_step<Design, Family>(
                in, out, bodies_.memory<Types::Beat>(ports_[load_port], dram), bodies_.banks(act_d_ram_),
                bodies_.banks(act_l_ram_), bodies_.weights_d(wgt_d_ram_), bodies_.weights_l(wgt_l_ram_),
                bodies_.parameters(par_ram_), bodies_.banks(fun_ram_), bodies_.ram(res_ram_),
                bodies_.ram(dwp_ram_), load_context_.port(), events);
        } else if (engine == isa::engine::store) {
            store_step<Design, Family>(in, out, bodies_.memory<Types::Beat>(ports_[store_port], dram),
                                       bodies_.banks(out_ram_), bodies_.banks(mid_ram_), events);
#ifdef HETFAB_STAGES
        } else if (engine == isa::engine::gemm_d && is_stage<Design, Family>(in.front())) {
            // Stages have bodies of their own: they take the memories as they are.
            dense_step<Design, Family, Stages>(in, out, act_d_ram_.port(), wgt_d_ram_.port(),
                                               acc_d_ram_.port(), events);
#endif
        } else if (engine == isa::engine::gemm_d) {
            gemm_d_step<Design, Family>(in, out, bodies_.banks(act_d_ram_), bodies_.weights_d(wgt_d_ram_),
                                        bodies_.ram(acc_d_ram_), events);
        } else if (engine == isa::engine::gemm_l) {
            gemm_l_step<Design, Family>(in, out, bodies_.banks(act_l_ram_), bodies_.weights_l(wgt_l_ram_),
                                        bodies_.ram(acc_l_ram_), events);
        } else if (engine == isa::engine::vec) {
            vec_step<Design, Family>(in, out, bodies_.ram(acc_d_ram_), bodies_.ram(acc_l_ram_),
                                     bodies_.parameters(par_ram_), bodies_.banks(fun_ram_),
                                     bodies_.ram(sum_ram_), bodies_.ram(res_ram_), bodies_.banks(out_ram_),
                                     bodies_.banks(exp_ram_), vec_context_.port(), events);
        } else if (engine == isa::engine::dw) {
            dw_step<Design, Family>(in, out, exp_ram_.port(), dwp_ram_.port(), mid_ram_.port(), events);
        } else if (engine == isa::engine::sgb) {
            // One instruction runs at a time, so SGB's ports are those of AGG and STORE, which are idle.
            sgb_step<Design, Family>(in, out, bodies_.memory<Types::Beat>(ports_[graph_port], dram),
                                     bodies_.memory<Types::Beat>(ports_[features_port], dram),
                                     bodies_.memory<Types::Beat>(ports_[store_port], dram),
                                     sgb_context_.port(), rows_fifo_, events);
        } else if (engine == isa::engine::rst) {
            // Likewise RST's are those of LOAD and STORE.
            rst_step<Design, Family>(in, out, hls::burst_maxi<Types::Beat>(ports_[load_port]),
                                     hls::burst_maxi<Types::Beat>(ports_[store_port]), rst_context_.port(),
                                     events);
        } else {
            agg_step<Design, Family>(in, out, bodies_.memory<Types::Beat>(ports_[features_port], dram),
                                     bodies_.memory<Types::Beat>(ports_[graph_port], dram),
                                     bodies_.banks(feature_ram_), tag_ram_.port(), bodies_.ram(sum_ram_),
                                     agg_context_.port(), rows_fifo_, events);
        }
    }

    // Hardware would read and write whole beats below the address.
    static void check_alignment(unsigned engine, unsigned opcode, const Types::Instruction& instruction) {
        if (!isa::carries_address(static_cast<int>(engine), static_cast<int>(opcode))) return;
        const auto address = static_cast<std::uint64_t>(get<Family, isa::Address::Physical>(instruction));
        if (address % beat_bytes != 0) {
            throw std::out_of_range("address " + hexadecimal(address) + " is not a multiple of " +
                                    std::to_string(beat_bytes));
        }
    }

    // Follows GEMM-D's weights, and stops at those that it would multiply wrong.
    void check_weights(unsigned engine, unsigned opcode, const Types::Instruction& instruction) {
        if (engine == isa::engine::load && opcode == isa::LoadWeights::opcode) {
            narrow_.written(number<Family, isa::LoadWeights::Ram>(instruction),
                            number<Family, isa::LoadWeights::Words>(instruction));
        }
        if (engine == isa::engine::gemm_d && opcode == isa::Matmul::opcode) {
            narrow_.check(matmul_tile<Design, Family>(instruction), 4 * Design::gemm_d_cols, wgt_d_ram_);
        }
        if (engine == isa::engine::gemm_d && opcode == isa::MatmulLines::opcode) {
            narrow_.check(matmul_strips<Family>(instruction), 4 * Design::gemm_d_cols, wgt_d_ram_);
        }
    }

    // What the instruction set does not define: hardware would end with sums of whatever its registers held.
    void check_shape(unsigned engine, unsigned opcode, const Types::Instruction& instruction) {
        if (engine == isa::engine::gemm_d && opcode == isa::Matmul::opcode) check_matmul(instruction);
        const bool planes = opcode == isa::MatmulPlanes::opcode || opcode == isa::MatmulPlanesLines::opcode;
        if (engine == isa::engine::gemm_l && planes) check_planes(opcode, instruction);
        if (engine == isa::engine::vec) check_row(opcode, instruction);
        if (engine == isa::engine::dw) check_windows(opcode, instruction);
        if (engine == isa::engine::agg && opcode == isa::Reduce::opcode) check_reduce(instruction);
        if constexpr (Design::agg_heads != 0) {
            if (engine == isa::engine::agg && opcode == isa::Attend::opcode) check_attend(instruction);
        }
    }

    static void check_matmul(const Types::Instruction& instruction) {
        if (number<Family, isa::Matmul::RowBeats>(instruction) != 0) return;
        throw std::out_of_range("matmul of rows of 0 beats, not at least 1");
    }

    static void check_planes(unsigned opcode, const Types::Instruction& instruction) {
        const bool strips = opcode == isa::MatmulPlanesLines::opcode;
        const PlanesTile tile =
            strips ? planes_strips<Family>(instruction) : planes_tile<Design, Family>(instruction);
        const unsigned most_planes = tile.bipolar ? 1 : 8;
        const bool slices = tile.slices == 1 || tile.slices == 2;
        if (tile.strip.run != 0 && slices && tile.planes != 0 && tile.planes <= most_planes) return;
        throw std::out_of_range((strips ? "matmul_planes_lines of run " : "matmul_planes of row_words ") +
                                std::to_string(tile.strip.run) + ", slices " + std::to_string(tile.slices) +
                                ", planes " + std::to_string(tile.planes) + ", bipolar " +
                                std::to_string(tile.bipolar) +
                                ", not at least 1 word, 1 or 2 slices, 1 to 8 planes, 1 when bipolar");
    }

    // DW's walk assumes windows that have columns, and words that are full.
    static void check_windows(unsigned opcode, const Types::Instruction& instruction) {
        if (opcode != isa::Depthwise::opcode) return;
        const DwTile<Family> tile = dw_tile<Family>(instruction);
        if (tile.groups % (tile.packed || tile.out_packed ? 2 : 1) != 0) {
            throw std::out_of_range(std::to_string(tile.groups) + " groups, not an even number when packed");
        }
        const unsigned height = (tile.lines - 1) * tile.stride + taps;
        if (tile.width() < taps || (tile.lines != 0 && tile.top + tile.bottom >= height)) {
            throw std::out_of_range("an image of " + std::to_string(tile.width()) +
                                    " columns with those around it, and " + std::to_string(height) +
                                    " lines, of which " + std::to_string(tile.top + tile.bottom) +
                                    " are not on it");
        }
    }

    // Operations of VEC that make rows, in any design.
    static bool is_of_rows(unsigned opcode) {
        return opcode >= isa::Requantize::opcode && opcode <= isa::Normalize::opcode &&
               opcode != isa::ConfigurePixels::opcode && opcode != isa::ConfigurePool::opcode;
    }

    // A table is declared as a whole.
    static void check_table(const VecTile<Family>& tile) {
        const unsigned words = std::max((tile.index_mask() + 1) / 8, isa::fun_unit);
        if (tile.width <= 12 && tile.table + words <= Design::fun_words) return;
        throw std::out_of_range("a table of " + std::to_string(tile.width) + " bits from word " +
                                std::to_string(tile.table) + " of fun_ram on, not at most 12 bits, within " +
                                std::to_string(Design::fun_words) + " words");
    }

    // VEC keeps all rows before it normalizes the first one.
    static void check_kept(const VecTile<Family>& tile) {
        if (tile.groups != 0 && tile.rows * tile.groups <= Design::norm_words) return;
        throw std::out_of_range(std::to_string(tile.rows) + " rows of " + std::to_string(tile.groups) +
                                " groups to normalize, not at least 1 group, and at most " +
                                std::to_string(Design::norm_words) + " words");
    }

    // VEC would cut a row short, as its fields say nothing of the rest.
    static void check_row(unsigned opcode, const Types::Instruction& instruction) {
        if (!is_of_rows(opcode)) return;
        const VecTile<Family> tile = vec_tile<Family>(instruction, static_cast<int>(opcode));
        if (tile.mapped) check_table(tile);
        if (tile.normalizes) check_kept(tile);
        const unsigned needed = tile.normalizes ? tile.groups : tile.result_words();
        if (needed <= tile.row_words || tile.pools_largest) return;
        throw std::out_of_range(std::to_string(needed) + " words of results in " +
                                std::to_string(tile.row_words) + " words of an output row");
    }

    // Rows that are pixels are whole columns of them, and a window has a tap.
    void check_pixels(unsigned opcode, const Types::Instruction& instruction) {
        if (!is_of_rows(opcode)) return;
        const VecTile<Family> tile = vec_tile<Family>(instruction, static_cast<int>(opcode));
        if (tile.to_exp && Design::exp_words == 0) {
            throw std::out_of_range("results for exp_ram, which the design does not have");
        }
        const bool pools = tile.averages || tile.pools_largest;
        if constexpr (has_pixels<Design>) {
            if (!pools && !tile.to_exp && tile.addend != Addend::stored) return;
            NoEvents unheard;
            const VecContext<Family> context = vec_context<Family>(vec_context_.words(), pools, unheard);
            if (tile.rows % context.banks != 0) {
                throw std::out_of_range(std::to_string(tile.rows) + " rows of " +
                                        std::to_string(context.banks) +
                                        " banks, not whole columns of pixels");
            }
            if (context.lines == 0 || context.columns == 0) {
                throw std::out_of_range("a window of " + std::to_string(context.lines) + " x " +
                                        std::to_string(context.columns) + " taps, not at least 1 x 1");
            }
        }
    }

    // Hardware would wrap around its registers; here the sums would leave their array.
    void check_reduce(const Types::Instruction& instruction) {
        using Op = isa::Reduce;
        const unsigned groups = number<Family, Op::Groups>(instruction);
        if (groups > Design::agg_groups) {
            throw std::out_of_range("reduce of " + std::to_string(groups) + " groups, the design has " +
                                    std::to_string(Design::agg_groups));
        }
        const unsigned source = number<Family, Op::Source>(instruction);
        if (Design::feature_words == 0 && source != isa::reduce_source::dram) {
            throw std::out_of_range("reduce with a scratchpad, the design has none");
        }
        if (flag<Family, Op::FromFifo>(instruction) &&
            (source == isa::reduce_source::schedule || flag<Family, Op::Weighted>(instruction))) {
            throw std::out_of_range("reduce of rows from rows_fifo with a schedule or weights");
        }
        const bool weighted = flag<Family, Op::Weighted>(instruction);
        if (weighted && (Design::agg_weights == 0 || source == isa::reduce_source::schedule)) {
            throw std::out_of_range("reduce with weights, which the design or a schedule lacks");
        }
        const unsigned held = number<Family, Op::Rows>(instruction) * groups;
        NoEvents unheard;
        const ReduceTile tile = reduce_tile<Family>(instruction, agg_context_.words(), unheard);
        check_runs(tile);
        const bool both = (tile.merge || tile.parts > 1) && tile.accumulate;
        if ((both ? 2 : 1) * held > Design::sum_words) {
            throw std::out_of_range("reduce of " + std::to_string(held) + " words of sums" +
                                    (both ? ", merged and accumulated" : "") + ", AGG holds " +
                                    std::to_string(Design::sum_words));
        }
    }

    static void check_runs(const ReduceTile& tile) {
        if (tile.records() > agg_runs || (tile.scheduled && tile.parts > 1)) {
            throw std::out_of_range(std::to_string(tile.rows) + " rows in " + std::to_string(tile.parts) +
                                    " parts, AGG holds " + std::to_string(agg_runs) +
                                    " records, and schedules have runs of their own");
        }
    }

    // Hardware would leave its registers and memories.
    void check_attend(const Types::Instruction& instruction) {
        NoEvents unheard;
        const AttendTile tile = attend_tile<Family>(instruction, agg_context_.words(), unheard);
        if (tile.kind > isa::attend_kind::dot) {
            throw std::out_of_range("attend of kind " + std::to_string(tile.kind));
        }
        if (tile.heads > Design::agg_heads || tile.rows.groups > Design::agg_groups) {
            throw std::out_of_range("attend of " + std::to_string(tile.heads) + " heads and " +
                                    std::to_string(tile.rows.groups) + " groups, the design has " +
                                    std::to_string(Design::agg_heads) + " and " +
                                    std::to_string(Design::agg_groups));
        }
        if (tile.rows.tagged && Design::feature_words == 0) {
            throw std::out_of_range("attend with a scratchpad, the design has none");
        }
        check_runs(tile.rows);
        const bool both = tile.maxima && tile.weigh;
        const bool parts = tile.rows.merge || tile.rows.spill;
        if ((!tile.maxima && !tile.weigh) || (both && parts) || (!tile.weigh && !tile.rows.spill)) {
            throw std::out_of_range("attend with maxima " + std::to_string(tile.maxima) + ", weigh " +
                                    std::to_string(tile.weigh) + ", merge " +
                                    std::to_string(tile.rows.merge) + ", spill " +
                                    std::to_string(tile.rows.spill));
        }
        const unsigned words = tile.rows.groups > tile.score_beats ? tile.rows.groups : tile.score_beats;
        const unsigned held = tile.rows.rows * words;
        const unsigned types = tile.typed() ? tile.type_count * tile.score_beats : 0;
        if (tile.rows.groups != 0 && (tile.score_beats == 0 || tile.score_beats > isa::score_beats)) {
            throw std::out_of_range("attend with keys of " + std::to_string(tile.score_beats) + " beats");
        }
        if (held > isa::attend_words || held > Design::sum_words || types > isa::type_beats) {
            throw std::out_of_range("attend of " + std::to_string(held) + " words and " +
                                    std::to_string(types) + " beats of types, AGG holds " +
                                    std::to_string(std::min(isa::attend_words, Design::sum_words)) + " and " +
                                    std::to_string(isa::type_beats));
        }
    }

    void check_graph_operands(unsigned engine, unsigned opcode, const Types::Instruction& instruction) {
        NoEvents unheard;
        if (engine == isa::engine::sgb && opcode >= isa::Compose::opcode && opcode <= isa::Widen::opcode) {
            check_graphs<Design>(dram, graph_tile<Family>(instruction, sgb_context_.words(), unheard),
                                 opcode);
        }
        if (engine == isa::engine::rst && opcode >= isa::Match::opcode && opcode <= isa::GrowTiles::opcode) {
            check_restructure<Design, Family>(dram, instruction,
                                              restructure_tile<Family>(rst_context_.words(), unheard));
        }
    }

    void mark_retired() {
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            const std::uint32_t last = file_.status()[isa::status::last_retired + engine];
            if (last != no_instruction) log_.retire(last);
        }
    }

    RegisterFile file_;
    DispatchRegisters registers_ = {};
    DispatchState<Design, Family> state_ = {};
    // Whether DISPATCH has begun since the start: until then the status is that of the run before.
    bool begun_ = false;
    hls::stream<Types::Instruction> instructions_[isa::engine::count];
    hls::stream<Types::Token> tokens_[isa::engine::count];
    hls::stream<Types::RowsWord> rows_fifo_;
    std::uint64_t rows_in_fifo_ = 0;
    PortModel ports_[port_count];
    BankAccesses accesses_;
    Bodies bodies_;
    BankedRam<Types::ActDBank> act_d_ram_{sets::memory::act_d_ram, Design::gemm_d_rows, Design::act_d_words,
                                          accesses_};
    BankedRam<Types::ActLBank> act_l_ram_{sets::memory::act_l_ram, Design::gemm_l_rows, Design::act_l_words,
                                          accesses_};
    Ram<Types::WgtDWord> wgt_d_ram_{sets::memory::wgt_d_ram, Design::wgt_d_words, accesses_};
    Ram<Types::WgtLWord> wgt_l_ram_{sets::memory::wgt_l_ram, Design::wgt_l_words, accesses_};
    Ram<Types::ParWord> par_ram_{sets::memory::par_ram, Design::par_words, accesses_};
    Ram<Types::ResWord> res_ram_{sets::memory::res_ram, Design::res_words, accesses_};
    Ram<Types::AccDWord> acc_d_ram_{sets::memory::acc_d_ram, Design::acc_d_words, accesses_};
    Ram<Types::AccLWord> acc_l_ram_{sets::memory::acc_l_ram, Design::acc_l_words, accesses_};
    Ram<Types::SumWord> sum_ram_{sets::memory::sum_ram, Design::sum_words, accesses_};
    BankedRam<Types::Half> out_ram_{sets::memory::out_ram, 2, Design::out_words, accesses_};
    BankedRam<Types::Half> exp_ram_{sets::memory::exp_ram, 2, Design::exp_words, accesses_};
    BankedRam<Types::FunWord> fun_ram_{sets::memory::fun_ram, fun_banks, Design::fun_words, accesses_};
    Ram<Types::DwpWord> dwp_ram_{sets::memory::dwp_ram, Design::dwp_words, accesses_};
    BankedRam<Types::Half> mid_ram_{sets::memory::mid_ram, 2, Design::mid_words, accesses_};
    Ram<Types::VecContext> vec_context_{sets::memory::vec_context, has_pixels<Design> ? isa::vec_words : 0,
                                        accesses_};
    BankedRam<Types::Beat> feature_ram_{sets::memory::feature_ram, Design::agg_word_beats,
                                        Design::feature_words / Design::agg_word_beats, accesses_};
    Ram<Types::Tag> tag_ram_{sets::memory::tag_ram, Design::feature_words / words_per_tag, accesses_};
    Ram<Types::LoadContext> load_context_{sets::memory::load_context, isa::load_contexts, accesses_};
    Ram<Types::Instruction> agg_context_{sets::memory::agg_context, Design::agg_contexts* isa::context_words,
                                         accesses_};
    Ram<Types::Instruction> sgb_context_{sets::memory::sgb_context, isa::sgb_words, accesses_};
    Ram<Types::Instruction> rst_context_{sets::memory::rst_context, isa::rst_words, accesses_};
    std::map<std::string, RamModel*> rams_{
        {"act_d_ram", &act_d_ram_},     {"act_l_ram", &act_l_ram_}, {"wgt_d_ram", &wgt_d_ram_},
        {"wgt_l_ram", &wgt_l_ram_},     {"par_ram", &par_ram_},     {"acc_d_ram", &acc_d_ram_},
        {"acc_l_ram", &acc_l_ram_},     {"sum_ram", &sum_ram_},     {"out_ram", &out_ram_},
        {"feature_ram", &feature_ram_}, {"tag_ram", &tag_ram_},     {"agg_context", &agg_context_},
        {"sgb_context", &sgb_context_}, {"res_ram", &res_ram_},     {"load_context", &load_context_},
        {"vec_context", &vec_context_}, {"exp_ram", &exp_ram_},     {"dwp_ram", &dwp_ram_},
        {"mid_ram", &mid_ram_},         {"fun_ram", &fun_ram_},     {"rst_context", &rst_context_},
    };
    NarrowWeights narrow_;
    static constexpr sets::Constants constants = sets::constants_of<Design>();
    OrderCheck order_{constants};
    bool checks_order_ = true;
    unsigned stalled_ = 0;
    RunLog log_;
    std::string message_;
    std::mt19937 random_;
    std::uint32_t seed_ = 0;
    unsigned turn_ = 0;
    std::uint32_t executing_ = 0;
    // Set from start to done. After a deadlock or an engine's fault it stays set, as hardware would hang.
    bool running_ = false;
    bool done_ = false;
    Progress progress_ = Progress::done;
};

}  // namespace

}  // namespace hetfab
