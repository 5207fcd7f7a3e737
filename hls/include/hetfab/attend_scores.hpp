// SPDX-License-Identifier: Apache-2.0
// Logits of edges: the largest one of each destination and head, or how far each edge is below it.
#pragma once

#include "attend_tile.hpp"
#include "rounding.hpp"
#include "row_requests.hpp"

namespace hetfab {

// Where a pass over the edges of a tile is: records are read two ahead of their use, as the gather's.
template <class Z>
class EdgeWalk {
  public:
    EdgeWalk(const Destination<Z> (&destinations)[agg_runs], const ReduceTile& tile)
        : rows_(tile.rows),
          parts_(tile.parts),
          current_(destinations[0]),
          next_(destinations[1]),
          edges_left_(destinations[0].degree) {}

    // The destination among those of the tile, and which of its runs.
    unsigned row() const { return row_; }
    unsigned part() const { return part_; }
    bool done() const { return part_ == parts_; }
    unsigned row_ahead() const { return (record_ + 2) % agg_runs; }
    bool has_edge() const { return current_.degree != 0; }
    bool first_edge() const { return first_edge_; }
    bool last_edge() const { return edges_left_ <= 1; }

    // After the last trip of an edge, or of a destination without edges.
    void advance(const Destination<Z>& ahead) {
#pragma HLS INLINE
        first_edge_ = last_edge();
        if (!last_edge()) {
            edges_left_--;
            return;
        }
        record_++;
        row_ = row_ + 1 == rows_ ? 0 : row_ + 1;
        if (row_ == 0) part_++;
        current_ = next_;
        next_ = ahead;
        edges_left_ = current_.degree;
    }

  private:
    unsigned rows_;
    unsigned parts_;
    Destination<Z> current_;
    Destination<Z> next_;
    unsigned record_ = 0;
    unsigned row_ = 0;
    unsigned part_ = 0;
    unsigned edges_left_;
    bool first_edge_ = true;
};

// Some consecutive edges of a tile; the last ones bring the destinations without edges behind them.
struct EdgeChunk {
    unsigned edges;
    bool last;

    template <class Z>
    bool holds(unsigned edge, const EdgeWalk<Z>& walk) const {
        return edge < edges || (last && !walk.done());
    }
};

// A sum of scores times the slope, in LUTs: a design for attention has few DSPs left. With a divider for each
// channel it has fewer LUTs.
template <class D, class Z>
S<Z, 33> sloped_score(const S<Z, 16>& total, unsigned slope) {
#pragma HLS INLINE
    if constexpr (divides_groups(D::agg_word_beats)) {
        const S<Z, 33> sloped = product<Z, 33>(total, U<Z, 16>(slope));
#pragma HLS BIND_OP variable=sloped op=mul impl=dsp
        return sloped;
    } else {
        const S<Z, 33> sloped = product<Z, 33>(total, U<Z, 16>(slope));
#pragma HLS BIND_OP variable=sloped op=mul impl=fabric
        return sloped;
    }
}

// A logit from the scores of an edge's ends and its type: negative sums times the slope.
template <class D, class Z>
S<Z, 16> additive_logit(const S<Z, 16>& source, const S<Z, 16>& target, const S<Z, 16>& type,
                        unsigned slope) {
#pragma HLS INLINE
    const S<Z, 16> total = saturate<Z, 16>(sum<Z, 18>(sum<Z, 17>(source, target), type));
    const S<Z, 34> rounded = sum<Z, 34>(sloped_score<D, Z>(total, slope), S<Z, 13>(1 << (slope_bits - 1)));
    return total < 0 ? saturate<Z, 16>(S<Z, 34>(rounded >> slope_bits)) : total;
}

// The product of a beat of a key and a beat of a query, in LUTs.
template <class D, class Z>
S<Z, 20> beat_product(const Word<Z, 64>& key, const Word<Z, 64>& query) {
#pragma HLS INLINE
    S<Z, 20> total = 0;
key_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 16> scaled = product<Z, 16>(lane_s<Z, 8>(key, lane), lane_s<Z, 8>(query, lane));
#pragma HLS BIND_OP variable=scaled op=mul impl=fabric
        total = sum<Z, 20>(total, scaled);
    }
    return total;
}

// The logits of an edge, beat by beat.
template <class D, class Z>
class EdgeLogits {
  public:
    explicit EdgeLogits(const AttendTile& tile)
        : dot_(tile.dot()),
          head_beats_(tile.head_beats),
          factor_(tile.factor),
          distance_(U<Z, 6>(tile.shift)) {}

    // Takes the beats of its source, its target and its type.
    void add(unsigned beat, const Word<Z, 64>& source, const Word<Z, 64>& target, const Word<Z, 64>& type) {
#pragma HLS INLINE
        if (beat == 0) {
            head_ = 0;
            head_beat_ = 0;
        }
        const S<Z, 32> before = head_beat_ == 0 ? S<Z, 32>(0) : products_;
        if (dot_) products_ = wrap<Z, 32>(sum<Z, 33>(before, beat_product<D, Z>(source, target)));
        const S<Z, 49> scaled = product<Z, 49>(products_, U<Z, 16>(factor_));
        const S<Z, 16> of_products = shifted<Z, 16>(scaled, distance_);
        const bool ends_head = head_beat_ + 1 == head_beats_;
        S<Z, 16> of_scores[scores_per_beat];
#pragma HLS ARRAY_PARTITION variable = of_scores type = complete dim = 0
    logit_lanes:
        for (unsigned lane = 0; lane < scores_per_beat; lane++) {
#pragma HLS UNROLL factor=scores_per_beat
            of_scores[lane] = additive_logit<D, Z>(lane_s<Z, 16>(source, lane), lane_s<Z, 16>(target, lane),
                                                   lane_s<Z, 16>(type, lane), factor_);
        }
    logit_heads:
        for (unsigned head = 0; head < D::agg_heads; head++) {
#pragma HLS UNROLL factor=D::agg_heads
            const bool in_beat = dot_ ? ends_head && head == head_ : head / scores_per_beat == beat;
            if (in_beat) logits_[head] = dot_ ? of_products : of_scores[head % scores_per_beat];
        }
        head_beat_ = ends_head ? 0 : head_beat_ + 1;
        if (ends_head) head_++;
    }

    S<Z, 16> of(unsigned head) const { return logits_[head]; }

  private:
    bool dot_;
    unsigned head_beats_;
    unsigned factor_;
    Distance<Z, 16> distance_;
    S<Z, 16> logits_[D::agg_heads] = {};
    S<Z, 32> products_ = 0;
    unsigned head_ = 0;
    unsigned head_beat_ = 0;
};

// How far a logit is below the largest one, at most the first gap that weighs nothing.
template <class Z>
U<Z, 12> gap_below(const S<Z, 16>& largest, const S<Z, 16>& logit) {
#pragma HLS INLINE
    const S<Z, 17> gap = sum<Z, 17>(largest, S<Z, 17>(-logit));
    if (gap < 0 || gap > static_cast<int>(isa::exponentials)) return isa::exponentials;
    return U<Z, 12>(gap);
}

// Requests the rows of scores of the first edges of a chunk.
template <class Z, class MemF, class MemG, class TagRam, class Events>
void request_scores_ahead(unsigned beats, RowRequests<Z>& requests, EntryReader<Z>& entries, MemF features,
                          MemG graph, TagRam tag_ram, RowsStream<Z>& rows_fifo, Events& events) {
#pragma HLS INLINE
    const unsigned ahead = rows_ahead(beats);
    unsigned trips = 0;
scores_ahead:
    while (trips < ahead && requests.wants()) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::attend_scores_ahead);
        requests.look(entries.next(graph, rows_fifo), tag_ram);
        requests.issue(features, tag_ram);
        trips++;
    }
    events.loop(isa::loops::attend_scores_ahead, trips);
}

// One pass over a chunk of edges: the largest logits of their destinations, or what edges are below them.
// Returns the trips.
template <class D, class Z, class MemF, class MemG, class TagRam, class Events>
unsigned compare_edges(const AttendTile& tile, const EdgeChunk& chunk, bool maxima,
                       const Destination<Z> (&destinations)[agg_runs], EdgeWalk<Z>& walk,
                       EntryReader<Z>& entries, AttendMemories<D, Z>& kept, MemF features, MemG graph,
                       TagRam tag_ram, RowsStream<Z>& rows_fifo, Events& events) {
#pragma HLS INLINE
    static_assert(
        rows_ahead_cover(isa::score_beats, 1, isa::loops::attend_scores.depth),
        "a row is requested more trips before its first beat than the pipeline of scores has stages");
    RowRequests<Z> requests(tile.score_rows(), chunk.edges);
    request_scores_ahead<Z>(tile.score_beats, requests, entries, features, graph, tag_ram, rows_fifo, events);
    EdgeLogits<D, Z> logits(tile);
    S<Z, 16> largest[D::agg_heads] = {};
#pragma HLS ARRAY_PARTITION variable = largest type = complete dim = 0
    unsigned edge = 0;
    unsigned beat = 0;
    unsigned trips = 0;
    EdgeRow place = {false, false, 0, {0, 0, 1}};
score_beats:
    while (chunk.holds(edge, walk)) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
#pragma HLS PIPELINE II=1 style=stp
// A pass writes the maxima or reads them, but where it merges: then each is read before it is written, and
// the next run of its destination comes 16 rows later at least.
#pragma HLS DEPENDENCE variable=kept.maxima type=inter dependent=false
        events.trip(isa::loops::attend_scores);
        const Destination<Z> ahead = destinations[walk.row_ahead()];
        const bool last_beat = beat + 1 == tile.score_beats;
        if (walk.has_edge() && beat == 0) {
            place = requests.take();
            if (requests.wants()) requests.look(entries.next(graph, rows_fifo), tag_ram);
        }
        if (walk.has_edge()) {
            const auto type = static_cast<unsigned>(place.entry.weight & 255);
            const Word<Z, 64> of_type =
                tile.typed() ? kept.types[(type * tile.score_beats + beat) % isa::type_beats] : zero<Z, 64>();
            logits.add(beat, features.read(), kept.targets[walk.row() * tile.score_beats + beat], of_type);
        }
    maxima_heads:
        for (unsigned head = 0; head < D::agg_heads; head++) {
#pragma HLS UNROLL factor=D::agg_heads
            if (!last_beat) continue;
            const S<Z, 16> stored = tile.reads_spilled() || !maxima || walk.part() != 0
                                        ? kept.maxima[walk.row()][head]
                                        : S<Z, 16>(no_logit);
            const S<Z, 16> before = walk.first_edge() ? stored : largest[head];
            const bool larger = walk.has_edge() && head < tile.heads && logits.of(head) > before;
            largest[head] = larger ? logits.of(head) : before;
            if (maxima && walk.last_edge()) {
                kept.maxima[walk.row()][head] = head < tile.heads ? largest[head] : S<Z, 16>(0);
            }
            if (!maxima && walk.has_edge()) kept.gaps[edge][head] = gap_below<Z>(stored, logits.of(head));
        }
        if (last_beat && walk.has_edge()) {
            requests.issue(features, tag_ram);
            if (!maxima) kept.vertices[edge] = place.entry.id;
            edge++;
        }
        if (last_beat) walk.advance(ahead);
        beat = last_beat ? 0 : beat + 1;
        trips++;
    }
    events.loop(isa::loops::attend_scores, trips);
    return trips;
}

}  // namespace hetfab
