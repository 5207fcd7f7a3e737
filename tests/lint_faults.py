# SPDX-License-Identifier: Apache-2.0
"""A fault for each rule of the lint, in a source of a few lines, and the same source repaired."""

from dataclasses import dataclass

_TOP = """
void engine_top(hls::stream<ap_uint<128>>& instructions, hls::stream<ap_uint<32>>& tokens, ap_uint<64> ram[64]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=ap_memory port=ram storage_type=ram_1p latency=1
    const ap_uint<128> instruction = instructions.read();
    %s
    hls::fence(ram, tokens);
    tokens.write(0);
}
"""

_STORE = """
#include <hls_burst_maxi.h>
#include <hls_fence.h>
void store_top(hls::stream<ap_uint<32>>& tokens, hls::burst_maxi<ap_uint<64>> memory, bool some) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=ap_none port=some
#pragma HLS INTERFACE mode=m_axi port=memory bundle=memory offset=direct depth=64 latency=32 \\
    num_read_outstanding=1 max_read_burst_length=2 num_write_outstanding=16 max_write_burst_length=16 \\
    max_widen_bitwidth=64
    %s
}
"""

_TWO_TOPS = """
#include <hls_fence.h>
void first_top(hls::stream<ap_uint<32>>& tokens, ap_uint<64> shared_ram[64], ap_uint<64> own_ram[64]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=ap_memory port=shared_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=own_ram storage_type=ram_1p latency=1
    shared_ram[3] = 1;
    own_ram[4] = 2;
    hls::fence(shared_ram, own_ram, tokens);
    tokens.write(0);
}
template <class Ram>
void put(Ram ram, unsigned value) {
#pragma HLS INLINE
    ram[3] = value;
}
void second_top(hls::stream<ap_uint<32>>& tokens, ap_uint<64> shared_ram[64], ap_uint<64> other_ram[64]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=ap_memory port=shared_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=other_ram storage_type=ram_1p latency=1
    %s
    hls::fence(shared_ram, other_ram, tokens);
    tokens.write(0);
}
"""


@dataclass(frozen=True)
class Fault:
    """A source that breaks exactly one rule.

    Attributes:
        name: What is wrong.
        rule: The rule that must say so.
        found: A part of what it says.
        source: The source.
        repaired: The same without the fault.
    """

    name: str
    rule: str
    found: str
    source: str
    repaired: str


def _in_top(before: str, faulty: str, repaired: str, before_repaired: str | None = None) -> tuple[str, str]:
    head = "#include <hls_fence.h>\n"
    return (
        head + before + _TOP % faulty,
        head + (before if before_repaired is None else before_repaired) + _TOP % repaired,
    )


def _in_store(faulty: str, repaired: str) -> tuple[str, str]:
    return _STORE % faulty, _STORE % repaired


def _replaced(source: str, old: str, new: str) -> tuple[str, str]:
    assert source.count(old) == 1, old
    return source.replace(old, new), source


def _copying(early: str) -> tuple[str, str]:
    body = _STORE % "copy(memory, some);\n    hls::fence(memory, tokens);\n    tokens.write(0);"
    return _COPY % early + body, _COPY % "" + body


_PLAIN = "#include <hls_fence.h>\n" + _TOP % "ram[0] = instruction(63, 0);"
_LOOP = "#include <hls_fence.h>\n" + _TOP % (
    "for (int i = 0; i < 64; i++) {\n#pragma HLS PIPELINE II=1 style=stp\n        ram[i] = 0;\n    }"
)
_UNROLLED = _LOOP.replace("PIPELINE II=1 style=stp", "UNROLL factor=64")
_DRAIN = """memory.write_request(0, 1);
    memory.write(7);
    memory.write_response();
    hls::fence(memory, tokens);
    tokens.write(0);"""
_RECURSIVE = "unsigned depth(unsigned value) { return value == 0 ? 0 : 1 + depth(value / 2); }\n"
_COUNTED = """unsigned depth(unsigned value) {
    unsigned bits = 0;
    for (int bit = 0; bit < 32; bit++) {
        if (value >> bit != 0) bits++;
    }
    return bits;
}
"""
_PASSED = """
template <unsigned (*Function)(unsigned)>
unsigned call(unsigned value) { return Function(value); }
unsigned depth(unsigned value) { return value == 0 ? 0 : call<depth>(value / 2); }
"""
_ADD = """
template <int Bits>
ap_int<Bits> add(ap_int<Bits> a, ap_int<Bits> b) {
#pragma HLS INLINE
    return %s;
}
"""
_COPY = """
template <class Mem>
void copy(Mem memory, bool some) {
    memory.write_request(0, 1);
    memory.write(7);
    %s
    memory.write_response();
}
"""
_BRANCHES = """
#include <hls_fence.h>
void engine_top(hls::stream<ap_uint<32>>& tokens, ap_uint<64> own_ram[64], ap_uint<64> other_ram[64]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=ap_memory port=own_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=other_ram storage_type=ram_1p latency=1
    for (int i = 0; i < 64; i++) {
        if (i %% 2 == 0) own_ram[i] = 1;
        %s other_ram[i] = 1;
    }
    hls::fence(own_ram, other_ram, tokens);
    tokens.write(0);
}
"""
_COUNTDOWN = """unsigned left = ram[0].to_uint();
    while (left != 0) {
%s        left--;
    }"""
_ENDLESS = "while (true) {\n        ram[0] = instructions.read()(63, 0);\n    }"

FAULTS = [
    Fault("system call", "HLS-L01", "'printf'", *_in_top("#include <cstdio>\n", 'printf("here");', "ram[0] = 1;")),
    Fault("terminal", "HLS-L01", "'std::cout'", *_in_top("#include <iostream>\n", "std::cout << 1;", "ram[0] = 1;")),
    Fault("new", "HLS-L02", "'new'", *_in_top("", "int* p = new int; ram[0] = *p;", "int p = 0; ram[0] = p;")),
    Fault("malloc", "HLS-L02", "'malloc'", *_in_top("#include <cstdlib>\n", "malloc(8);", "ram[0] = 1;")),
    Fault(
        "virtual call",
        "HLS-L03",
        "the virtual function 'size'",
        *_in_top(
            "struct Shape { virtual unsigned size() { return 1; } };\n",
            "Shape shape; ram[0] = shape.size();",
            "Shape shape; ram[0] = shape.size();",
            "struct Shape { unsigned size() { return 1; } };\n",
        ),
    ),
    Fault(
        "class with a virtual destructor",
        "HLS-L03",
        "'shape' of the class 'Shape'",
        *_in_top(
            "struct Shape {\n    virtual ~Shape() {}\n    unsigned size = 1;\n};\n",
            "Shape shape; ram[0] = shape.size;",
            "Shape shape; ram[0] = shape.size;",
            "struct Shape {\n    unsigned size = 1;\n};\n",
        ),
    ),
    Fault(
        "recursion through a template argument",
        "HLS-L04",
        "depth -> call -> depth",
        *_in_top(_PASSED, "ram[0] = depth(5);", "ram[0] = depth(5);", _COUNTED),
    ),
    Fault(
        "global function pointer",
        "HLS-L07",
        "'chosen'",
        *_in_top(
            "unsigned one() { return 1; }\nunsigned (*const chosen)() = one;\n",
            "ram[0] = chosen();",
            "ram[0] = one();",
            "unsigned one() { return 1; }\n",
        ),
    ),
    Fault(
        "recursion",
        "HLS-L04",
        "depth -> depth",
        *_in_top(_RECURSIVE, "ram[0] = depth(5);", "ram[0] = depth(5);", _COUNTED),
    ),
    Fault(
        "mutual recursion in templates",
        "HLS-L04",
        "even -> odd -> even",
        *_in_top(
            "template <class T> bool odd(T n);\n"
            "template <class T> bool even(T n) { return n == 0 ? true : odd(n - 1); }\n"
            "template <class T> bool odd(T n) { return n == 0 ? false : even(n - 1); }\n",
            "ram[0] = even(4);",
            "ram[0] = even(4);",
            "template <class T> bool even(T n) { return n % 2 == 0; }\n",
        ),
    ),
    Fault("container", "HLS-L05", "'std::vector'", *_in_top("#include <vector>\n", "std::vector<int> v;", "int v[4];")),
    Fault(
        "algorithm",
        "HLS-L05",
        "'std::swap'",
        *_in_top("#include <utility>\n", "int a = 1; int b = 2; std::swap(a, b);", "int a = 2; int b = 1;"),
    ),
    Fault(
        "long double",
        "HLS-L06",
        "'long double'",
        *_in_top("", "long double x = 1; ram[0] = x > 0;", "double x = 1; ram[0] = x > 0;"),
    ),
    Fault(
        "function pointer",
        "HLS-L07",
        "'chosen'",
        *_in_top(
            "unsigned one() { return 1; }\n",
            "unsigned (*chosen)() = one; ram[0] = chosen();",
            "ram[0] = one();",
        ),
    ),
    Fault(
        "pointer to a member function",
        "HLS-L08",
        "'chosen'",
        *_in_top(
            "struct Unit { unsigned one() { return 1; } };\n",
            "Unit unit; unsigned (Unit::*chosen)() = &Unit::one; ram[0] = (unit.*chosen)();",
            "Unit unit; ram[0] = unit.one();",
        ),
    ),
    Fault(
        "pointer to pointer",
        "HLS-L09",
        "'rows'",
        *_in_top("", "int* p = nullptr; int** rows = &p; ram[0] = rows != nullptr;", "int rows[2]; ram[0] = rows[0];"),
    ),
    Fault(
        "cast of an ap_uint pointer",
        "HLS-L10",
        "'ap_uint<64> *' to 'int *'",
        *_in_top(
            "",
            "ap_uint<64> words[4]; int* p = reinterpret_cast<int*>(words); ram[0] = p[1];",
            "ram[0] = ram[1](31, 0);",
        ),
    ),
    Fault(
        "exception",
        "HLS-L11",
        "'throw'",
        *_in_top("", "if (instruction == 0) throw 1;", "if (instruction == 0) ram[0] = 1;"),
    ),
    Fault(
        "header of side channels",
        "HLS-L12",
        "the header 'ap_axi_sdata.h'",
        *_in_top(
            "#if __has_include(<ap_axi_sdata.h>)\n#include <ap_axi_sdata.h>\n#endif\n", "ram[0] = 1;", "ram[0] = 1;", ""
        ),
    ),
    Fault("unbounded loop", "HLS-B01", "never ends", *_in_top("", _ENDLESS, "ram[0] = instructions.read()(63, 0);")),
    Fault("endless for", "HLS-B01", "never ends", *_in_top("", "for (;;) { ram[0] = 1; }", "ram[0] = 1;")),
    Fault(
        "loop without a stated bound",
        "HLS-B02",
        "only at run time",
        *_in_top(
            "",
            _COUNTDOWN % "",
            _COUNTDOWN % "#pragma HLS LOOP_TRIPCOUNT min=1 max=9\n",
        ),
    ),
    Fault(
        "variable-length array",
        "HLS-B03",
        "'local'",
        *_in_top(
            "",
            "unsigned n = ram[0].to_uint(); int local[n]; local[0] = 1;",
            "unsigned n = ram[0].to_uint(); int local[16]; local[0] = n != 0;",
        ),
    ),
    Fault(
        "index beyond a RAM",
        "HLS-B04",
        "the index 64 of 'ram', which has 64",
        *_in_top("", "ram[64] = 0;", "ram[63] = 0;"),
    ),
    Fault(
        "loop beyond a RAM",
        "HLS-B04",
        "the index 1 to 64 of 'ram'",
        *_replaced(_LOOP, "ram[i] = 0;", "ram[i + 1] = 0;"),
    ),
    Fault("unknown pragma", "HLS-P01", "'PIPE_LINE'", *_replaced(_LOOP, "PIPELINE", "PIPE_LINE")),
    Fault("keyword in small letters", "HLS-P01", "'#pragma hls'", *_replaced(_LOOP, "HLS PIPELINE", "hls PIPELINE")),
    Fault("misspelt option", "HLS-P02", "'stile' of PIPELINE", *_replaced(_LOOP, "style=stp", "style=stp stile=stp")),
    Fault(
        "option of another mode",
        "HLS-P02",
        "'bundle' of INTERFACE",
        *_replaced(_PLAIN, "mode=axis port=tokens", "mode=axis port=tokens bundle=a"),
    ),
    Fault(
        "required option left out",
        "HLS-P02",
        "without 'max='",
        *_in_top(
            "",
            "for (int i = 0; i < 64; i++) {\n#pragma HLS LOOP_TRIPCOUNT min=1\n        ram[i] = 0;\n    }",
            "for (int i = 0; i < 64; i++) {\n#pragma HLS LOOP_TRIPCOUNT min=1 max=64\n        ram[i] = 0;\n    }",
        ),
    ),
    Fault("value that is no word of its list", "HLS-P03", "'style=fast'", *_replaced(_LOOP, "style=stp", "style=fast")),
    Fault("number left out", "HLS-P03", "'ii='", *_replaced(_LOOP, "II=1 style=stp", "style=stp II=")),
    Fault(
        "pragma on the wrong statement",
        "HLS-P04",
        "UNROLL in the body of a function",
        *_in_top(
            "",
            "#pragma HLS UNROLL factor=64\n    for (int i = 0; i < 64; i++) {\n        ram[i] = 0;\n    }",
            "for (int i = 0; i < 64; i++) {\n#pragma HLS UNROLL factor=64\n        ram[i] = 0;\n    }",
        ),
    ),
    Fault(
        "pragma before the inner loop",
        "HLS-P04",
        "UNROLL before a loop",
        *_in_top(
            "",
            "for (int i = 0; i < 8; i++) {\n        ram[i] = 0;\n#pragma HLS UNROLL factor=8\n"
            "        for (int j = 0; j < 8; j++) {\n            ram[j] = 1;\n        }\n    }",
            "for (int i = 0; i < 8; i++) {\n        ram[i] = 0;\n        for (int j = 0; j < 8; j++) {\n"
            "#pragma HLS UNROLL factor=8\n            ram[j] = 1;\n        }\n    }",
        ),
    ),
    Fault(
        "interface in a loop",
        "HLS-P04",
        "INTERFACE in the body of a loop",
        *_replaced(
            _LOOP,
            "#pragma HLS PIPELINE II=1 style=stp\n",
            "#pragma HLS PIPELINE II=1 style=stp\n#pragma HLS INTERFACE mode=axis port=tokens\n",
        ),
    ),
    Fault(
        "directive for a variable that is not there",
        "HLS-P05",
        "'port=token'",
        *_replaced(
            _PLAIN,
            "#pragma HLS INTERFACE mode=axis port=tokens\n",
            "#pragma HLS INTERFACE mode=axis port=tokens\n#pragma HLS INTERFACE mode=axis port=token\n",
        ),
    ),
    Fault("unroll without a factor", "HLS-P06", "UNROLL", *_replaced(_UNROLLED, "UNROLL factor=64", "UNROLL")),
    Fault(
        "pipeline of a function",
        "HLS-P07",
        "PIPELINE in the body of a function",
        *_in_top("", "#pragma HLS PIPELINE II=1 style=stp\n    ram[0] = 1;", "ram[0] = 1;"),
    ),
    Fault(
        "missing interface on a port",
        "HLS-I01",
        "'tokens' of 'engine_top'",
        *_replaced(_PLAIN, "#pragma HLS INTERFACE mode=axis port=tokens\n", ""),
    ),
    Fault(
        "missing block protocol",
        "HLS-I01",
        "'return' of 'engine_top'",
        *_replaced(_PLAIN, "#pragma HLS INTERFACE mode=ap_ctrl_hs port=return\n", ""),
    ),
    Fault("option left to the tool", "HLS-I02", "'ram' without 'latency='", *_replaced(_PLAIN, " latency=1", "")),
    Fault(
        "bus option left to the tool",
        "HLS-I02",
        "'memory' without 'max_widen_bitwidth='",
        *_replaced(_STORE % _DRAIN, " \\\n    max_widen_bitwidth=64", ""),
    ),
    Fault(
        "mode without mode=",
        "HLS-I02",
        "'tokens' without 'mode='",
        *_replaced(_PLAIN, "mode=axis port=tokens", "axis port=tokens"),
    ),
    Fault("both ports of a RAM", "HLS-I03", "storage_type 'ram_2p'", *_replaced(_PLAIN, "ram_1p", "ram_2p")),
    Fault(
        "RAM without a size",
        "HLS-I03",
        "no array of constant size",
        *_replaced(_PLAIN, "ap_uint<64> ram[64]", "ap_uint<64>* ram"),
    ),
    Fault(
        "token without a fence",
        "HLS-O01",
        "without a fence for 'ram', 'tokens'",
        *_replaced(_PLAIN, "    hls::fence(ram, tokens);\n", ""),
    ),
    Fault(
        "fence without the RAM",
        "HLS-O01",
        "without a fence for 'ram'",
        *_replaced(_PLAIN, "hls::fence(ram, tokens)", "hls::fence(tokens)"),
    ),
    Fault(
        "work behind the fence",
        "HLS-O01",
        "without a fence",
        *_replaced(_PLAIN, "    tokens.write(0);", "    ram[1] = 2;\n    tokens.write(0);"),
    ),
    Fault(
        "done before the write response",
        "HLS-O02",
        "'tokens' before the write response of 'memory'",
        *_in_store(
            """memory.write_request(0, 1);
    memory.write(7);
    hls::fence(memory, tokens);
    tokens.write(0);
    memory.write_response();""",
            _DRAIN,
        ),
    ),
    Fault(
        "write response on one path only",
        "HLS-O02",
        "before the write response",
        *_in_store(_DRAIN.replace("memory.write_response();", "if (some) memory.write_response();"), _DRAIN),
    ),
    Fault("return past the write response", "HLS-O02", "before the write response", *_copying("if (some) return;")),
    Fault(
        "write that does not wait", "HLS-O03", "'write_nb'", *_replaced(_PLAIN, "tokens.write(0)", "tokens.write_nb(0)")
    ),
    Fault("question for room", "HLS-O03", "'full'", *_in_top("", "if (!tokens.full()) ram[0] = 1;", "ram[0] = 1;")),
    Fault(
        "static variable",
        "HLS-M01",
        "the static variable 'count'",
        *_in_top("", "static unsigned count = 0; ram[0] = count++;", "unsigned count = 0; ram[0] = count++;"),
    ),
    Fault(
        "global variable",
        "HLS-M01",
        "the variable 'count', which outlives a call",
        *_in_top("unsigned count;\n", "ram[0] = count++;", "ram[0] = 1;", ""),
    ),
    Fault(
        "chosen array",
        "HLS-M02",
        "chooses an array",
        *_in_top(
            "",
            "int a[4]; int b[4]; (instruction == 0 ? a : b)[0] = 1;",
            "int a[4]; int b[4]; if (instruction == 0) { a[0] = 1; } else { b[0] = 1; }",
        ),
    ),
    Fault(
        "stores of two branches",
        "HLS-M02",
        "'own_ram' and 'other_ram' in the two branches",
        _BRANCHES % "else",
        _BRANCHES % "if (i % 2 == 1)",
    ),
    Fault(
        "two writers by another name",
        "HLS-M03",
        "'shared_ram' written by first_top and second_top",
        _TWO_TOPS % "auto* alias = shared_ram + 1; alias[2] = 5;",
        _TWO_TOPS % "auto* alias = other_ram + 1; alias[2] = 5;",
    ),
    Fault(
        "two writers by a reference to a word",
        "HLS-M03",
        "'shared_ram' written by first_top and second_top",
        _TWO_TOPS % "ap_uint<64>& word = shared_ram[1]; word = 5;",
        _TWO_TOPS % "const ap_uint<64>& word = shared_ram[1]; other_ram[0] = word;",
    ),
    Fault(
        "two writers by a pointer",
        "HLS-M03",
        "'shared_ram' written by first_top and second_top",
        _TWO_TOPS % "*(shared_ram + 2) = 5;",
        _TWO_TOPS % "*(other_ram + 2) = 5;",
    ),
    Fault(
        "port in an object",
        "HLS-M04",
        "the port 'ram'",
        *_in_top(
            "struct Holder {\n    ap_uint<64>* words;\n};\n",
            "Holder holder; holder.words = ram; holder.words[1] = 5;",
            "ram[1] = 5;",
        ),
    ),
    Fault(
        "state of a class",
        "HLS-M01",
        "the variable 'count', which outlives a call",
        *_in_top(
            "struct Counter {\n    static unsigned count;\n};\nunsigned Counter::count = 0;\n",
            "ram[1] = Counter::count++;",
            "ram[1] = 5;",
        ),
    ),
    Fault(
        "two writers to one RAM",
        "HLS-M03",
        "'shared_ram' written by first_top and second_top",
        _TWO_TOPS % "put(shared_ram, 5);",
        _TWO_TOPS % "other_ram[0] = shared_ram[3];",
    ),
    Fault(
        "implicit narrowing",
        "HLS-W01",
        "64 unsigned bits become 32 unsigned bits",
        *_in_top("", "ap_uint<32> low = ram[0]; ram[1] = low;", "ap_uint<32> low = ap_uint<32>(ram[0]); ram[1] = low;"),
    ),
    Fault(
        "implicit narrowing in a template",
        "HLS-W01",
        "17 signed bits become 16 signed bits",
        *_in_top(
            _ADD % "a + b", "ram[0] = add<16>(1, 2) > 0;", "ram[0] = add<16>(1, 2) > 0;", _ADD % "ap_int<Bits>(a + b)"
        ),
    ),
    Fault(
        "implicit narrowing of native integers",
        "HLS-W01",
        "64 unsigned bits become 32 unsigned bits",
        *_in_top(
            "",
            "unsigned long wide = 5; unsigned narrow = wide; ram[0] = narrow;",
            "unsigned long wide = 5; unsigned narrow = static_cast<unsigned>(wide); ram[0] = narrow;",
        ),
    ),
    Fault(
        "implicit narrowing of a slice",
        "HLS-W01",
        "16 unsigned bits become 8 unsigned bits",
        *_in_top(
            "",
            "ap_uint<8> low = ram[0].range(15, 0); ram[1] = low;",
            "ap_uint<8> low = ram[0].range(7, 0); ram[1] = low;",
        ),
    ),
    Fault(
        "assignment of arbitrary precision that narrows",
        "HLS-W01",
        "16 unsigned bits become 8 unsigned bits",
        *_in_top(
            "",
            "ap_uint<8> sum = 1; ap_uint<16> wide = 2; sum += wide; ram[1] = sum;",
            "ap_uint<16> sum = 1; ap_uint<16> wide = 2; sum += wide; ram[1] = sum;",
        ),
    ),
    Fault(
        "fraction cut off",
        "HLS-W01",
        "double become 32 signed bits",
        *_in_top(
            "",
            "double x = 1.5; int y = x; ram[1] = y > 0;",
            "double x = 1.5; int y = static_cast<int>(x); ram[1] = y > 0;",
        ),
    ),
    Fault(
        "assignment that narrows",
        "HLS-W01",
        "64 unsigned bits become 8 unsigned bits",
        *_in_top(
            "",
            "unsigned char sum = 0; unsigned long wide = 5; sum += wide; ram[0] = sum;",
            "unsigned long sum = 0; unsigned long wide = 5; sum += wide; ram[0] = sum;",
        ),
    ),
]
