# SPDX-License-Identifier: Apache-2.0
"""What the modelled tools write: reports in the forms of public ones, an IP, a bitstream. Equal input, equal bytes."""

import hashlib
import json

from hetfab.hls.build.bitstream.scripts import expected_component
from hetfab.overlay.bit_file import BitFile
from hetfab.overlay.blockdesign.build import block_design
from hetfab.overlay.blockdesign.hwh import hwh_text
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.cycles import loops_of
from hetfab.overlay.design import Design, design_from_dict

_SYNC = bytes.fromhex("aa995566")
#: Loops that the modelled tool schedules in another way than the table says: interval and depth.
SLOWER = {"agg_gather": (2, 15), "store_beats": (1, 6)}


def loop_xml(label: str, ii: int, depth: int) -> str:
    """A loop in the summary of ``*_csynth.xml``."""
    return f"""<{label}>
<Slack>7.30</Slack>
<TripCount>undef</TripCount>
<Latency>undef</Latency>
<AbsoluteTimeLatency>undef</AbsoluteTimeLatency>
<PipelineII>{ii}</PipelineII>
<PipelineDepth>{depth}</PipelineDepth>
<InstanceList>
</InstanceList>
</{label}>
"""


def csynth_xml(top: str, part: str, period_ns: float, loops_text: str) -> str:
    """A report of synthesis; the elements and their order follow the public report that docs/build.md names."""
    return f"""<profile>
<ReportVersion><Version>2024.1</Version></ReportVersion>
<UserAssignments>
<unit>ns</unit>
<ProductFamily>zynq</ProductFamily>
<Part>{part}</Part>
<TopModelName>{top}</TopModelName>
<TargetClockPeriod>{period_ns:.2f}</TargetClockPeriod>
<ClockUncertainty>{0.27 * period_ns:.2f}</ClockUncertainty>
<FlowTarget>vivado</FlowTarget>
</UserAssignments>
<PerformanceEstimates>
<PipelineType>no</PipelineType>
<SummaryOfTimingAnalysis>
<unit>ns</unit>
<EstimatedClockPeriod>{0.7 * period_ns:.3f}</EstimatedClockPeriod>
</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency>
<unit>clock cycles</unit>
<Best-caseLatency>9</Best-caseLatency>
<Average-caseLatency>undef</Average-caseLatency>
<Worst-caseLatency>undef</Worst-caseLatency>
<Interval-min>10</Interval-min>
<Interval-max>undef</Interval-max>
</SummaryOfOverallLatency>
<SummaryOfLoopLatency>
{loops_text}</SummaryOfLoopLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources>
<BRAM_18K>4</BRAM_18K>
<DSP>7</DSP>
<FF>3210</FF>
<LUT>2890</LUT>
<URAM>0</URAM>
</Resources>
<AvailableResources>
<BRAM_18K>280</BRAM_18K>
<DSP>220</DSP>
<FF>106400</FF>
<LUT>53200</LUT>
<URAM>0</URAM>
</AvailableResources>
</AreaEstimates>
</profile>
"""


def synthesis(design: Design, engine: str) -> dict[str, str]:
    """The reports of an engine by file: its top's and that of a function with all pipelined loops."""
    part, period = read_board(design.board).part, 1000 / design.clock_mhz
    own = [loop for loop in loops_of(design.geometry).values() if loop.label and loop.name.startswith(f"{engine}_")]
    text = "".join(loop_xml(loop.label, *SLOWER.get(loop.name, (loop.ii, loop.depth))) for loop in own)
    top = f"{engine}_top"
    inner = f"{top}_Pipeline_loops"
    loops = {top: "", inner: text}
    return {f"{function}_csynth.xml": csynth_xml(function, part, period, found) for function, found in loops.items()}


def component(design: Design, engine: str) -> str:
    """The description in an exported IP."""
    return expected_component(design, engine)


def design_of(text: str) -> Design:
    """The design whose file has this text."""
    return design_from_dict(json.loads(text), "design.json")


def hwh(design: Design) -> str:
    """The hardware handoff of a design."""
    return hwh_text(block_design(design))


def bitstream(design: Design, content: bytes) -> bytes:
    """A .bit file whose data depends on ``content``."""
    data = b"\xff" * 32 + _SYNC + hashlib.sha256(content).digest() * 4
    part = read_board(design.board).part.removeprefix("xc").rpartition("-")[0]
    header = f"{design.name}_wrapper;UserID=0XFFFFFFFF;Version=2024.1"
    return BitFile(header, part, "2026/01/02", "03:04:05", data).encode()


#: As report_utilization writes it for a 7-series part.
UTILIZATION = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2024 Advanced Micro Devices, Inc.
| Tool Version : Vivado v.2024.1 (lin64) Build 5076996
| Design       : wrapper
| Design State : Fully Placed

1. Slice Logic
--------------

+----------------------------+-------+-------+------------+-----------+-------+
|          Site Type         |  Used | Fixed | Prohibited | Available | Util% |
+----------------------------+-------+-------+------------+-----------+-------+
| Slice LUTs                 | 41234 |     0 |          0 |     53200 | 77.51 |
|   LUT as Logic             | 38700 |     0 |          0 |     53200 | 72.74 |
|   LUT as Memory            |  2534 |     0 |          0 |     17400 | 14.56 |
| Slice Registers            | 50321 |     0 |          0 |    106400 | 47.29 |
|   Register as Flip Flop    | 50321 |     0 |          0 |    106400 | 47.29 |
+----------------------------+-------+-------+------------+-----------+-------+

3. Memory
---------

+-------------------+-------+-------+------------+-----------+-------+
|     Site Type     |  Used | Fixed | Prohibited | Available | Util% |
+-------------------+-------+-------+------------+-----------+-------+
| Block RAM Tile    | 118.5 |     0 |          0 |       140 | 84.64 |
|   RAMB36/FIFO*    |   110 |     0 |          0 |       140 | 78.57 |
|   RAMB18          |    17 |     0 |          0 |       280 |  6.07 |
+-------------------+-------+-------+------------+-----------+-------+

4. DSP
------

+----------------+------+-------+------------+-----------+-------+
|    Site Type   | Used | Fixed | Prohibited | Available | Util% |
+----------------+------+-------+------------+-----------+-------+
| DSPs           |   96 |     0 |          0 |       220 | 43.64 |
+----------------+------+-------+------------+-----------+-------+
"""


def timing(slack_ns: float) -> str:
    """As report_timing_summary writes it."""
    met = "All user specified timing constraints are met." if slack_ns >= 0 else "Timing constraints are not met."
    failing, total_slack = (0, 0.0) if slack_ns >= 0 else (57, 30 * slack_ns)
    return f"""------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------
  {slack_ns:9.3f}   {total_slack:10.3f}  {failing:21d}                93621        0.018        0.000                      0                93621        3.750        0.000                       0                 40110


{met}
"""  # noqa: E501
