# SPDX-License-Identifier: Apache-2.0
"""The instructions of a layer: loads of parameters and weights, AGG's contexts, and what one tile of rows takes.

In a tile LOAD brings activations to both cores (and weights, unless one step over the input channels takes all of
them), the cores accumulate over these steps, AGG reduces each edge set, VEC joins and rounds each core's output
channels, STORE writes the rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hetfab.overlay.compiler.constants import Columns
from hetfab.overlay.compiler.edge_reads import AttentionRead, EdgeRead, score_beats
from hetfab.overlay.compiler.emitter import Affine, Emitter, slot_of, tensor_address
from hetfab.overlay.compiler.lowered import SCORE_BITS, DenseTerm, Table
from hetfab.overlay.compiler.planning import PlannedLayer
from hetfab.overlay.compiler.scratchpad import ScratchpadPart, places_in_scratchpad, scratchpad_part
from hetfab.overlay.compiler.semaphores import Semaphore
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceMode, ReduceSource, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import PLANE_CHANNELS, blocks_of, padded
from hetfab.overlay.model.scales import LARGEST_POST_LEFT
from hetfab.overlay.program import Symbol, SymbolKind

_BLOCK = isa().block_bytes
_BEAT = 8
#: Half words of out_ram that a group of lanes channels takes, by the bits of a value in DRAM.
_HALF_WORDS = {4: 1, 8: 2, 16: 4, 32: 8}


@dataclass(frozen=True)
class _Part:
    """The output channels of one instruction of VEC: a core's, or all where there is no dense term."""

    on_l: bool
    first_group: int
    channels: int
    first: bool
    last: bool


class LayerCode:
    """Emits the instructions of layers into an emitter's open block."""

    def __init__(
        self, emitter: Emitter, geometry: Geometry, source: ReduceSource, in_parts: Collection[str] = ()
    ) -> None:
        self.emitter = emitter
        self._geometry = geometry
        self._source = source
        self._in_parts = in_parts

    def load_numbers(
        self,
        planned: PlannedLayer,
        columns: Columns,
        function: int,
        *,
        waits: Sequence[Semaphore],
        signals: Sequence[Semaphore],
    ) -> None:
        """What VEC reads in a pass beside sums: bias and multipliers, a table.

        Args:
            planned: The layer.
            columns: The output channels of the pass.
            function: Offset of the table's entries in the constants, -1 for no table.
            waits: Of the first copy.
            signals: Of the last one.
        """
        layer = planned.layer
        if layer.has_parameters:
            self._load_parameters(planned, columns, waits=waits, signals=() if layer.table else signals)
        if layer.table is not None:
            before = () if layer.has_parameters else waits
            self._load_function(layer.table, function, waits=before, signals=signals)

    def _load_parameters(
        self, planned: PlannedLayer, columns: Columns, *, waits: Sequence[Semaphore], signals: Sequence[Semaphore]
    ) -> None:
        """Bias and multipliers of a pass, and what a normalization reads beside them, to the next slot."""
        self.emitter.take("par_ram")
        words = self._groups(columns.range.on_d) + self._groups(columns.range.on_l)
        if planned.layer.normalization is not None:
            words = 2 * words + 1
        self._copy("load_parameters", "par_ram", columns.parameters, words, waits=waits, signals=signals)

    def _load_function(
        self, table: Table, offset: int, *, waits: Sequence[Semaphore], signals: Sequence[Semaphore]
    ) -> None:
        """The entries of a function."""
        words = padded(table.entries.size, 8 * isa().size("fun_unit")) // 8
        address = program_address(Segment.CONSTANTS, offset)
        fields: dict[str, int | Affine] = {"ram": 0, "words": words, "address": address}
        self.emitter.emit("load_function", fields, waits=waits, signals=signals)

    def load_weights(
        self,
        planned: PlannedLayer,
        columns: Columns,
        step: int,
        *,
        signals: tuple[Sequence[Semaphore], Sequence[Semaphore]] = ((), ()),
    ) -> None:
        """The weight tiles of one step over the input channels, to the next slot of each core that the pass uses.

        Args:
            planned: The layer.
            columns: The output channels of the pass.
            step: Which step.
            signals: Of GEMM-D's copy and of GEMM-L's.
        """
        if columns.range.on_d:
            self.emitter.take("wgt_d_ram")
            words = self._d_groups(columns) * 2 * planned.step_blocks(step) * _BLOCK // _BEAT
            self._copy("load_weights", "wgt_d_ram", columns.weights[step], words, signals=signals[0])
        if columns.range.on_l and planned.operands is not None:
            self.emitter.take("wgt_l_ram")
            words = self._l_groups(columns) * self._row_words(planned, step) * columns.range.planes
            self._copy("load_planes", "wgt_l_ram", columns.planes[step], words, signals=signals[1])

    def weights_on_d(self, planned: PlannedLayer, step: int) -> int | Affine:
        """What a matmul names as its weights: the slot that was loaded last."""
        return slot_of("wgt_d_ram")

    def tile(self, planned: PlannedLayer, columns: Columns, reads: Sequence[EdgeRead], rows: int | Affine) -> None:
        """All of a tile of ``rows`` rows."""
        if planned.layer.product is not None:
            self._matmuls(planned.layer.product, planned, columns, rows)
        if reads:
            self._reductions(planned, columns, reads, rows)
        self.emitter.take("out_ram")
        for part in self._parts(planned, columns):
            self._vector(planned, columns, part, rows)
        self._store(planned, columns, rows)

    def _copy(
        self,
        operation: str,
        ring: str,
        offset: int,
        words: int,
        *,
        waits: Sequence[Semaphore] = (),
        signals: Sequence[Semaphore] = (),
    ) -> None:
        """A copy of words from the constants segment to a slot."""
        address = program_address(Segment.CONSTANTS, offset)
        fields: dict[str, int | Affine] = {"ram": slot_of(ring), "words": words, "address": address}
        self.emitter.emit(operation, fields, waits=waits, signals=signals)

    def contexts(self, planned: PlannedLayer, reads: Sequence[EdgeRead], columns: Columns) -> None:
        """Tells AGG about all edge sets of a layer, if it can keep as many."""
        if not self._share_a_context(reads):
            for slot, read, part in zip(_slots(reads), reads, self._scratchpad(planned, reads, columns), strict=True):
                self._context(slot, read, part)

    def _share_a_context(self, reads: Sequence[EdgeRead]) -> bool:
        """Whether AGG cannot keep contexts of all edge sets of a layer."""
        return sum(read.contexts for read in reads) > self._geometry.agg_contexts

    def _scratchpad(self, planned: PlannedLayer, reads: Sequence[EdgeRead], columns: Columns) -> list[ScratchpadPart]:
        """What each edge set has of the scratchpad; edges with weights, and attention, have no schedule."""
        shared = self._share_a_context(reads)
        groups = self._groups(columns.range.count)
        if not shared and any(self._is_in_parts(planned, read, groups) for read in reads):
            return self._scratchpad_by_parts(planned, reads, groups)
        scheduled = self._source is ReduceSource.SCHEDULE
        source = ReduceSource.TAGS if scheduled and any(read.weighted for read in reads) else self._source
        if scheduled and any(read.attention is not None for read in reads):
            # A row takes as many trips of AGG as beats of its port: tags would save bytes, and no time.
            source = ReduceSource.DRAM
        places = places_in_scratchpad(reads, source)
        part = scratchpad_part(self._geometry, source, len(set(places)), groups, shared=shared)
        return [replace(part, first_block=place * part.blocks) for place in places]

    def _is_in_parts(self, planned: PlannedLayer, read: EdgeRead, groups: int) -> bool:
        """Whether an edge set is read in parts; sums of a part stay beside those that results are added to."""
        room = read.attention is not None or 2 * planned.tile.rows * groups <= self._geometry.sum_words
        # Tags take two trips of every row.
        gains = max(-(-groups // self._geometry.agg_word_beats), 2) < groups
        return read.edges in self._in_parts and not read.weighted and room and gains

    def _scratchpad_by_parts(
        self, planned: PlannedLayer, reads: Sequence[EdgeRead], groups: int
    ) -> list[ScratchpadPart]:
        """What is read in parts has the scratchpad; other edge sets read DRAM, unless they read the same rows."""
        parted = [read for read in reads if self._is_in_parts(planned, read, groups)]
        tables = list(dict.fromkeys(read.address for read in parted))
        part = scratchpad_part(self._geometry, ReduceSource.TAGS, len(tables), groups, shared=False)
        if not part.slots:  # So many tables leave no room for a row of each.
            return [ScratchpadPart(ReduceSource.DRAM)] * len(reads)
        return [
            replace(
                part,
                first_block=tables.index(read.address) * part.blocks,
                tile_rows=planned.tile.rows if read in parted else 0,
            )
            if read.address in tables
            else ScratchpadPart(ReduceSource.DRAM)
            for read in reads
        ]

    def _context(self, slot: int, read: EdgeRead, part: ScratchpadPart) -> None:
        """Tells AGG where the arrays of an edge set are, the rows that its ids name, and where rows are kept."""
        records, entries, count = part.symbols(read.edges)
        self.emitter.emit(
            "configure_features",
            {
                "slot": slot,
                "row_blocks": read.row_blocks,
                "first_block": part.first_block,
                "slot_bits": part.slot_bits,
                "count": read.rows,
                "address": read.address,
            },
        )
        self.emitter.emit(
            "configure_destinations",
            {
                "slot": slot,
                "parts": Affine(symbol=replace(records, kind=SymbolKind.PARTS)) if part.tile_rows else 0,
                "count": Affine(symbol=Symbol(SymbolKind.COUNT, read.destination_type)),
                "address": Affine(symbol=records),
            },
        )
        self.emitter.emit(
            "configure_ids",
            {
                "slot": slot,
                "edges": Affine(symbol=count),
                "id_bytes": Affine(symbol=Symbol(SymbolKind.ID_BYTES, read.edges)),
                "address": Affine(symbol=entries),
            },
        )
        if read.attention is not None:
            self._scores_context(slot + 1, read.attention)

    def _scores_context(self, slot: int, attention: AttentionRead) -> None:
        """Tells AGG where the scores of an edge set are."""
        ends = {"configure_sources": attention.sources, "configure_targets": attention.targets}
        for operation, rows in ends.items():
            fields = {"scores": slot, "row_beats": rows.row_beats, "count": rows.count, "address": rows.address}
            if operation == "configure_sources":
                fields["head_beats"] = attention.head_beats
            self.emitter.emit(operation, fields)
        if attention.types is not None:
            fields = {"scores": slot, "count": attention.types.count, "address": attention.types.address}
            self.emitter.emit("configure_types", fields)

    def _matmuls(self, dense: DenseTerm, planned: PlannedLayer, columns: Columns, rows: int | Affine) -> None:
        for ring in ("acc_d_ram",) * bool(columns.range.on_d) + ("acc_l_ram",) * bool(columns.range.on_l):
            self.emitter.take(ring)
        for step in range(planned.steps):
            self._load_activations(dense, planned, columns, step, rows)
            if not planned.tile.resident:
                full = ([Semaphore.ACT_D_FULL], [Semaphore.ACT_L_FULL])
                self.load_weights(planned, columns, step, signals=full)
            if columns.range.on_d:
                self._matmul(dense, planned, columns, step, rows)
            if columns.range.on_l:
                self._matmul_planes(dense, planned, columns, step, rows)

    def _load_activations(
        self, dense: DenseTerm, planned: PlannedLayer, columns: Columns, step: int, rows: int | Affine
    ) -> None:
        """Brings a tile once, to every core that the pass uses."""
        assert planned.operands is not None
        tile, on_d, on_l = planned.tile, columns.range.on_d > 0, columns.range.on_l > 0
        source = planned.source(dense, step)
        fields: dict[str, int | Affine] = {
            "rows": rows,
            "to_d": int(on_d),
            "to_l": int(on_l),
            "packed": int(planned.operands.packed),
            "row_blocks": planned.step_blocks(step),
            "stride_blocks": source.stride_blocks,
            "address": tensor_address(source.tensor.name, source.offset, tile.rows * source.stride_blocks * _BLOCK),
        }
        if on_d:
            self.emitter.take("act_d_ram")
            fields["ram_d"] = slot_of("act_d_ram")
        if on_l:
            self.emitter.take("act_l_ram")
            fields["ram_l"] = slot_of("act_l_ram")
        full = [*([Semaphore.ACT_D_FULL] * on_d), *([Semaphore.ACT_L_FULL] * on_l)]
        self.emitter.emit(
            "load_activations",
            fields,
            waits=[*([Semaphore.ACT_D_FREE] * on_d), *([Semaphore.ACT_L_FREE] * on_l)],
            signals=full if tile.resident else [],
        )

    def _matmul(self, dense: DenseTerm, planned: PlannedLayer, columns: Columns, step: int, rows: int | Affine) -> None:
        assert planned.operands is not None
        self.emitter.emit(
            "matmul",
            {
                "act": slot_of("act_d_ram"),
                "wgt": self.weights_on_d(planned, step),
                "accumulate": int(step > 0),
                "unsigned": int(not planned.source(dense, step).tensor.signed),
                "packed": int(planned.operands.packed),
                "acc": slot_of("acc_d_ram"),
                "rows": rows,
                "row_beats": planned.step_blocks(step) * _BLOCK // _BEAT,
                "col_groups": self._d_groups(columns),
            },
            waits=[Semaphore.ACT_D_FULL, *([Semaphore.ACC_D_FREE] if step == 0 else [])],
            signals=[Semaphore.ACT_D_FREE, *([Semaphore.ACC_D_FULL] if step == planned.steps - 1 else [])],
        )

    def _matmul_planes(
        self, dense: DenseTerm, planned: PlannedLayer, columns: Columns, step: int, rows: int | Affine
    ) -> None:
        operands = planned.operands
        assert operands is not None
        self.emitter.emit(
            "matmul_planes",
            {
                "act": slot_of("act_l_ram"),
                "wgt": slot_of("wgt_l_ram"),
                "accumulate": int(step > 0),
                "unsigned": int(not planned.source(dense, step).tensor.signed),
                "slices": operands.slices,
                "bipolar": int(columns.range.planes == 1),
                "acc": slot_of("acc_l_ram"),
                "rows": rows,
                "row_words": self._row_words(planned, step),
                "planes": columns.range.planes,
                "col_groups": self._l_groups(columns),
            },
            waits=[Semaphore.ACT_L_FULL, *([Semaphore.ACC_L_FREE] if step == 0 else [])],
            signals=[Semaphore.ACT_L_FREE, *([Semaphore.ACC_L_FULL] if step == planned.steps - 1 else [])],
        )

    def _reductions(
        self, planned: PlannedLayer, columns: Columns, reads: Sequence[EdgeRead], rows: int | Affine
    ) -> None:
        """Sums over all edge sets: means, or for weights multiples of sums (docs/arithmetic.md)."""
        self.emitter.take("sum_ram")
        many = self._share_a_context(reads)
        groups = self._groups(columns.range.count)
        by_read = zip(_slots(reads), reads, self._scratchpad(planned, reads, columns), strict=True)
        for number, (slot, read, part) in enumerate(by_read):
            if many:
                self._context(0, read, part)
            fields: dict[str, int | Affine] = {
                "slot": 0 if many else slot,
                "rows": rows,
                "unsigned": int(read.unsigned),
                "accumulate": int(number > 0),
                "source": part.source,
                "destination": Affine(0, planned.tile.rows),
                "sum": slot_of("sum_ram"),
            }
            if read.attention is None:
                fields |= {"mode": ReduceMode.MEAN, "weighted": int(read.weighted), "groups": groups}
            else:
                fields |= _attend_fields(read.attention, 1 if many else slot + 1, groups)
            self.emitter.emit(
                "reduce" if read.attention is None else "attend",
                fields,
                waits=[Semaphore.SUM_FREE] if number == 0 else [],
                signals=[Semaphore.SUM_FULL] if number == len(reads) - 1 else [],
            )

    def _parts(self, planned: PlannedLayer, columns: Columns) -> list[_Part]:
        """VEC's instructions for a tile."""
        on_d, on_l = columns.range.on_d, columns.range.on_l
        if planned.layer.product is None or not on_l:
            return [_Part(False, 0, columns.range.count, True, True)]
        parts = [_Part(True, self._groups(on_d), on_l, not on_d, True)]
        return [_Part(False, 0, on_d, True, False), *parts] if on_d else parts

    def _vector(self, planned: PlannedLayer, columns: Columns, part: _Part, rows: int | Affine) -> None:
        layer = planned.layer
        first_word = part.first_group * _HALF_WORDS[planned.output_bits] // 2
        last_word = self._row_beats(planned, columns)
        own_words = self._groups(part.channels) * _HALF_WORDS[planned.output_bits] // 2
        scores, table = layer.output.bits == SCORE_BITS, layer.table
        available: dict[str, int | Affine] = {
            "core": int(part.on_l),
            "acc": slot_of("sum_ram" if layer.from_sum else "acc_l_ram" if part.on_l else "acc_d_ram"),
            "from_sum": int(layer.from_sum),
            "sum": slot_of("sum_ram", part.first_group),
            "sum_groups": self._groups(columns.range.count) - 1,
            "signed": int(table.signed if table else layer.output.signed and not layer.relu),
            "width": (table.bits if table else layer.output.bits) - 1,
            "mapped": int(table is not None),
            "highest": layer.output.highest,
            "packed": int(planned.packed_output),
            "with_acc": int(layer.dense is not None),
            "out": slot_of("out_ram", first_word),
            "par": slot_of("par_ram", part.first_group),
            "rows": rows,
            "groups": self._groups(part.channels),
            "row_blocks": 0 if scores else blocks_of(self._row_beats(planned, columns) * _BEAT),
            "row_words": last_word - first_word if part.last else own_words,
            "shift": layer.shift,
            "post_shift": LARGEST_POST_LEFT - layer.post_left + layer.post_shift,
        }
        if layer.normalization is not None:
            available["post_shift"] = layer.normalization.shift
        names = {field.name for field in isa().operation(layer.operation).fields}
        unread = set() if layer.has_parameters else {"acc", "par"}
        full, free = (
            (Semaphore.ACC_L_FULL, Semaphore.ACC_L_FREE) if part.on_l else (Semaphore.ACC_D_FULL, Semaphore.ACC_D_FREE)
        )
        self.emitter.emit(
            layer.operation,
            {name: value for name, value in available.items() if name in names - unread},
            # The last of three goes to a sync: FULL, which nothing else can imply.
            waits=[
                *([Semaphore.OUT_FREE] if part.first else []),
                *([full] if layer.product else []),
                *([Semaphore.SUM_FULL] if layer.aggregates and part.first else []),
            ],
            signals=[
                *([free] if layer.product else []),
                *([Semaphore.SUM_FREE] if layer.aggregates and part.last else []),
                *([Semaphore.OUT_FULL] if part.last else []),
            ],
        )

    def _store(self, planned: PlannedLayer, columns: Columns, rows: int | Affine) -> None:
        output = planned.layer.output
        if output.bits == SCORE_BITS:
            self._store_scores(planned, columns, rows)
            return
        row_blocks = blocks_of(-(-output.channels * planned.output_bits // 8))
        self.emitter.emit(
            "store_rows",
            {
                "ram": slot_of("out_ram"),
                "rows": rows,
                "row_beats": self._row_beats(planned, columns),
                "stride_blocks": row_blocks,
                "address": tensor_address(
                    output.name,
                    columns.range.first * planned.output_bits // 8,
                    planned.tile.rows * row_blocks * _BLOCK,
                ),
            },
            waits=[Semaphore.OUT_FULL],
            signals=[Semaphore.OUT_FREE],
        )

    def _store_scores(self, planned: PlannedLayer, columns: Columns, rows: int | Affine) -> None:
        """Rows of scores, which follow each other in out_ram and in DRAM."""
        output, beats = planned.layer.output, self._row_beats(planned, columns)
        last = replace(rows, constant=rows.constant - 1) if isinstance(rows, Affine) else rows - 1
        # Only a stride of all rows of one beat follows from a symbol; longer rows are copied one by one.
        joined = beats == 1
        self.emitter.emit(
            "store_runs",
            {
                "ram": slot_of("out_ram"),
                "banks": 1,
                "columns": last,
                "ram_banks": 1,
                "row_beats": beats,
                "joined": int(joined),
                "pixel_stride": rows if joined else beats,
                "address": tensor_address(output.name, 0, planned.tile.rows * beats * _BEAT),
            },
            waits=[Semaphore.OUT_FULL],
            signals=[Semaphore.OUT_FREE],
        )

    def _row_beats(self, planned: PlannedLayer, columns: Columns) -> int:
        """Beats of a row that a pass writes: whole ones of its channels, and in the last pass the padding too."""
        chosen, channels = columns.range, planned.layer.output.channels
        if planned.layer.output.bits == SCORE_BITS:
            return score_beats(channels)
        if chosen.first + chosen.count < channels:
            return chosen.count * planned.output_bits // (8 * _BEAT)
        row = blocks_of(-(-channels * planned.output_bits // 8)) * _BLOCK
        return (row - chosen.first * planned.output_bits // 8) // _BEAT

    def _row_words(self, planned: PlannedLayer, step: int) -> int:
        """Words of 32 channels in a step's part of a row."""
        assert planned.operands is not None
        return planned.step_blocks(step) * _BLOCK * 8 // planned.operands.activation_bits // PLANE_CHANNELS

    def _groups(self, channels: int) -> int:
        return -(-channels // self._geometry.lanes)

    def _d_groups(self, columns: Columns) -> int:
        return -(-columns.range.on_d // self._geometry.gemm_d_cols)

    def _l_groups(self, columns: Columns) -> int:
        return -(-columns.range.on_l // self._geometry.gemm_l_cols)


def _slots(reads: Sequence[EdgeRead]) -> list[int]:
    """The first context of each edge set."""
    return [sum(read.contexts for read in reads[:number]) for number in range(len(reads))]


def _attend_fields(attention: AttentionRead, scores: int, groups: int) -> dict[str, int | Affine]:
    """What ``attend`` says beside ``reduce``: both passes at once, nothing spilled."""
    return {
        "scores": scores,
        "kind": attention.kind,
        "maxima": 1,
        "weigh": 1,
        "heads": attention.heads,
        "head_groups": groups // attention.heads,
        "shift": attention.shift,
        "factor": attention.factor,
    }
