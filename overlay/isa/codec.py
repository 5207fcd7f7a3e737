# SPDX-License-Identifier: Apache-2.0
"""Packers of the instruction set, one function per operation, and its enumerations.

Generated from ``isa.json`` by ``python -m hetfab.overlay.isa.generate``; do not edit.
"""

from enum import IntEnum
from operator import index

from hetfab.overlay.errors import FieldRangeError


class Engine(IntEnum):
    """Engines by their id in the header."""

    LOAD = 0
    STORE = 1
    GEMM_D = 2
    GEMM_L = 3
    VEC = 4
    AGG = 5
    SGB = 6
    DW = 7
    RST = 8


class Segment(IntEnum):
    """Segments of DRAM."""

    PROGRAM = 0
    CONSTANTS = 1
    FEATURES = 2
    GRAPH = 3
    ACTIVATIONS = 4
    OUTPUT = 5
    SPILL = 6
    LOG = 7


class ReduceMode(IntEnum):
    """Values of the field ``mode`` of ``reduce``."""

    SUM = 0
    MEAN = 1
    RAW = 2


class ReduceSource(IntEnum):
    """Values of the field ``source`` of ``reduce``."""

    DRAM = 0
    TAGS = 1
    SCHEDULE = 2


class AttendKind(IntEnum):
    """Values of the field ``kind`` of ``attend``."""

    ADD = 0
    TYPED = 1
    DOT = 2


class AttendSource(IntEnum):
    """Values of the field ``source`` of ``attend``."""

    DRAM = 0
    TAGS = 1


class Fault(IntEnum):
    """Fault codes of DISPATCH."""

    NONE = 0
    ENGINE = 1
    OPCODE = 2
    SEGMENT = 3
    SEMAPHORE = 4


class RegisterOffset(IntEnum):
    """Byte offsets of DISPATCH's registers."""

    CONTROL = 0
    INTERRUPT_ENABLE_GLOBAL = 4
    INTERRUPT_ENABLE = 8
    INTERRUPT_STATUS = 12
    PROGRAM_LENGTH = 256
    SEGMENT_BASE_PROGRAM_LOW = 260
    SEGMENT_BASE_PROGRAM_HIGH = 264
    SEGMENT_BASE_CONSTANTS_LOW = 268
    SEGMENT_BASE_CONSTANTS_HIGH = 272
    SEGMENT_BASE_FEATURES_LOW = 276
    SEGMENT_BASE_FEATURES_HIGH = 280
    SEGMENT_BASE_GRAPH_LOW = 284
    SEGMENT_BASE_GRAPH_HIGH = 288
    SEGMENT_BASE_ACTIVATIONS_LOW = 292
    SEGMENT_BASE_ACTIVATIONS_HIGH = 296
    SEGMENT_BASE_OUTPUT_LOW = 300
    SEGMENT_BASE_OUTPUT_HIGH = 304
    SEGMENT_BASE_SPILL_LOW = 308
    SEGMENT_BASE_SPILL_HIGH = 312
    SEGMENT_BASE_LOG_LOW = 316
    SEGMENT_BASE_LOG_HIGH = 320
    SEGMENT_SIZE_PROGRAM_LOW = 324
    SEGMENT_SIZE_PROGRAM_HIGH = 328
    SEGMENT_SIZE_CONSTANTS_LOW = 332
    SEGMENT_SIZE_CONSTANTS_HIGH = 336
    SEGMENT_SIZE_FEATURES_LOW = 340
    SEGMENT_SIZE_FEATURES_HIGH = 344
    SEGMENT_SIZE_GRAPH_LOW = 348
    SEGMENT_SIZE_GRAPH_HIGH = 352
    SEGMENT_SIZE_ACTIVATIONS_LOW = 356
    SEGMENT_SIZE_ACTIVATIONS_HIGH = 360
    SEGMENT_SIZE_OUTPUT_LOW = 364
    SEGMENT_SIZE_OUTPUT_HIGH = 368
    SEGMENT_SIZE_SPILL_LOW = 372
    SEGMENT_SIZE_SPILL_HIGH = 376
    SEGMENT_SIZE_LOG_LOW = 380
    SEGMENT_SIZE_LOG_HIGH = 384
    ISA_VERSION = 512
    GEOMETRY_HASH_LOW = 516
    GEOMETRY_HASH_HIGH = 520
    ENGINES = 524
    GEMM_D_SHAPE = 528
    GEMM_L_SHAPE = 532
    LANES = 536
    FETCHED = 540
    RETIRED = 544
    FAULT = 548
    FAULT_INSTRUCTION = 552
    SEMAPHORE_0 = 556
    SEMAPHORE_1 = 560
    SEMAPHORE_2 = 564
    SEMAPHORE_3 = 568
    SEMAPHORE_4 = 572
    SEMAPHORE_5 = 576
    SEMAPHORE_6 = 580
    SEMAPHORE_7 = 584
    SEMAPHORE_8 = 588
    SEMAPHORE_9 = 592
    SEMAPHORE_10 = 596
    SEMAPHORE_11 = 600
    SEMAPHORE_12 = 604
    SEMAPHORE_13 = 608
    SEMAPHORE_14 = 612
    SEMAPHORE_15 = 616
    SEMAPHORE_16 = 620
    SEMAPHORE_17 = 624
    SEMAPHORE_18 = 628
    SEMAPHORE_19 = 632
    SEMAPHORE_20 = 636
    SEMAPHORE_21 = 640
    SEMAPHORE_22 = 644
    SEMAPHORE_23 = 648
    SEMAPHORE_24 = 652
    SEMAPHORE_25 = 656
    SEMAPHORE_26 = 660
    SEMAPHORE_27 = 664
    SEMAPHORE_28 = 668
    SEMAPHORE_29 = 672
    SEMAPHORE_30 = 676
    SEMAPHORE_31 = 680
    QUEUE_HEAD_LOAD = 684
    QUEUE_HEAD_STORE = 688
    QUEUE_HEAD_GEMM_D = 692
    QUEUE_HEAD_GEMM_L = 696
    QUEUE_HEAD_VEC = 700
    QUEUE_HEAD_AGG = 704
    QUEUE_HEAD_SGB = 708
    QUEUE_HEAD_DW = 712
    QUEUE_HEAD_RST = 716
    LAST_RETIRED_LOAD = 720
    LAST_RETIRED_STORE = 724
    LAST_RETIRED_GEMM_D = 728
    LAST_RETIRED_GEMM_L = 732
    LAST_RETIRED_VEC = 736
    LAST_RETIRED_AGG = 740
    LAST_RETIRED_SGB = 744
    LAST_RETIRED_DW = 748
    LAST_RETIRED_RST = 752
    COUNTER_LOAD_INSTRUCTIONS_LOW = 756
    COUNTER_LOAD_INSTRUCTIONS_HIGH = 760
    COUNTER_STORE_INSTRUCTIONS_LOW = 764
    COUNTER_STORE_INSTRUCTIONS_HIGH = 768
    COUNTER_GEMM_D_INSTRUCTIONS_LOW = 772
    COUNTER_GEMM_D_INSTRUCTIONS_HIGH = 776
    COUNTER_GEMM_L_INSTRUCTIONS_LOW = 780
    COUNTER_GEMM_L_INSTRUCTIONS_HIGH = 784
    COUNTER_VEC_INSTRUCTIONS_LOW = 788
    COUNTER_VEC_INSTRUCTIONS_HIGH = 792
    COUNTER_AGG_INSTRUCTIONS_LOW = 796
    COUNTER_AGG_INSTRUCTIONS_HIGH = 800
    COUNTER_SGB_INSTRUCTIONS_LOW = 804
    COUNTER_SGB_INSTRUCTIONS_HIGH = 808
    COUNTER_DW_INSTRUCTIONS_LOW = 812
    COUNTER_DW_INSTRUCTIONS_HIGH = 816
    COUNTER_RST_INSTRUCTIONS_LOW = 820
    COUNTER_RST_INSTRUCTIONS_HIGH = 824
    COUNTER_LOAD_READ_BYTES_LOW = 828
    COUNTER_LOAD_READ_BYTES_HIGH = 832
    COUNTER_STORE_WRITE_BYTES_LOW = 836
    COUNTER_STORE_WRITE_BYTES_HIGH = 840
    COUNTER_GEMM_D_MACS_LOW = 844
    COUNTER_GEMM_D_MACS_HIGH = 848
    COUNTER_GEMM_L_MACS_LOW = 852
    COUNTER_GEMM_L_MACS_HIGH = 856
    COUNTER_AGG_EDGES_LOW = 860
    COUNTER_AGG_EDGES_HIGH = 864
    COUNTER_AGG_FEATURE_BYTES_LOW = 868
    COUNTER_AGG_FEATURE_BYTES_HIGH = 872
    COUNTER_AGG_GRAPH_BYTES_LOW = 876
    COUNTER_AGG_GRAPH_BYTES_HIGH = 880
    COUNTER_SGB_EDGES_LOW = 884
    COUNTER_SGB_EDGES_HIGH = 888
    COUNTER_SGB_RIGHT_BYTES_LOW = 892
    COUNTER_SGB_RIGHT_BYTES_HIGH = 896
    COUNTER_SGB_WRITE_BYTES_LOW = 900
    COUNTER_SGB_WRITE_BYTES_HIGH = 904
    COUNTER_DW_MACS_LOW = 908
    COUNTER_DW_MACS_HIGH = 912
    COUNTER_RST_EDGES_LOW = 916
    COUNTER_RST_EDGES_HIGH = 920
    COUNTER_RST_READ_BYTES_LOW = 924
    COUNTER_RST_READ_BYTES_HIGH = 928
    COUNTER_RST_WRITE_BYTES_LOW = 932
    COUNTER_RST_WRITE_BYTES_HIGH = 936


def _word(operation: str, engine: int, opcode: int, fields: tuple[tuple[str, int, int, int], ...]) -> int:
    """Puts (name, first bit, bits, value) fields into a word."""
    word = engine << 0 | opcode << 4
    for name, lsb, bits, value in fields:
        if not 0 <= value < 1 << bits:
            raise FieldRangeError(
                f"field '{name}' of '{operation}' is {value}",
                f"0 to {(1 << bits) - 1} ({bits} bits)",
                "use a smaller tile, or report this if hetfab compiled the program",
            )
        word |= index(value) << lsb  # index: a numpy integer would lose its high bits in the shift
    return word


def sync(
    *,
    engine: Engine,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``sync``, 128 bits.

    Does nothing but wait and signal.

    Args:
        engine: Engine that waits and signals.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "sync",
        engine,
        0,
        (
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_activations(
    *,
    ram_d: int,
    ram_l: int,
    rows: int,
    to_d: int,
    to_l: int,
    packed: int,
    row_blocks: int,
    stride_blocks: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_activations``, 128 bits.

    Copies rows of row_blocks blocks, stride_blocks blocks apart, to one or both copies of an activation tile:
    row r to bank r % gemm_d_rows of act_d_ram, words ram_d + r / gemm_d_rows * row_beats on, a beat of 8
    bytes a word; and to bank r % gemm_l_rows of act_l_ram, words ram_l + r / gemm_l_rows * row_words on, 32
    channels a word: packed rows as they are, rows of bytes as two words for every 32 channels, the high
    halves of the bytes and then the low halves. What the last rows lack keeps what it held.

    Args:
        ram_d: First word in act_d_ram; 0 to 16383.
        ram_l: First word in act_l_ram; 0 to 8191.
        rows: Number of rows; 0 to 255.
        to_d: 1: writes act_d_ram; 0 to 1.
        to_l: 1: writes act_l_ram; 0 to 1.
        packed: 1: two channels a byte; 0 to 1.
        row_blocks: Length of a row in blocks; 0 to 1023.
        stride_blocks: Distance of two rows in DRAM in blocks; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_activations",
        Engine.LOAD,
        1,
        (
            ("ram_d", 28, 14, ram_d),
            ("ram_l", 42, 13, ram_l),
            ("rows", 55, 8, rows),
            ("to_d", 63, 1, to_d),
            ("to_l", 64, 1, to_l),
            ("packed", 65, 1, packed),
            ("row_blocks", 66, 10, row_blocks),
            ("stride_blocks", 76, 12, stride_blocks),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_weights(
    *,
    ram: int,
    words: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_weights``, 128 bits.

    Copies consecutive words to wgt_d_ram.

    Args:
        ram: First word in the on-chip memory; 0 to 65535.
        words: Number of words; 0 to 65535.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_weights",
        Engine.LOAD,
        2,
        (
            ("ram", 32, 16, ram),
            ("words", 48, 16, words),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_planes(
    *,
    ram: int,
    words: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_planes``, 128 bits.

    Copies consecutive words to wgt_l_ram.

    Args:
        ram: First word in the on-chip memory; 0 to 65535.
        words: Number of words; 0 to 65535.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_planes",
        Engine.LOAD,
        3,
        (
            ("ram", 32, 16, ram),
            ("words", 48, 16, words),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_parameters(
    *,
    ram: int,
    words: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_parameters``, 128 bits.

    Copies consecutive words to par_ram.

    Args:
        ram: First word in the on-chip memory; 0 to 65535.
        words: Number of words; 0 to 65535.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_parameters",
        Engine.LOAD,
        4,
        (
            ("ram", 32, 16, ram),
            ("words", 48, 16, words),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_lines(
    *,
    slot: int,
    core: int,
    packed: int,
    kernel_lines: int,
    line_stride: int,
    line_beats: int,
    stride_blocks: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_lines``, 128 bits.

    Keeps in a context how load_lines lays out the lines that a strip of output pixels needs: kernel_lines
    lines of line_beats beats, of a bank to the next line_stride lines further down the image.

    Args:
        slot: Context; 0 to 15.
        core: 0: to act_d_ram, 1: to act_l_ram; 0 to 1.
        packed: 1: two channels a byte; 0 to 1.
        kernel_lines: Lines of a bank: rows of the kernel, at least 1; 0 to 15.
        line_stride: Lines from the first one of a bank to that of the next bank, at least 1; 0 to 7.
        line_beats: Beats of a line, its padding included: of act_l_ram a multiple of 2 when packed, else of
            4; 0 to 4095.
        stride_blocks: Distance of two lines in DRAM in blocks; 0 to 2047.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_lines",
        Engine.LOAD,
        5,
        (
            ("slot", 28, 4, slot),
            ("core", 32, 1, core),
            ("packed", 33, 1, packed),
            ("kernel_lines", 34, 4, kernel_lines),
            ("line_stride", 38, 3, line_stride),
            ("line_beats", 41, 12, line_beats),
            ("stride_blocks", 53, 11, stride_blocks),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_windows(
    *,
    slot: int,
    core: int,
    kernel_lines: int,
    line_stride: int,
    run_beats: int,
    step_bytes: int,
    stride_blocks: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_windows``, 128 bits.

    Keeps in a context how load_windows lays out the windows of output pixels: of a line, run_beats beats for
    each pixel, step_bytes bytes after those of the pixel before.

    Args:
        slot: Context; 0 to 15.
        core: 0: to act_d_ram, 1: to act_l_ram; 0 to 1.
        kernel_lines: Lines of a bank: rows of the kernel, at least 1; 0 to 15.
        line_stride: Lines from the first one of a bank to that of the next bank, at least 1; 0 to 7.
        run_beats: Beats of a window: of act_l_ram a multiple of 4; 0 to 31.
        step_bytes: Bytes from a window to the next; 0 to 127.
        stride_blocks: Distance of two lines in DRAM in blocks; 0 to 2047.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_windows",
        Engine.LOAD,
        6,
        (
            ("slot", 28, 4, slot),
            ("core", 32, 1, core),
            ("kernel_lines", 34, 4, kernel_lines),
            ("line_stride", 38, 3, line_stride),
            ("run_beats", 41, 5, run_beats),
            ("step_bytes", 46, 7, step_bytes),
            ("stride_blocks", 53, 11, stride_blocks),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_lines(
    *,
    ram: int,
    lines: int,
    first_bank: int,
    banks: int,
    top: int,
    slot: int,
    left: int,
    beats: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_lines``, 128 bits.

    Fills banks first_bank to first_bank + banks - 1 of an activation RAM with the lines that their strips
    need, by the context. The lines are numbered 0 to (banks - 1) * line_stride + kernel_lines - 1: lines DRAM
    lines from number top on, zeros before and after them. Of each, beats beats are read, to beat left on, the
    rest is zeros. Line n goes to every bank first_bank + b with 0 <= n - b * line_stride < kernel_lines, as
    its line n - b * line_stride; a bank's lines follow each other from word ram on: a beat a word of
    act_d_ram, of act_l_ram 32 channels a word and bytes as in load_activations.

    Args:
        ram: First word in the activation RAM; 0 to 16383.
        lines: Lines that are read; 0 to 127.
        first_bank: First bank; 0 to 31.
        banks: Number of banks, at least 1; 0 to 31.
        top: Lines of zeros before those that are read; 0 to 15.
        slot: Context, filled by configure_lines; 0 to 15.
        left: Beats of zeros before those of a line that are read; 0 to 255.
        beats: Beats of a line that are read; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_lines",
        Engine.LOAD,
        7,
        (
            ("ram", 28, 14, ram),
            ("lines", 42, 7, lines),
            ("first_bank", 49, 5, first_bank),
            ("banks", 54, 5, banks),
            ("top", 59, 4, top),
            ("slot", 64, 4, slot),
            ("left", 68, 8, left),
            ("beats", 76, 12, beats),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_windows(
    *,
    ram: int,
    lines: int,
    first_bank: int,
    banks: int,
    offset: int,
    slot: int,
    beats: int,
    columns: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_windows``, 128 bits.

    The same for the layout 'samples', whose pixels are no whole beats: of each of (banks - 1) * line_stride +
    kernel_lines lines of bytes, beats beats are read, and for output pixel x of 0 to columns (one less than
    there are) the run_beats beats from byte offset + x * step_bytes on follow each other in the bank. All lie
    within the beats read, of which there are at most gather_beats.

    Args:
        ram: First word in the activation RAM; 0 to 16383.
        lines: Lines that are read: (banks - 1) * line_stride + kernel_lines; 0 to 127.
        first_bank: First bank; 0 to 31.
        banks: Number of banks, at least 1; 0 to 31.
        offset: First byte of the first window; 0 to 7.
        slot: Context, filled by configure_windows; 0 to 15.
        beats: Beats of a line that are read; 0 to 255.
        columns: Output pixels of a strip, less 1; 0 to 255.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_windows",
        Engine.LOAD,
        8,
        (
            ("ram", 28, 14, ram),
            ("lines", 42, 7, lines),
            ("first_bank", 49, 5, first_bank),
            ("banks", 54, 5, banks),
            ("offset", 59, 3, offset),
            ("slot", 64, 4, slot),
            ("beats", 68, 8, beats),
            ("columns", 76, 8, columns),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_residual(
    *,
    ram: int,
    rows: int,
    columns: int,
    run_stride: int,
    run_beats: int,
    stride_blocks: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_residual``, 128 bits.

    Copies runs of run_beats beats to consecutive words of res_ram: row by row, in a row columns + 1 runs
    run_stride beats apart. Where the runs of a row follow each other in DRAM, one longer run reads the same
    in longer bursts.

    Args:
        ram: First word in res_ram; 0 to 8191.
        rows: Number of rows; 0 to 31.
        columns: Runs of a row, less 1; 0 to 255.
        run_stride: Distance of two runs of a row in DRAM in beats; 0 to 1023.
        run_beats: Beats of a run; 0 to 4095.
        stride_blocks: Distance of two rows in DRAM in blocks; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_residual",
        Engine.LOAD,
        9,
        (
            ("ram", 28, 13, ram),
            ("rows", 41, 5, rows),
            ("columns", 46, 8, columns),
            ("run_stride", 54, 10, run_stride),
            ("run_beats", 64, 12, run_beats),
            ("stride_blocks", 76, 12, stride_blocks),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_depthwise(
    *,
    ram: int,
    words: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_depthwise``, 128 bits.

    Copies consecutive words to dwp_ram.

    Args:
        ram: First word in the on-chip memory; 0 to 65535.
        words: Number of words; 0 to 65535.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_depthwise",
        Engine.LOAD,
        10,
        (
            ("ram", 32, 16, ram),
            ("words", 48, 16, words),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def load_function(
    *,
    ram: int,
    words: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``load_function``, 128 bits.

    Copies consecutive beats to fun_ram: each to all four banks of a word.

    Args:
        ram: First word in the on-chip memory; 0 to 65535.
        words: Number of words; 0 to 65535.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "load_function",
        Engine.LOAD,
        11,
        (
            ("ram", 32, 16, ram),
            ("words", 48, 16, words),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def store_rows(
    *,
    ram: int,
    rows: int,
    row_beats: int,
    stride_blocks: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``store_rows``, 128 bits.

    Copies rows of row_beats words of out_ram, each from a multiple of a block on, to rows in DRAM,
    stride_blocks blocks apart; done after the last write response.

    Args:
        ram: First word in out_ram; 0 to 65535.
        rows: Number of rows; 0 to 4095.
        row_beats: Length of a row in beats; 0 to 4095.
        stride_blocks: Distance of two rows in DRAM in blocks; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "store_rows",
        Engine.STORE,
        1,
        (
            ("ram", 32, 16, ram),
            ("rows", 48, 12, rows),
            ("row_beats", 64, 12, row_beats),
            ("stride_blocks", 76, 12, stride_blocks),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def store_runs(
    *,
    ram: int,
    banks: int,
    columns: int,
    ram_banks: int,
    row_beats: int,
    stride_blocks: int,
    joined: int,
    pixel_stride: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``store_runs``, 128 bits.

    Copies the pixels of strips: for bank b < banks and x of 0 to columns (one less than there are), row_beats
    words of out_ram from ram + (x * ram_banks + b) * row_beats on to address + b * stride_blocks blocks + x *
    pixel_stride beats. Joined, the pixels of a strip follow each other in DRAM, and pixel_stride is the beats
    of all of them: bursts run across pixels. Done after the last write response.

    Args:
        ram: First word in out_ram; 0 to 4095.
        banks: Number of strips; 0 to 31.
        columns: Output pixels of a strip, less 1; 0 to 255.
        ram_banks: Distance of two pixels of a strip in out_ram in pixels; 0 to 31.
        row_beats: Beats of a pixel; 0 to 63.
        stride_blocks: Distance of two strips in DRAM in blocks; 0 to 2047.
        joined: 1: the pixels of a strip follow each other in DRAM; 0 to 1.
        pixel_stride: Distance of two pixels in DRAM in beats; joined: (columns + 1) * row_beats; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "store_runs",
        Engine.STORE,
        2,
        (
            ("ram", 28, 12, ram),
            ("banks", 40, 5, banks),
            ("columns", 45, 8, columns),
            ("ram_banks", 53, 5, ram_banks),
            ("row_beats", 58, 6, row_beats),
            ("stride_blocks", 64, 11, stride_blocks),
            ("joined", 75, 1, joined),
            ("pixel_stride", 76, 12, pixel_stride),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def store_middle(
    *,
    ram: int,
    lines: int,
    columns: int,
    row_beats: int,
    stride_blocks: int,
    joined: int,
    pixel_stride: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``store_middle``, 128 bits.

    Copies the pixels of lines, or parts of them: for line l < lines and x of 0 to columns (one less than
    there are), row_beats words of mid_ram from ram + (l * (columns + 1) + x) * row_beats on to address + l *
    stride_blocks blocks + x * pixel_stride beats. Joined, the pixels of a line follow each other in DRAM, and
    pixel_stride is the beats of all of them: bursts run across pixels. Done after the last write response.

    Args:
        ram: First word in mid_ram; 0 to 4095.
        lines: Number of lines; 0 to 31.
        columns: Pixels of a line, less 1; 0 to 255.
        row_beats: Beats of a pixel; 0 to 63.
        stride_blocks: Distance of two lines in DRAM in blocks; 0 to 2047.
        joined: 1: the pixels of a line follow each other in DRAM; 0 to 1.
        pixel_stride: Distance of two pixels in DRAM in beats; joined: (columns + 1) * row_beats; 0 to 4095.
        address: First byte in DRAM; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "store_middle",
        Engine.STORE,
        3,
        (
            ("ram", 28, 12, ram),
            ("lines", 40, 5, lines),
            ("columns", 45, 8, columns),
            ("row_beats", 58, 6, row_beats),
            ("stride_blocks", 64, 11, stride_blocks),
            ("joined", 75, 1, joined),
            ("pixel_stride", 76, 12, pixel_stride),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def matmul(
    *,
    act: int,
    wgt: int,
    accumulate: int,
    unsigned: int,
    packed: int,
    acc: int,
    rows: int,
    row_beats: int,
    col_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``matmul``, 128 bits.

    acc[r][c] = (accumulate ? acc[r][c] : 0) + sum over k of x(act[r][k]) * wgt[k][c], for r < rows, c <
    col_groups * gemm_d_cols and the channels k of row_beats beats, at least one: int8 weights and 8 channels
    a beat, or int4 and 16 when packed. x(a) = a when signed; unsigned activations have their top bit flipped,
    a - 128 or a - 8 when packed: the bias makes up for it. Weights are narrow: never -128, or -8 when packed.
    Accumulators are int32 and wrap.

    Args:
        act: First word in act_d_ram; 0 to 16383.
        wgt: First word in wgt_d_ram; 0 to 16383.
        accumulate: 1: add to what acc_d_ram holds; 0 to 1.
        unsigned: 1: activations are unsigned; 0 to 1.
        packed: 1: int4 weights and two activations a byte; 0 to 1.
        acc: First word in acc_d_ram; 0 to 4095.
        rows: Rows of the tile; 0 to 255.
        row_beats: Beats of 8 bytes in a row of the tile; 0 to 8191.
        col_groups: Groups of gemm_d_cols output channels; 0 to 127.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "matmul",
        Engine.GEMM_D,
        1,
        (
            ("act", 32, 14, act),
            ("wgt", 46, 14, wgt),
            ("accumulate", 60, 1, accumulate),
            ("unsigned", 61, 1, unsigned),
            ("packed", 62, 1, packed),
            ("acc", 64, 12, acc),
            ("rows", 76, 8, rows),
            ("row_beats", 84, 13, row_beats),
            ("col_groups", 97, 7, col_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def matmul_lines(
    *,
    act: int,
    wgt: int,
    accumulate: int,
    unsigned: int,
    packed: int,
    lines: int,
    acc: int,
    banks: int,
    columns: int,
    line_words: int,
    run: int,
    step_words: int,
    col_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``matmul_lines``, 128 bits.

    A convolution as a matmul whose rows overlap: banks * (columns + 1) rows, row x * banks + b the output
    pixel x of the strip in bank b. Its channels are those of run words from word act + x * step_words + ky *
    line_words on, for each ky < lines in order; weights, accumulators and x(a) as in matmul: acc word acc +
    (x * banks + b) * col_groups + group. The drain of a block takes banks trips in place of gemm_d_rows.

    Args:
        act: First word in act_d_ram; 0 to 16383.
        wgt: First word in wgt_d_ram; 0 to 16383.
        accumulate: 1: add to what acc_d_ram holds; 0 to 1.
        unsigned: 1: activations are unsigned; 0 to 1.
        packed: 1: int4 weights and two activations a byte; 0 to 1.
        lines: Lines of a strip: rows of the kernel, at least 1; 0 to 15.
        acc: First word in acc_d_ram; 0 to 4095.
        banks: Strips, at least 1 and at most gemm_d_rows; 0 to 31.
        columns: Output pixels of a strip, less 1; 0 to 255.
        line_words: Words from a line to the next; 0 to 4095.
        run: Words of a line that an output pixel takes, at least 1; 0 to 1023.
        step_words: Words from an output pixel to the next; 0 to 1023.
        col_groups: Groups of gemm_d_cols output channels; 0 to 127.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "matmul_lines",
        Engine.GEMM_D,
        2,
        (
            ("act", 32, 14, act),
            ("wgt", 46, 14, wgt),
            ("accumulate", 60, 1, accumulate),
            ("unsigned", 61, 1, unsigned),
            ("packed", 62, 1, packed),
            ("lines", 28, 4, lines),
            ("acc", 64, 12, acc),
            ("banks", 76, 5, banks),
            ("columns", 81, 8, columns),
            ("line_words", 89, 12, line_words),
            ("run", 101, 10, run),
            ("step_words", 111, 10, step_words),
            ("col_groups", 121, 7, col_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def matmul_planes(
    *,
    act: int,
    wgt: int,
    accumulate: int,
    unsigned: int,
    slices: int,
    bipolar: int,
    acc: int,
    rows: int,
    row_words: int,
    planes: int,
    col_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``matmul_planes``, 128 bits.

    acc[r][c] = (accumulate ? acc[r][c] : 0) + sum over k of x(act[r][k]) * wgt[k][c], for r < rows, c <
    col_groups * gemm_l_cols and the channels k of row_words words of 32, at least one. x(a) = a when
    unsigned; signed activations have their top bit flipped, a + 8, or a + 128 with two slices: the bias makes
    up for it. Weights are two's complement of planes bits. With bipolar, planes is 1 and the sum is that of
    x(a) over the channels whose bit is 1 and of X - x(a) over the others, X = 15, or 255 with two slices.
    Accumulators are int32 and wrap at gemm_l_acc_bits before they are added.

    Args:
        act: First word in act_l_ram; 0 to 8191.
        wgt: First word in wgt_l_ram; 0 to 16383.
        accumulate: 1: add to what acc_l_ram holds; 0 to 1.
        unsigned: 1: activations are unsigned; 0 to 1.
        slices: Slices of 4 bits of an activation: 1 or 2; 0 to 3.
        bipolar: 1: a weight bit means +1 or -1; 0 to 1.
        acc: First word in acc_l_ram; 0 to 4095.
        rows: Rows of the tile; 0 to 255.
        row_words: Words of 32 channels in a row of the tile; 0 to 2047.
        planes: Bits of a weight, 1..8; 0 to 15.
        col_groups: Groups of gemm_l_cols output channels; 0 to 127.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "matmul_planes",
        Engine.GEMM_L,
        1,
        (
            ("act", 32, 13, act),
            ("wgt", 45, 14, wgt),
            ("accumulate", 59, 1, accumulate),
            ("unsigned", 60, 1, unsigned),
            ("slices", 61, 2, slices),
            ("bipolar", 63, 1, bipolar),
            ("acc", 64, 12, acc),
            ("rows", 76, 8, rows),
            ("row_words", 84, 11, row_words),
            ("planes", 95, 4, planes),
            ("col_groups", 99, 7, col_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def matmul_planes_lines(
    *,
    act: int,
    wgt: int,
    accumulate: int,
    unsigned: int,
    slices: int,
    bipolar: int,
    planes: int,
    acc: int,
    banks: int,
    columns: int,
    lines: int,
    line_words: int,
    run: int,
    step_words: int,
    col_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``matmul_planes_lines``, 128 bits.

    The same as matmul_lines on GEMM-L: words of 32 channels, with two slices two words each, the high halves
    first. The channels of row x * banks + b are those of run words from word act + x * step_words + ky *
    line_words on, slices words apart, for each ky < lines in order; all else as in matmul_planes. The drain
    of a block takes banks trips in place of gemm_l_rows.

    Args:
        act: First word in act_l_ram; 0 to 8191.
        wgt: First word in wgt_l_ram; 0 to 16383.
        accumulate: 1: add to what acc_l_ram holds; 0 to 1.
        unsigned: 1: activations are unsigned; 0 to 1.
        slices: Slices of 4 bits of an activation: 1 or 2; 0 to 3.
        bipolar: 1: a weight bit means +1 or -1; 0 to 1.
        planes: Bits of a weight, 1..8; 0 to 15.
        acc: First word in acc_l_ram; 0 to 4095.
        banks: Strips, at least 1 and at most gemm_l_rows; 0 to 31.
        columns: Output pixels of a strip, less 1; 0 to 255.
        lines: Lines of a strip: rows of the kernel, at least 1; 0 to 15.
        line_words: Words from a line to the next; 0 to 2047.
        run: Words of 32 channels of a line that an output pixel takes, at least 1; 0 to 255.
        step_words: Words from an output pixel to the next; 0 to 511.
        col_groups: Groups of gemm_l_cols output channels; 0 to 127.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "matmul_planes_lines",
        Engine.GEMM_L,
        2,
        (
            ("act", 32, 13, act),
            ("wgt", 45, 14, wgt),
            ("accumulate", 59, 1, accumulate),
            ("unsigned", 60, 1, unsigned),
            ("slices", 61, 2, slices),
            ("bipolar", 63, 1, bipolar),
            ("planes", 28, 4, planes),
            ("acc", 64, 12, acc),
            ("banks", 76, 5, banks),
            ("columns", 81, 8, columns),
            ("lines", 89, 4, lines),
            ("line_words", 93, 11, line_words),
            ("run", 104, 8, run),
            ("step_words", 112, 9, step_words),
            ("col_groups", 121, 7, col_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def requantize(
    *,
    core: int,
    signed: int,
    packed: int,
    from_sum: int,
    acc: int,
    highest: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    to_exp: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``requantize``, 128 bits.

    out[r][c] = requantize(acc[r][c] + bias[c], multiplier[c], shift), limited to highest above, and to
    -highest - 1 when signed, else to 0, below. Rows of out_ram are row_blocks blocks apart, or follow each
    other where that is 0; of each, row_words words are written, with zeros beyond the results. With to_exp,
    row x * banks + b goes to exp_ram instead, to the words from out + b * exp_line_words + x *
    exp_pixel_words on, with banks, exp_line_words and exp_pixel_words of configure_pixels; rows are then a
    multiple of banks.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        from_sum: 1: accumulators are sums of AGG in sum_ram, and core is not used; 0 to 1.
        acc: First word in acc_d_ram, acc_l_ram or sum_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram or exp_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        to_exp: 1: rows are pixels of exp_ram; 0 to 1.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "requantize",
        Engine.VEC,
        1,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("packed", 30, 1, packed),
            ("from_sum", 31, 1, from_sum),
            ("acc", 32, 12, acc),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("to_exp", 125, 1, to_exp),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def combine(
    *,
    core: int,
    signed: int,
    packed: int,
    with_acc: int,
    acc: int,
    sum: int,
    highest: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    post_shift: int,
    sum_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``combine``, 128 bits.

    q8[r][c] = sum[r][c] + (with_acc ? saturate24(requantize(acc[r][c] + bias[c], multiplier[c], shift)) : 0);
    out[r][c] = requantize(q8[r][c] * 2^15, 1, post_shift), limited to highest above, and to -highest - 1 when
    signed, else to 0, below. Rows of out_ram are row_blocks blocks apart, or follow each other where that is
    0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        with_acc: 0: the accumulator term is zero and no accumulator is read; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        sum: First word in sum_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        post_shift: Right shift of q8 * 2^15 to the result; 0 to 63.
        sum_groups: Distance of two rows of sum_ram in words, less 1; 0 to 7.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "combine",
        Engine.VEC,
        2,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("packed", 30, 1, packed),
            ("with_acc", 31, 1, with_acc),
            ("acc", 32, 12, acc),
            ("sum", 44, 12, sum),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("post_shift", 119, 6, post_shift),
            ("sum_groups", 125, 3, sum_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def export_sums(
    *,
    core: int,
    with_acc: int,
    acc: int,
    sum: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    sum_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``export_sums``, 128 bits.

    out32[r][c] = q8[r][c] as in combine. Rows of out_ram are row_blocks blocks apart, or follow each other
    where that is 0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        with_acc: 0: the accumulator term is zero and no accumulator is read; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        sum: First word in sum_ram; 0 to 4095.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        sum_groups: Distance of two rows of sum_ram in words, less 1; 0 to 7.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "export_sums",
        Engine.VEC,
        3,
        (
            ("core", 28, 1, core),
            ("with_acc", 31, 1, with_acc),
            ("acc", 32, 12, acc),
            ("sum", 44, 12, sum),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("sum_groups", 125, 3, sum_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def export_accumulators(
    *,
    core: int,
    from_sum: int,
    acc: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``export_accumulators``, 128 bits.

    out32[r][c] = acc[r][c] + bias[c]. Rows of out_ram are row_blocks blocks apart, or follow each other where
    that is 0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        from_sum: 1: accumulators are sums of AGG in sum_ram, and core is not used; 0 to 1.
        acc: First word in acc_d_ram, acc_l_ram or sum_ram; 0 to 4095.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "export_accumulators",
        Engine.VEC,
        4,
        (
            ("core", 28, 1, core),
            ("from_sum", 31, 1, from_sum),
            ("acc", 32, 12, acc),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_pixels(
    *,
    banks: int,
    packed: int,
    signed: int,
    res_line_words: int,
    res_pixel_words: int,
    exp_line_words: int,
    exp_pixel_words: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_pixels``, 128 bits.

    Keeps where the pixels of a tile lie: row x * banks + b of a tile is pixel x of line b, or of strip b.

    Args:
        banks: Lines or strips of a tile, less 1; 0 to 31.
        packed: 1: res_ram holds two channels a byte, the even one in the low nibble; 0 to 1.
        signed: 1: res_ram holds signed integers; 0 to 1.
        res_line_words: Distance of two lines in res_ram in words; 0 to 4095.
        res_pixel_words: Distance of two pixels of a line in res_ram in words; 0 to 1023.
        exp_line_words: Distance of two lines in exp_ram in words; 0 to 4095.
        exp_pixel_words: Distance of two pixels of a line in exp_ram in words; 0 to 1023.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_pixels",
        Engine.VEC,
        5,
        (
            ("banks", 32, 5, banks),
            ("packed", 37, 1, packed),
            ("signed", 38, 1, signed),
            ("res_line_words", 40, 12, res_line_words),
            ("res_pixel_words", 52, 10, res_pixel_words),
            ("exp_line_words", 64, 12, exp_line_words),
            ("exp_pixel_words", 76, 10, exp_pixel_words),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_pool(
    *,
    lines: int,
    columns: int,
    exponent: int,
    line_words: int,
    column_words: int,
    reciprocal: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_pool``, 128 bits.

    Keeps the windows that are pooled: their taps on the image, and the divisor of a mean.

    Args:
        lines: Lines of a window, at least 1; 0 to 255.
        columns: Columns of a window, at least 1; 0 to 255.
        exponent: K = ceil(log2 d) of the divisor d; 0 to 31.
        line_words: Distance of two lines of a window in words; 0 to 4095.
        column_words: Distance of two columns of a window in words; 0 to 1023.
        reciprocal: Round(2^(16+k)/d); 0 to 131071.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_pool",
        Engine.VEC,
        6,
        (
            ("lines", 32, 8, lines),
            ("columns", 40, 8, columns),
            ("exponent", 48, 5, exponent),
            ("line_words", 64, 12, line_words),
            ("column_words", 53, 10, column_words),
            ("reciprocal", 76, 17, reciprocal),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def join(
    *,
    core: int,
    signed: int,
    packed: int,
    acc: int,
    res: int,
    highest: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    post_shift: int,
    to_exp: int,
    wide: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``join``, 128 bits.

    q8[r][c] = 256 * residual[r][c] + saturate24(requantize(acc[r][c] + bias[c], multiplier[c], shift)),
    int32, wraps; out[r][c] = requantize(q8[r][c] * 2^15, 1, post_shift), limited to highest above, and to
    -highest - 1 when signed, else to 0, below; when wide, q8 itself. The pixel of row x * banks + b begins at
    word res + b * res_line_words + x * res_pixel_words of res_ram, as configure_pixels says; rows are a
    multiple of banks. Rows of out_ram are row_blocks blocks apart, or follow each other where that is 0; of
    each, row_words words are written, with zeros beyond the results. With to_exp they are pixels of exp_ram,
    as in requantize.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        res: First word in res_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram or exp_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        post_shift: Right shift of q8 * 2^15 to the result; 0 to 63.
        to_exp: 1: rows are pixels of exp_ram; 0 to 1.
        wide: 1: results are q8 as int32; 0 to 1.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "join",
        Engine.VEC,
        7,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("packed", 30, 1, packed),
            ("acc", 32, 12, acc),
            ("res", 44, 12, res),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("post_shift", 119, 6, post_shift),
            ("to_exp", 125, 1, to_exp),
            ("wide", 126, 1, wide),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def pool_max(
    *,
    res: int,
    out: int,
    rows: int,
    row_blocks: int,
    row_words: int,
    to_exp: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``pool_max``, 128 bits.

    out[r][c] = the largest channel c of the window of r, stored as res_ram stores it. The pixel of row x *
    banks + b begins at word res + b * res_line_words + x * res_pixel_words of res_ram: the first tap of a
    window of lines x columns taps, line_words and column_words apart, as configure_pixels and configure_pool
    say; rows are a multiple of banks. Rows of out_ram are row_blocks blocks apart, or follow each other where
    that is 0; of each, row_words words are written, with zeros beyond the results. With to_exp they are
    pixels of exp_ram, as in requantize. A window of one tap copies.

    Args:
        res: First word in res_ram; 0 to 4095.
        out: First word in out_ram or exp_ram; 0 to 4095.
        rows: Rows of the tile; 0 to 255.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        to_exp: 1: rows are pixels of exp_ram; 0 to 1.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "pool_max",
        Engine.VEC,
        8,
        (
            ("res", 44, 12, res),
            ("out", 64, 12, out),
            ("rows", 85, 8, rows),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("to_exp", 125, 1, to_exp),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def pool_average(
    *,
    signed: int,
    packed: int,
    res: int,
    highest: int,
    out: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    post_shift: int,
    to_exp: int,
    wide: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``pool_average``, 128 bits.

    S[r][c] = the sum of channel c over the window of r, as in pool_max; q8[r][c] = saturate24((S[r][c] *
    reciprocal + 2^(k+7)) >> (k+8)) with reciprocal and exponent k of configure_pool; out[r][c] =
    requantize(q8[r][c] * 2^15, 1, post_shift), limited to highest above, and to -highest - 1 when signed,
    else to 0, below; when wide, q8 itself. Rows of out_ram are row_blocks blocks apart, or follow each other
    where that is 0; of each, row_words words are written, with zeros beyond the results. With to_exp they are
    pixels of exp_ram, as in requantize.

    Args:
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        res: First word in res_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram or exp_ram; 0 to 4095.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        post_shift: Right shift of q8 * 2^15 to the result; 0 to 63.
        to_exp: 1: rows are pixels of exp_ram; 0 to 1.
        wide: 1: results are q8 as int32; 0 to 1.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "pool_average",
        Engine.VEC,
        9,
        (
            ("signed", 29, 1, signed),
            ("packed", 30, 1, packed),
            ("res", 44, 12, res),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("post_shift", 119, 6, post_shift),
            ("to_exp", 125, 1, to_exp),
            ("wide", 126, 1, wide),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def requantize_function(
    *,
    core: int,
    signed: int,
    mapped: int,
    from_sum: int,
    acc: int,
    width: int,
    table: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``requantize_function``, 128 bits.

    v[r][c] = requantize(acc[r][c] + bias[c], multiplier[c], shift), limited to width + 1 bits, signed or not.
    Then out[r][c] = v[r][c] as int16; of a row's results, the last four may be left out. Or, when mapped,
    out[r][c] = table[v[r][c] mod 2^(width + 1)], a byte; a table has at most 12 bits. Rows of out_ram are
    row_blocks blocks apart, or follow each other where that is 0; of each, row_words words are written, with
    zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results are signed before the function, 0: at least 0; 0 to 1.
        mapped: 1: results are entries of a table, 0: int16; 0 to 1.
        from_sum: 1: accumulators are sums of AGG in sum_ram, and core is not used; 0 to 1.
        acc: First word in acc_d_ram, acc_l_ram or sum_ram; 0 to 4095.
        width: Bits of a result before the function, less 1; 0 to 15.
        table: First word of the table in units of fun_unit words; 0 to 15.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "requantize_function",
        Engine.VEC,
        10,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("mapped", 30, 1, mapped),
            ("from_sum", 31, 1, from_sum),
            ("acc", 32, 12, acc),
            ("width", 56, 4, width),
            ("table", 60, 4, table),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def combine_function(
    *,
    core: int,
    signed: int,
    mapped: int,
    with_acc: int,
    acc: int,
    sum: int,
    width: int,
    table: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    post_shift: int,
    sum_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``combine_function``, 128 bits.

    v[r][c] = requantize(q8[r][c] * 2^15, 1, post_shift) with q8 as in combine, limited to width + 1 bits,
    signed or not. Then out[r][c] = v[r][c] as int16; of a row's results, the last four may be left out. Or,
    when mapped, out[r][c] = table[v[r][c] mod 2^(width + 1)], a byte; a table has at most 12 bits. Rows of
    out_ram are row_blocks blocks apart, or follow each other where that is 0; of each, row_words words are
    written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results are signed before the function, 0: at least 0; 0 to 1.
        mapped: 1: results are entries of a table, 0: int16; 0 to 1.
        with_acc: 0: the accumulator term is zero and no accumulator is read; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        sum: First word in sum_ram; 0 to 4095.
        width: Bits of a result before the function, less 1; 0 to 15.
        table: First word of the table in units of fun_unit words; 0 to 15.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        post_shift: Right shift of q8 * 2^15 to the result; 0 to 63.
        sum_groups: Distance of two rows of sum_ram in words, less 1; 0 to 7.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "combine_function",
        Engine.VEC,
        11,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("mapped", 30, 1, mapped),
            ("with_acc", 31, 1, with_acc),
            ("acc", 32, 12, acc),
            ("sum", 44, 12, sum),
            ("width", 56, 4, width),
            ("table", 60, 4, table),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("post_shift", 119, 6, post_shift),
            ("sum_groups", 125, 3, sum_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def normalize(
    *,
    core: int,
    signed: int,
    from_sum: int,
    acc: int,
    highest: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    post_shift: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``normalize``, 128 bits.

    x[r][c] = requantize(acc[r][c] + bias[c], multiplier[c], shift), limited to 16 bits; n[r][c] = x[r][c],
    normalized over the channels of its row with 12 fraction bits (docs/arithmetic.md); out[r][c] =
    requantize(n[r][c] * gain[c] + offset[c], 1, post_shift), limited to highest above, and to -highest - 1
    when signed, else to 0, below. par_ram holds the layout 'normalization' from word par on. There is at
    least one group, and rows * groups is at most norm_words. Rows of out_ram are row_blocks blocks apart, or
    follow each other where that is 0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        from_sum: 1: accumulators are sums of AGG in sum_ram, and core is not used; 0 to 1.
        acc: First word in acc_d_ram, acc_l_ram or sum_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        post_shift: Right shift of a normalized channel times its gain; 0 to 63.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "normalize",
        Engine.VEC,
        12,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("from_sum", 31, 1, from_sum),
            ("acc", 32, 12, acc),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("post_shift", 119, 6, post_shift),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def requantize_joined(
    *,
    core: int,
    signed: int,
    packed: int,
    acc: int,
    sum: int,
    highest: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    sum_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``requantize_joined``, 128 bits.

    out[r][c] = requantize(wrap32(acc[r][c] + sum[r][c]) + bias[c], multiplier[c], shift), limited to highest
    above, and to -highest - 1 when signed, else to 0, below. The sums are int32 in the scale of the
    accumulators, as AGG's mode raw leaves them. Rows of out_ram are row_blocks blocks apart, or follow each
    other where that is 0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        sum: First word in sum_ram; 0 to 4095.
        highest: Largest result; 0 to 255.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        sum_groups: Distance of two rows of sum_ram in words, less 1; 0 to 7.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "requantize_joined",
        Engine.VEC,
        13,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("packed", 30, 1, packed),
            ("acc", 32, 12, acc),
            ("sum", 44, 12, sum),
            ("highest", 56, 8, highest),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("sum_groups", 125, 3, sum_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def requantize_joined_function(
    *,
    core: int,
    signed: int,
    mapped: int,
    acc: int,
    sum: int,
    width: int,
    table: int,
    out: int,
    par: int,
    rows: int,
    groups: int,
    row_blocks: int,
    row_words: int,
    shift: int,
    sum_groups: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``requantize_joined_function``, 128 bits.

    v[r][c] = requantize(wrap32(acc[r][c] + sum[r][c]) + bias[c], multiplier[c], shift) as in
    requantize_joined, limited to width + 1 bits, signed or not. Then out[r][c] = v[r][c] as int16; of a row's
    results, the last four may be left out. Or, when mapped, out[r][c] = table[v[r][c] mod 2^(width + 1)], a
    byte; a table has at most 12 bits. Rows of out_ram are row_blocks blocks apart, or follow each other where
    that is 0; of each, row_words words are written, with zeros beyond the results.

    Args:
        core: 0: accumulators of GEMM-D, 1: of GEMM-L; 0 to 1.
        signed: 1: results are signed before the function, 0: at least 0; 0 to 1.
        mapped: 1: results are entries of a table, 0: int16; 0 to 1.
        acc: First word in acc_d_ram or acc_l_ram; 0 to 4095.
        sum: First word in sum_ram; 0 to 4095.
        width: Bits of a result before the function, less 1; 0 to 15.
        table: First word of the table in units of fun_unit words; 0 to 15.
        out: First word in out_ram; 0 to 4095.
        par: First word in par_ram; 0 to 511.
        rows: Rows of the tile; 0 to 255.
        groups: Groups of lanes channels; 0 to 127.
        row_blocks: Distance of two output rows in blocks, 0: they follow each other; 0 to 63.
        row_words: Words written in an output row, zeros beyond its results; 0 to 127.
        shift: Right shift of the requantization; 0 to 63.
        sum_groups: Distance of two rows of sum_ram in words, less 1; 0 to 7.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "requantize_joined_function",
        Engine.VEC,
        14,
        (
            ("core", 28, 1, core),
            ("signed", 29, 1, signed),
            ("mapped", 30, 1, mapped),
            ("acc", 32, 12, acc),
            ("sum", 44, 12, sum),
            ("width", 56, 4, width),
            ("table", 60, 4, table),
            ("out", 64, 12, out),
            ("par", 76, 9, par),
            ("rows", 85, 8, rows),
            ("groups", 93, 7, groups),
            ("row_blocks", 100, 6, row_blocks),
            ("row_words", 106, 7, row_words),
            ("shift", 113, 6, shift),
            ("sum_groups", 125, 3, sum_groups),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_features(
    *,
    slot: int,
    row_blocks: int,
    first_block: int,
    slot_bits: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_features``, 128 bits.

    Keeps the feature array of a context, the source vertices' rows, and where the scratchpad holds rows of
    it: in slots of as many words as a row has groups, from the first word of a block of 8 on. Clears
    2^slot_bits tags from that of the same number as the block.

    Args:
        slot: Context; 0 to 15.
        row_blocks: Distance of two rows in blocks; 0 to 4095.
        first_block: First block of feature_ram; 0 to 4095.
        slot_bits: Slots that tags name: 2^slot_bits, the low bits of a vertex choose one; 0 to 15.
        count: Number of source vertices; 0 to 16777215.
        address: First byte of the channels to aggregate in row 0; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_features",
        Engine.AGG,
        1,
        (
            ("slot", 32, 4, slot),
            ("row_blocks", 36, 12, row_blocks),
            ("first_block", 48, 12, first_block),
            ("slot_bits", 60, 4, slot_bits),
            ("count", 64, 24, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_destinations(
    *,
    slot: int,
    parts: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_destinations``, 128 bits.

    Keeps the array of destinations of a context, or of the runs of a schedule.

    Args:
        slot: Context; 0 to 15.
        parts: One less than the runs of each destination: an instruction of 16 rows and more takes a run of
            each, in order, then the next one of each; 0 to 15.
        count: Number of records; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_destinations",
        Engine.AGG,
        2,
        (
            ("slot", 32, 4, slot),
            ("parts", 36, 4, parts),
            ("count", 64, 24, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_ids(
    *,
    slot: int,
    edges: int,
    id_bytes: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_ids``, 128 bits.

    Keeps the array of source ids of a context, or of the units of a schedule.

    Args:
        slot: Context; 0 to 15.
        edges: Number of edges, or of units; 0 to 268435455.
        id_bytes: 2 or 4 bytes per id, also of those between units; 0 to 7.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_ids",
        Engine.AGG,
        3,
        (
            ("slot", 32, 4, slot),
            ("edges", 36, 28, edges),
            ("id_bytes", 64, 3, id_bytes),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_spilled(
    *,
    slot: int,
    row_blocks: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_spilled``, 128 bits.

    Keeps the array of incomplete sums of a context, in the layout 'spilled'.

    Args:
        slot: Context; 0 to 15.
        row_blocks: Length of a row in blocks; 0 to 4095.
        count: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_spilled",
        Engine.AGG,
        5,
        (
            ("slot", 32, 4, slot),
            ("row_blocks", 36, 12, row_blocks),
            ("count", 64, 24, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def reduce(
    *,
    slot: int,
    rows: int,
    mode: int,
    unsigned: int,
    accumulate: int,
    groups: int,
    source: int,
    merge: int,
    spill: int,
    weighted: int,
    from_fifo: int,
    destination: int,
    sum: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``reduce``, 128 bits.

    For each of rows destinations from destination on, in source schedule for each of rows runs: S[c] = (merge
    ? spilled[row][c] : 0) + sum over its edges of the features of the source, times the edge's weight where
    weighted. With spill, spilled[row] = S and nothing else. Otherwise t[c] = 256 * S[c] in mode 0 (sum),
    (S[c] * reciprocal + 2^(k+7)) >> (k+8) in mode 1 (mean), S[c] itself in mode 2 (raw), and sum[row -
    destination][c] = (accumulate ? sum[row - destination][c] : 0) + t[c]. All are int32 and wrap. Source
    tags: a row is read from DRAM unless the tag of its slot names it, and replaces what the slot held.

    Args:
        slot: Context; 0 to 15.
        rows: Number of destinations or runs; 0 to 255.
        mode: What is made of the features of the sources; 0 to 3.
        unsigned: 1: features are uint8; 0 to 1.
        accumulate: 1: add to what sum_ram holds; 0 to 1.
        groups: Groups of lanes channels; 0 to 63.
        source: Where rows of features come from: DRAM alone, the scratchpad by its tags, or the scratchpad by
            the units of a schedule; 0 to 3.
        merge: 1: sums begin with what was spilled; 0 to 1.
        spill: 1: sums are spilled; 0 to 1.
        weighted: 1: ids of 4 bytes hold a weight; not with a schedule; 0 to 1.
        from_fifo: 1: degrees and source ids come from rows_fifo, and reciprocals from a divider; not with a
            schedule or weights; 0 to 1.
        destination: First destination vertex or run; 0 to 16777215.
        sum: First word in sum_ram; 0 to 4095.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "reduce",
        Engine.AGG,
        4,
        (
            ("slot", 32, 4, slot),
            ("rows", 36, 8, rows),
            ("mode", 44, 2, mode),
            ("unsigned", 46, 1, unsigned),
            ("accumulate", 47, 1, accumulate),
            ("groups", 48, 6, groups),
            ("source", 54, 2, source),
            ("merge", 56, 1, merge),
            ("spill", 57, 1, spill),
            ("weighted", 58, 1, weighted),
            ("from_fifo", 59, 1, from_fifo),
            ("destination", 64, 24, destination),
            ("sum", 88, 12, sum),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_sources(
    *,
    scores: int,
    row_beats: int,
    head_beats: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_sources``, 128 bits.

    Keeps what attend compares of the source vertices: rows of scores in the layout 'scores', or of keys.

    Args:
        scores: Context; 0 to 15.
        row_beats: Distance of two rows in beats; 0: all rows are the first one; 0 to 4095.
        head_beats: Beats of keys of a head; for scores not used; 0 to 63.
        count: Number of source vertices; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_sources",
        Engine.AGG,
        7,
        (
            ("scores", 32, 4, scores),
            ("row_beats", 36, 12, row_beats),
            ("head_beats", 48, 6, head_beats),
            ("count", 64, 24, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_targets(
    *,
    scores: int,
    row_beats: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_targets``, 128 bits.

    Keeps what attend compares of the destination vertices: rows of scores in the layout 'scores', or of
    queries.

    Args:
        scores: Context; 0 to 15.
        row_beats: Distance of two rows in beats; 0: all rows are the first one; 0 to 4095.
        count: Number of destination vertices; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_targets",
        Engine.AGG,
        8,
        (
            ("scores", 32, 4, scores),
            ("row_beats", 36, 12, row_beats),
            ("count", 64, 24, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_types(
    *,
    scores: int,
    count: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_types``, 128 bits.

    Keeps the scores of the types of edges, in the layout 'scores', row behind row without gaps.

    Args:
        scores: Context; 0 to 15.
        count: Number of types; 0 to 255.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_types",
        Engine.AGG,
        9,
        (
            ("scores", 32, 4, scores),
            ("count", 64, 8, count),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def attend(
    *,
    slot: int,
    scores: int,
    rows: int,
    kind: int,
    unsigned: int,
    accumulate: int,
    source: int,
    maxima: int,
    weigh: int,
    merge: int,
    spill: int,
    head_groups: int,
    destination: int,
    sum: int,
    heads: int,
    shift: int,
    factor: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``attend``, 128 bits.

    Attention over the edges of rows destinations from destination on. The logit of an edge and a head: in
    kind 0 (add) leaky(saturate16(source + target)), in kind 1 (typed) leaky(saturate16(source + target +
    type)), in kind 2 (dot) saturate16(requantize(query . key, factor, shift)); leaky(x) = x >= 0 ? x : (x *
    factor + 2^11) >> 12. With maxima, M[h] = the largest logit, -2^15 without edges (merge: at least
    spilled.M). With weigh, e = table[M[h] - logit], num[c] = sum of e * features[source][c] and den[group] =
    sum of e (merge: plus what was spilled); M is spilled.M without maxima. With spill, what was computed is
    spilled and nothing else. Otherwise t[c] = floor((512 * num[c] + den) / (2 * den)), 0 where den is 0, and
    sum[row - destination][c] = (accumulate ? sum[row - destination][c] : 0) + t[c]. Both maxima and weigh:
    neither merge nor spill; maxima alone: spill.

    Args:
        slot: Context of the features, destinations, ids and spilled partials; 0 to 15.
        scores: Context of the scores of sources, targets and types; 0 to 15.
        rows: Number of destinations; 0 to 255.
        kind: What a logit is made of; 0 to 3.
        unsigned: 1: features are uint8; 0 to 1.
        accumulate: 1: add to what sum_ram holds; 0 to 1.
        source: Where rows of features come from: DRAM alone, or the scratchpad by its tags; 0 to 1.
        maxima: 1: finds the largest logits; 0 to 1.
        weigh: 1: adds weighted features; 0 to 1.
        merge: 1: begins with what was spilled; 0 to 1.
        spill: 1: partials are spilled; 0 to 1.
        head_groups: Groups of lanes channels of a head; 0 to 63.
        destination: First destination vertex; 0 to 16777215.
        sum: First word in sum_ram; 0 to 4095.
        heads: Number of heads; 0 to 15.
        shift: Right shift of a dot product; 0 to 63.
        factor: Slope below zero in units of 2^-12, or the multiplier of a dot product; 0 to 65535.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "attend",
        Engine.AGG,
        6,
        (
            ("slot", 32, 4, slot),
            ("scores", 36, 4, scores),
            ("rows", 40, 8, rows),
            ("kind", 48, 2, kind),
            ("unsigned", 50, 1, unsigned),
            ("accumulate", 51, 1, accumulate),
            ("source", 52, 1, source),
            ("maxima", 53, 1, maxima),
            ("weigh", 54, 1, weigh),
            ("merge", 55, 1, merge),
            ("spill", 56, 1, spill),
            ("head_groups", 57, 6, head_groups),
            ("destination", 64, 24, destination),
            ("sum", 88, 12, sum),
            ("heads", 100, 4, heads),
            ("shift", 104, 6, shift),
            ("factor", 110, 16, factor),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_left(
    *,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_left``, 128 bits.

    Keeps the left graph of a composition, in the layout 'adjacency'. A transpose turns it.

    Args:
        edges: Largest number of edges; the last start says how many there are; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_left",
        Engine.SGB,
        1,
        (
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_right(
    *,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_right``, 128 bits.

    Keeps the right graph of a composition, in the layout 'adjacency'.

    Args:
        edges: Largest number of edges; the last start says how many there are; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_right",
        Engine.SGB,
        2,
        (
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_bitmap(
    *,
    wide: int,
    threshold: int,
    columns: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_bitmap``, 128 bits.

    Keeps how rows are collected.

    Args:
        wide: 1: dense rows of the right graph are at the address too, in the layout 'bitmaps'; 0 to 1.
        threshold: Expansions above which a row is collected in a bitmap; 0 to 4294967295.
        columns: Vertices that ids name; 0 to 16777215.
        address: First byte of the bitmaps; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_bitmap",
        Engine.SGB,
        3,
        (
            ("wide", 28, 1, wide),
            ("threshold", 32, 32, threshold),
            ("columns", 64, 24, columns),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def compose(
    *,
    to_fifo: int,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``compose``, 128 bits.

    Writes the boolean product of the left and the right graph: an edge (s, d) wherever an edge (s, k) of the
    left one meets an edge (k, d) of the right one. A row of one edge is copied. Of the others, a row that has
    more expansions (edges of the right graph that its edges lead to) than the threshold ascends, the rest
    keep the order in which ids are first seen. With wide rows, what ascends is collected from the bitmaps
    where a row of the right graph has one, in a batch whose expansions, with those before it, exceed the
    threshold.

    Args:
        to_fifo: 1: the rows go to rows_fifo, as many ids as there are, and nothing to DRAM; 0 to 1.
        edges: Ids that there is room for; more are not written, but counted in the starts; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "compose",
        Engine.SGB,
        4,
        (
            ("to_fifo", 28, 1, to_fifo),
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def transpose(
    *,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``transpose``, 128 bits.

    Writes the left graph with every edge turned; rows are its columns, and the ids of each row ascend.

    Args:
        edges: Ids that there is room for; more are not written, but counted in the starts; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "transpose",
        Engine.SGB,
        5,
        (
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def widen(
    *,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``widen``, 128 bits.

    Writes the dense rows of the right graph to its bitmaps, in the layout 'bitmaps'.

    Args:
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "widen",
        Engine.SGB,
        6,
        (
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def depthwise(
    *,
    top: int,
    bottom: int,
    left: int,
    right: int,
    stride: int,
    packed: int,
    unsigned: int,
    signed: int,
    out_packed: int,
    highest: int,
    shift: int,
    lines: int,
    exp: int,
    mid: int,
    par: int,
    groups: int,
    columns: int,
    line_words: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``depthwise``, 128 bits.

    out[y][x][c] = requantize(sum over i, j < 3 of image[y * s + i - top][x * s + j - left][c] *
    weight[i][j][c] + bias[c], multiplier[c], shift) with s = stride + 1, limited to highest above, and to
    -highest - 1 when signed, else to 0, below; image is 0 outside of its lines and columns. Line l, column x
    of the image begins at word exp + l * line_words + x * groups, or groups / 2 when packed, of exp_ram, and
    has columns columns and (lines - 1) * s + 3 - top - bottom lines. Results are ((left + columns + right -
    3) // s + 1) * lines pixels in mid_ram, one behind the other, from mid on. Sums are int32; products are of
    8 bits, or when packed of 4.

    Args:
        top: Lines of the first window above the image; 0 to 3.
        bottom: Lines of the last window below the image; 0 to 3.
        left: Columns of the first window left of the image; 0 to 3.
        right: Columns right of the image; 0 to 3.
        stride: Stride, less 1; 0 to 3.
        packed: 1: two channels a byte in exp_ram, and weights of 4 bits; 0 to 1.
        unsigned: 1: exp_ram holds unsigned integers; 0 to 1.
        signed: 1: results reach down to -highest - 1, 0: to 0; 0 to 1.
        out_packed: 1: two results a byte, the even channel in the low nibble; 0 to 1.
        highest: Largest result; 0 to 255.
        shift: Right shift of the requantization; 0 to 63.
        lines: Output lines; 0 to 31.
        exp: First word in exp_ram; 0 to 4095.
        mid: First word in mid_ram; 0 to 4095.
        par: First word in dwp_ram; 0 to 1023.
        groups: Groups of lanes channels, an even number when packed or out_packed; 0 to 255.
        columns: Columns of the image in exp_ram; 0 to 255.
        line_words: Distance of two lines in exp_ram in words; 0 to 4095.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "depthwise",
        Engine.DW,
        1,
        (
            ("top", 28, 2, top),
            ("bottom", 30, 2, bottom),
            ("left", 32, 2, left),
            ("right", 34, 2, right),
            ("stride", 36, 2, stride),
            ("packed", 38, 1, packed),
            ("unsigned", 39, 1, unsigned),
            ("signed", 40, 1, signed),
            ("out_packed", 41, 1, out_packed),
            ("highest", 42, 8, highest),
            ("shift", 50, 6, shift),
            ("lines", 56, 5, lines),
            ("exp", 64, 12, exp),
            ("mid", 76, 12, mid),
            ("par", 88, 10, par),
            ("groups", 98, 8, groups),
            ("columns", 106, 8, columns),
            ("line_words", 114, 12, line_words),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_graph(
    *,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_graph``, 128 bits.

    Keeps a graph in the layout 'adjacency'.

    Args:
        edges: Largest number of edges; the last start says how many there are; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_graph",
        Engine.RST,
        1,
        (
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_turned(
    *,
    edges: int,
    rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_turned``, 128 bits.

    Keeps the same graph with every edge turned, in the layout 'adjacency'.

    Args:
        edges: Largest number of edges; the last start says how many there are; 0 to 268435455.
        rows: Number of rows; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_turned",
        Engine.RST,
        2,
        (
            ("edges", 36, 28, edges),
            ("rows", 64, 24, rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_matching(
    *,
    of_turned: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_matching``, 128 bits.

    Keeps where a matching of the graph is.

    Args:
        of_turned: 1: its rows are those of the turned graph, 0: of the graph; 0 to 1.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_matching",
        Engine.RST,
        3,
        (
            ("of_turned", 28, 1, of_turned),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def configure_walk(
    *,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``configure_walk``, 128 bits.

    Keeps where a walk through the graph is.

    Args:
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "configure_walk",
        Engine.RST,
        4,
        (
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def match(
    *,
    columns: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``match``, 128 bits.

    Matches as many rows of the graph as can be with columns, as docs/restructuring.md defines it, and writes
    the layout 'matching'. The turned graph is not read.

    Args:
        columns: Vertices that ids name; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "match",
        Engine.RST,
        5,
        (
            ("columns", 64, 24, columns),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def walk(
    *,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``walk``, 128 bits.

    Walks breadth first from row to row of the graph by their columns, from the lowest row that is left, and
    writes the layout 'walk'; vertices without edges are left out.

    Args:
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "walk",
        Engine.RST,
        6,
        (
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def recouple(
    *,
    by_column: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``recouple``, 128 bits.

    Writes the graph's edges in the layout 'edges', subgraph by subgraph: those that a column alone covers,
    those that both ends cover, those that a row alone covers. A column or row of the matching covers where it
    is dead, or where it has a pair that is not. The third subgraph goes by the walk's order of rows, and in a
    row by that of columns; the first two likewise, or the other way round.

    Args:
        by_column: 1: the first two subgraphs go by column, 0: by row; 0 to 1.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "recouple",
        Engine.RST,
        7,
        (
            ("by_column", 28, 1, by_column),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )


def grow_tiles(
    *,
    grown: int,
    most_edges_first: int,
    stride: int,
    tile_rows: int,
    address: int,
    wait0: int = 0,
    wait1: int = 0,
    signal0: int = 0,
    signal1: int = 0,
) -> int:
    """Packs ``grow_tiles``, 128 bits.

    Writes the rows of the graph that have edges in the layout 'order': by degree, equals by id; or grown, as
    docs/restructuring.md defines it.

    Args:
        grown: 1: tiles grow by the row with the largest share of its sampled columns in the tile; 0 to 1.
        most_edges_first: 1: rows with most edges come or begin tiles first, 0: those with fewest; 0 to 1.
        stride: Columns that are multiples of it are sampled, at least 1; 0 to 65535.
        tile_rows: Rows of a tile, at least 1; 0 to 16777215.
        address: First byte; 0 to 1099511627775.
        wait0: Semaphore to wait for, 0 for none; 0 to 31.
        wait1: Second semaphore to wait for, 0 for none; 0 to 31.
        signal0: Semaphore to signal when the work is done, 0 for none; 0 to 31.
        signal1: Second semaphore to signal, 0 for none; 0 to 31.

    Raises:
        FieldRangeError: A value does not fit its field.
    """
    return _word(
        "grow_tiles",
        Engine.RST,
        8,
        (
            ("grown", 28, 1, grown),
            ("most_edges_first", 29, 1, most_edges_first),
            ("stride", 32, 16, stride),
            ("tile_rows", 64, 24, tile_rows),
            ("address", 88, 40, address),
            ("wait0", 8, 5, wait0),
            ("wait1", 13, 5, wait1),
            ("signal0", 18, 5, signal0),
            ("signal1", 23, 5, signal1),
        ),
    )
