// SPDX-License-Identifier: Apache-2.0
// The emulated overlay: memories, streams, ports and a single-threaded scheduler around the kernels, with a C
// interface. An engine's step executes one instruction to its end; DISPATCH's step is one pass.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "../kernels/tops.hpp"
#include "bank_accesses.hpp"
#include "hetfab/agg.hpp"
#include "hetfab/dispatch.hpp"
#include "hetfab/gemm_d.hpp"
#include "hetfab/load.hpp"
#include "hetfab/store.hpp"
#include "hetfab/vec.hpp"
#include "order_check.hpp"

#ifdef HETFAB_DEBUG
#include "declared_check.hpp"
#endif

namespace {

using hetfab::BankAccesses;
using hetfab::PortModel;
namespace memory = hetfab::sets::memory;

#ifdef HETFAB_DEBUG
thread_local hetfab::DeclaredCheck declared;
#endif

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%" PRIx64, value);
    return text;
}

// Regions of physical DRAM, each a buffer of the host.
class Dram : public hetfab::DramModel {
  public:
    void map(std::uint64_t address, unsigned char* bytes, std::uint64_t size) {
        regions_[address] = {bytes, size};
    }
    void unmap(std::uint64_t address) { regions_.erase(address); }

    unsigned char* resolve(std::uint64_t address, std::uint64_t bytes, bool write) override {
#ifdef HETFAB_DEBUG
        declared.burst(address, bytes, write);
#endif
        auto region = regions_.upper_bound(address);
        if (region != regions_.begin()) {
            --region;
            const std::uint64_t offset = address - region->first;
            if (offset < region->second.size && bytes <= region->second.size - offset) {
                return region->second.bytes + offset;
            }
        }
        throw std::out_of_range(std::string(write ? "write" : "read") + " of " + std::to_string(bytes) +
                                " bytes at " + hexadecimal(address) + ", which is not mapped memory");
    }

  private:
    struct Region {
        unsigned char* bytes;
        std::uint64_t size;
    };
    std::map<std::uint64_t, Region> regions_;
};

// An on-chip memory seen from outside, as bytes.
class RamModel {
  public:
    virtual ~RamModel() = default;
    virtual bool read(std::uint64_t word, std::uint64_t count, unsigned char* bytes) const = 0;
    virtual bool write(std::uint64_t word, std::uint64_t count, const unsigned char* bytes) = 0;
};

// The port that a kernel gets in place of an array: it stops at a word beyond the depth.
template <class T>
struct RamPort {
    T* words;
    unsigned depth;
    unsigned memory;
    BankAccesses* accesses;

#ifdef HETFAB_DEBUG
    hetfab::CheckedWord<T> operator[](unsigned word) const { return {declared, memory, word, at(word)}; }
#else
    T& operator[](unsigned word) const { return at(word); }
#endif

  private:
    T& at(unsigned word) const {
        if (word >= depth) {
            throw std::out_of_range("access to word " + std::to_string(word) + " of " +
                                    hetfab::sets::memory_names[memory] + ", which has " +
                                    std::to_string(depth) + " words");
        }
        accesses->access(memory);
        return words[word];
    }
};

template <class T>
class Ram : public RamModel {
  public:
    Ram(unsigned memory, unsigned depth, BankAccesses& accesses)
        : memory_(memory), accesses_(&accesses), words_(depth) {
        const std::vector<unsigned char> zeros(word_bytes);
        for (T& word : words_) hetfab::read_bytes(word, zeros.data());
    }

    RamPort<T> port() { return {words_.data(), static_cast<unsigned>(words_.size()), memory_, accesses_}; }

    bool read(std::uint64_t word, std::uint64_t count, unsigned char* bytes) const override {
        if (word > words_.size() || count > words_.size() - word) return false;
        for (std::uint64_t i = 0; i < count; i++)
            hetfab::write_bytes(words_[word + i], bytes + i * word_bytes);
        return true;
    }
    bool write(std::uint64_t word, std::uint64_t count, const unsigned char* bytes) override {
        if (word > words_.size() || count > words_.size() - word) return false;
        for (std::uint64_t i = 0; i < count; i++)
            hetfab::read_bytes(words_[word + i], bytes + i * word_bytes);
        return true;
    }

  private:
    static constexpr std::uint64_t word_bytes = hetfab::bytes_of(static_cast<const T*>(nullptr));
    unsigned memory_;
    BankAccesses* accesses_;
    std::vector<T> words_;
};

// One record of the run log; the layout of RUN_LOG_DTYPE.
struct Record {
    std::uint32_t index;
    std::uint8_t engine;
    std::uint8_t opcode;
    std::uint16_t layer;
    hetfab::RunLogCounts counts;
};
static_assert(sizeof(Record) == 8 + sizeof(hetfab::RunLogCounts), "a record is packed as RUN_LOG_DTYPE");

// What the kernels tell: the counts of a record, and in debug builds the accesses of each trip.
class OverlayEvents : public hetfab::CountedEvents {
  public:
    explicit OverlayEvents(BankAccesses& accesses) : accesses_(&accesses) {}
    void trip(isa::Loop loop) { accesses_->begin_trip(loop); }
    void loop(isa::Loop loop, unsigned trips) {
        CountedEvents::loop(loop, trips);
        accesses_->end_loop(loop, trips);
    }

  private:
    BankAccesses* accesses_;
};

enum class Progress { running = 0, done = 1, deadlock = 2, fault = 3 };

class Overlay {
  public:
    Overlay() : ports_{PortModel(dram), PortModel(dram), PortModel(dram), PortModel(dram), PortModel(dram)} {
        ports_[features_port].outstanding = hetfab::feature_outstanding;
        hetfab::dispatch_reset(state_);
    }

    std::uint32_t read_register(unsigned offset) {
        namespace reg = isa::registers;
        if (offset == reg::control) {
            const std::uint32_t value = (running_ ? 1U : 0U) | (done_ ? 2U : 0U) | (running_ ? 0U : 4U);
            done_ = false;
            return value;
        }
        const hetfab::DispatchStatus& status = status_;
        const std::uint32_t scalars[][2] = {{reg::program_length, registers_.program_length},
                                            {reg::isa_version, status.isa_version},
                                            {reg::engines, status.engines},
                                            {reg::array_shape, status.array_shape},
                                            {reg::lanes, status.lanes},
                                            {reg::fetched, status.fetched},
                                            {reg::retired, status.retired},
                                            {reg::fault, status.fault},
                                            {reg::fault_instruction, status.fault_instruction}};
        for (const auto& scalar : scalars) {
            if (scalar[0] == offset) return scalar[1];
        }
        if (const auto place = element(reg::semaphore, offset)) return status.semaphore[place.position];
        if (const auto place = element(reg::queue_head, offset)) return status.queue_head[place.position];
        if (const auto place = element(reg::last_retired, offset)) return status.last_retired[place.position];
        if (const auto place = element(reg::counter, offset)) {
            return place.half(hetfab::counter_value(status.counter, place.position));
        }
        if (const auto place = element(reg::geometry_hash, offset)) return place.half(status.geometry_hash);
        if (const auto place = element(reg::segment_base, offset)) {
            return place.half(registers_.segment_base[place.position]);
        }
        if (const auto place = element(reg::segment_size, offset)) {
            return place.half(registers_.segment_size[place.position]);
        }
        return 0;
    }

    void write_register(unsigned offset, std::uint32_t value) {
        namespace reg = isa::registers;
        if (offset == reg::control) {
            if ((value & 1) != 0 && !running_) start();
        } else if (offset == reg::program_length) {
            written_.program_length = value;
        } else if (const auto base = element(reg::segment_base, offset)) {
            base.set_half(written_.segment_base[base.position], value);
        } else if (const auto size = element(reg::segment_size, offset)) {
            size.set_half(written_.segment_size[size.position], value);
        }
        if (!running_) registers_ = written_;
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

    // From the next start on.
    void check_order(bool check) { checks_order_ = check; }

    // Copies the records of the retired instructions in program order; returns their number.
    std::uint64_t log(Record* records, std::uint64_t capacity) const {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < log_.size(); i++) {
            if (!retired_[i]) continue;
            if (count < capacity) records[count] = log_[i];
            count++;
        }
        return count;
    }

    RamModel* ram(const std::string& name) {
        const auto found = rams_.find(name);
        return found == rams_.end() ? nullptr : found->second;
    }

    const BankAccesses& bank_accesses() const { return accesses_; }

    Dram dram;

  private:
    enum Port { load_port, store_port, features_port, graph_port, dispatch_port, port_count };

    // A register of an argument array: which argument, which half of 64 bits.
    struct Place {
        bool found;
        unsigned position;
        bool high;
        explicit operator bool() const { return found; }
        std::uint32_t half(std::uint64_t value) const {
            return static_cast<std::uint32_t>(high ? value >> 32 : value & 0xffffffff);
        }
        void set_half(std::uint64_t& value, std::uint32_t half_value) const {
            const unsigned shift = high ? 32 : 0;
            value = (value & ~(std::uint64_t{0xffffffff} << shift)) | std::uint64_t{half_value} << shift;
        }
    };
    static Place element(const isa::registers::Array& array, unsigned offset) {
        if (offset < array.offset) return {false, 0, false};
        const unsigned position = (offset - array.offset) / array.stride;
        const unsigned rest = (offset - array.offset) % array.stride;
        // A 64-bit argument is 12 bytes: low half, high half, reserved; a 32-bit one is 8: data, reserved.
        const bool exists = position < array.count && (rest == 0 || (rest == 4 && array.stride == 12));
        return {exists, position, rest == 4};
    }

    void start() {
        registers_ = written_;
        hetfab::dispatch_reset(state_);
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            instructions_[engine] = {};
            tokens_[engine] = {};
        }
        for (PortModel& port : ports_) port.reset();
        order_.start(written_by_program(), checks_order_);
        log_.clear();
        retired_.clear();
        message_.clear();
        turn_ = 0;
        random_.seed(seed_);
        running_ = true;
        done_ = false;
        progress_ = Progress::running;
    }

    void step(unsigned who) {
        const bool dispatches = who == isa::engine::count;
        if (!dispatches && instructions_[who].empty()) return;
        try {
            if (dispatches) {
                dispatch();
            } else {
                execute(who);
            }
        } catch (const hetfab::Race& race) {
            progress_ = Progress::fault;
            message_ = race.what();
        } catch (const std::exception& error) {
            progress_ = Progress::fault;
            message_ = where(who) + ": " + error.what();
        }
    }

    void dispatch() {
        hls::burst_maxi<Types::Instruction> program(ports_[dispatch_port]);
        const bool progress = hetfab::dispatch_pass(state_, registers_, program, instructions_, tokens_);
        status_ = hetfab::dispatch_status(state_);
        mark_retired();
        if (hetfab::dispatch_finished(state_, registers_)) {
            done_ = true;
            running_ = false;
            progress_ = state_.fault == isa::fault::none ? Progress::done : Progress::fault;
            if (state_.fault != isa::fault::none) message_ = fault_text();
        } else if (!progress && engines_idle()) {
            progress_ = Progress::deadlock;
            message_ = "no engine can step: " + dump();
        }
    }

    bool engines_idle() const {
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            if (!instructions_[engine].empty() || !tokens_[engine].empty()) return false;
        }
        return true;
    }

    // Index in the program of the instruction that an engine executes next.
    std::uint32_t current(unsigned engine) const {
        const std::uint32_t executed =
            state_.engine[engine].issued - static_cast<std::uint32_t>(instructions_[engine].size());
        return state_.issued_index[engine][state_.issued_place(executed)];
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
        const hetfab::sets::Word issued = halves(instructions_[engine].front());
#ifdef HETFAB_DEBUG
        const hetfab::DeclaredScope scope(declared, issued, order_.regions(issued));
#endif
        order_.enter(index, issued);
        for (PortModel& port : ports_) port.traffic = {};
        OverlayEvents events(accesses_);
        run(engine, events);
        order_.leave(index, issued);
        accesses_.end_instruction();
        for (const PortModel& checked : ports_) checked.check_idle();
        Record record = {};
        record.index = index;
        record.engine = static_cast<std::uint8_t>(engine);
        record.opcode = static_cast<std::uint8_t>(opcode);
        record.counts.cycles = events.cycles;
        const int data_port = engine == isa::engine::agg ? features_port : load_port;
        int port = 0;
        for (const int read_port : {data_port, static_cast<int>(graph_port)}) {
            record.counts.read_bytes[port] = ports_[read_port].traffic.read_bytes;
            record.counts.read_bursts[port] = ports_[read_port].traffic.read_bursts;
            port++;
        }
        record.counts.write_bytes = ports_[store_port].traffic.write_bytes;
        record.counts.write_bursts = ports_[store_port].traffic.write_bursts;
        record.counts.macs = events.mac_count;
        record.counts.edges = events.edge_count;
        if (log_.size() <= index) {
            log_.resize(index + 1);
            retired_.resize(index + 1);
        }
        log_[index] = record;
    }

    static hetfab::sets::Word halves(const Types::Instruction& instruction) {
        unsigned char bytes[hetfab::instruction_bytes];
        hetfab::write_bytes(instruction, bytes);
        hetfab::sets::Word word;
        std::memcpy(&word, bytes, sizeof word);
        return word;
    }

    // The DRAM that the program writes; all of it, if the program cannot be read.
    std::vector<hetfab::Range> written_by_program() {
        std::vector<hetfab::Range> written;
        try {
            const unsigned char* bytes =
                dram.resolve(registers_.segment_base[isa::segment::program],
                             std::uint64_t{registers_.program_length} * hetfab::instruction_bytes, false);
            for (std::uint32_t index = 0; index < registers_.program_length; index++) {
                Types::Instruction word;
                hetfab::read_bytes(word, bytes + std::uint64_t{index} * hetfab::instruction_bytes);
                const unsigned engine = hetfab::number<Family, isa::Header::Engine>(word);
                if (hetfab::dispatch_resolve<Design, Family>(registers_, engine, word)) {
                    hetfab::OrderCheck::add_written(halves(word), constants, written);
                }
            }
        } catch (const std::out_of_range&) {
            written = {{0, ~std::uint64_t{0}}};
        }
        return written;
    }

    unsigned peek_opcode(unsigned engine) const {
        return hetfab::number<Family, isa::Header::Opcode>(instructions_[engine].front());
    }

    void run(unsigned engine, OverlayEvents& events) {
        hls::stream<Types::Instruction>& in = instructions_[engine];
        hls::stream<Types::Token>& out = tokens_[engine];
        if (engine == isa::engine::load) {
            hls::burst_maxi<Types::Beat> memory(ports_[load_port]);
            hetfab::load_step<Design, Family>(in, out, memory, act_ram_.port(), wgt_ram_.port(),
                                              par_ram_.port(), events);
        } else if (engine == isa::engine::store) {
            hls::burst_maxi<Types::Beat> memory(ports_[store_port]);
            hetfab::store_step<Design, Family>(in, out, memory, out_ram_.port(), events);
        } else if (engine == isa::engine::gemm_d) {
            hetfab::gemm_d_step<Design, Family>(in, out, act_ram_.port(), wgt_ram_.port(), acc_ram_.port(),
                                                events);
        } else if (engine == isa::engine::vec) {
            hetfab::vec_step<Design, Family>(in, out, acc_ram_.port(), par_ram_.port(), sum_ram_.port(),
                                             out_ram_.port(), events);
        } else {
            check_groups(in.front());
            hls::burst_maxi<Types::Beat> features(ports_[features_port]);
            hls::burst_maxi<Types::Beat> graph(ports_[graph_port]);
            hetfab::agg_step<Design, Family>(in, out, features, graph, sum_ram_.port(), agg_context_.port(),
                                             events);
        }
    }

    // Hardware would read and write whole beats below the address.
    static void check_alignment(unsigned engine, unsigned opcode, const Types::Instruction& instruction) {
        if (!isa::carries_address(static_cast<int>(engine), static_cast<int>(opcode))) return;
        const auto address =
            static_cast<std::uint64_t>(hetfab::get<Family, isa::Address::Physical>(instruction));
        if (address % hetfab::beat_bytes != 0) {
            throw std::out_of_range("address " + hexadecimal(address) + " is not a multiple of " +
                                    std::to_string(hetfab::beat_bytes));
        }
    }

    // Hardware would wrap around its registers; here the sums would leave their array.
    static void check_groups(const Types::Instruction& instruction) {
        if (hetfab::number<Family, isa::Header::Opcode>(instruction) != isa::Reduce::opcode) return;
        const unsigned groups = hetfab::number<Family, isa::Reduce::Groups>(instruction);
        if (groups > Design::agg_groups) {
            throw std::out_of_range("reduce of " + std::to_string(groups) + " groups, the design has " +
                                    std::to_string(Design::agg_groups));
        }
    }

    void mark_retired() {
        for (const hetfab::EngineCounts& counts : state_.engine) {
            if (counts.last_retired != hetfab::no_instruction) retired_[counts.last_retired] = true;
        }
    }

    std::string fault_text() const {
        static const char* const texts[] = {"no fault", "it names an engine that the design does not have",
                                            "its engine does not know the opcode",
                                            "its address lies outside the segment",
                                            "it signals a semaphore that is at its largest count"};
        return "instruction " + std::to_string(state_.fault_instruction) + ": " + texts[state_.fault] + "; " +
               dump();
    }

    // The state dump: what waits in every queue, and the semaphores that are not zero.
    std::string dump() const {
        std::string text = std::to_string(state_.retired) + " of " +
                           std::to_string(registers_.program_length) + " instructions retired, " +
                           std::to_string(state_.fetched) + " fetched";
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
            const hetfab::EngineCounts& counts = state_.engine[engine];
            if (counts.issued == counts.queued) continue;
            const unsigned place = state_.queue_place(counts.issued);
            const Types::Instruction& word = state_.queue_word[engine][place];
            text += std::string("; ") + isa::engine_names[engine] + " holds instruction " +
                    std::to_string(state_.queue_index[engine][place]);
            for (const unsigned wait : {hetfab::number<Family, isa::Header::Wait0>(word),
                                        hetfab::number<Family, isa::Header::Wait1>(word)}) {
                if (wait == 0) continue;
                text += ", which waits for semaphore " + std::to_string(wait) + " (count " +
                        std::to_string(static_cast<unsigned>(state_.semaphore[wait])) + ")";
            }
        }
        return text;
    }

    hetfab::DispatchRegisters written_ = {};
    hetfab::DispatchRegisters registers_ = {};
    hetfab::DispatchState<Design, Family> state_ = {};
    // What the status registers show: as of DISPATCH's last pass, and zero before its first, as on a board.
    hetfab::DispatchStatus status_ = {};
    hls::stream<Types::Instruction> instructions_[isa::engine::count];
    hls::stream<Types::Token> tokens_[isa::engine::count];
    PortModel ports_[port_count];
    BankAccesses accesses_;
    Ram<Types::ActWord> act_ram_{memory::act_ram, Design::act_words, accesses_};
    Ram<Types::WgtWord> wgt_ram_{memory::wgt_ram, Design::wgt_words, accesses_};
    Ram<Types::ParWord> par_ram_{memory::par_ram, Design::par_words, accesses_};
    Ram<Types::AccWord> acc_ram_{memory::acc_ram, Design::acc_words, accesses_};
    Ram<Types::SumWord> sum_ram_{memory::sum_ram, Design::sum_words, accesses_};
    Ram<Types::OutWord> out_ram_{memory::out_ram, Design::out_words, accesses_};
    Ram<Types::Instruction> agg_context_{memory::agg_context, 4 * Design::agg_contexts, accesses_};
    std::map<std::string, RamModel*> rams_{
        {"act_ram", &act_ram_},         {"wgt_ram", &wgt_ram_}, {"par_ram", &par_ram_},
        {"acc_ram", &acc_ram_},         {"sum_ram", &sum_ram_}, {"out_ram", &out_ram_},
        {"agg_context", &agg_context_},
    };
    static constexpr hetfab::sets::Constants constants = hetfab::sets::constants_of<Design>();
    hetfab::OrderCheck order_{constants};
    bool checks_order_ = true;
    std::vector<Record> log_;
    std::vector<bool> retired_;
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

extern "C" {

void* hetfab_open() { return new Overlay; }

std::uint64_t hetfab_geometry_hash() { return Design::geometry_hash; }

void hetfab_close(void* overlay) { delete static_cast<Overlay*>(overlay); }

void hetfab_map(void* overlay, std::uint64_t address, unsigned char* bytes, std::uint64_t size) {
    static_cast<Overlay*>(overlay)->dram.map(address, bytes, size);
}

void hetfab_unmap(void* overlay, std::uint64_t address) {
    static_cast<Overlay*>(overlay)->dram.unmap(address);
}

std::uint32_t hetfab_read_register(void* overlay, std::uint32_t offset) {
    return static_cast<Overlay*>(overlay)->read_register(offset);
}

void hetfab_write_register(void* overlay, std::uint32_t offset, std::uint32_t value) {
    static_cast<Overlay*>(overlay)->write_register(offset, value);
}

void hetfab_check_order(void* overlay, int check) { static_cast<Overlay*>(overlay)->check_order(check != 0); }

int hetfab_advance(void* overlay, std::uint64_t passes, std::uint32_t seed) {
    return static_cast<int>(static_cast<Overlay*>(overlay)->advance(passes, seed));
}

const char* hetfab_message(void* overlay) { return static_cast<Overlay*>(overlay)->message().c_str(); }

std::uint64_t hetfab_run_log(void* overlay, void* records, std::uint64_t capacity) {
    return static_cast<Overlay*>(overlay)->log(static_cast<Record*>(records), capacity);
}

// What debug builds have seen of a loop since the overlay was opened.
std::uint64_t hetfab_loop_trips(void* overlay, std::uint32_t loop) {
    return static_cast<Overlay*>(overlay)->bank_accesses().trips(loop);
}

std::uint32_t hetfab_bank_accesses(void* overlay, std::uint32_t loop, const char* memory) {
    return static_cast<Overlay*>(overlay)->bank_accesses().largest(loop, memory);
}

int hetfab_read_ram(void* overlay, const char* name, std::uint64_t word, std::uint64_t count,
                    unsigned char* bytes) {
    const RamModel* ram = static_cast<Overlay*>(overlay)->ram(name);
    return ram != nullptr && ram->read(word, count, bytes) ? 0 : 1;
}

int hetfab_write_ram(void* overlay, const char* name, std::uint64_t word, std::uint64_t count,
                     const unsigned char* bytes) {
    RamModel* ram = static_cast<Overlay*>(overlay)->ram(name);
    return ram != nullptr && ram->write(word, count, bytes) ? 0 : 1;
}
}
