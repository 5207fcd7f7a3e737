# SPDX-License-Identifier: Apache-2.0
"""Contributed bitstreams: described, found, and downloaded from a server of this machine that may lie in every way."""

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hetfab.cli.main import ExitCode, main
from hetfab.driver import package as packages
from hetfab.driver.bitstreams import describe, fetch, listed
from hetfab.driver.download import Promise, download
from hetfab.driver.package import FOLDERS_VARIABLE, find_package, write_emulated_package
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import (
    BitstreamInvalidError,
    DownloadFailedError,
    DownloadRefusedError,
    IsaVersionError,
    OutputUnwritableError,
    OverlayPackageError,
)
from hetfab.overlay.package import Kind, Package, read_description
from tests.conftest import SMALL_GEOMETRY

Handler = http.server.BaseHTTPRequestHandler
DESIGN: Design = replace(default_design("pynq-z2"), name="small", geometry=SMALL_GEOMETRY)
CONTENT = bytes(range(256)) * 40


@dataclass
class Server:
    """A server of this machine: paths to what answers there, and the paths that were asked for."""

    base: str
    answers: dict[str, Callable[[Handler], None]]
    asked: list[str]


def not_found(handler: Handler) -> None:
    handler.send_error(404)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server("", {}, [])

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            found.answers.get(self.path, not_found)(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        found.base = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield found
        listening.shutdown()
        thread.join()


def sends(content: bytes, length: int | str | None = -1) -> Callable[[Handler], None]:
    """Answers with content; ``length`` is the size that is stated, None for no statement."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(len(content) if length == -1 else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def leads_to(place: str, code: int = 302, length: str | None = None) -> Callable[[Handler], None]:
    """Answers with a redirect, of which no body comes whatever is stated."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        handler.send_header("Location", place)
        if length is not None:
            handler.send_header("Content-Length", length)
        handler.end_headers()

    return answer


def promise(content: bytes = CONTENT) -> Promise:
    return Promise(len(content), hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest())


def test_what_was_promised_is_written(server: Server, tmp_path: Path) -> None:
    server.answers = {"/a.bit": sends(CONTENT), "/silent": sends(CONTENT, None), "/moved": leads_to("/a.bit")}
    for path in server.answers:
        download(server.base + path, tmp_path / "a.bit", promise())
        assert (tmp_path / "a.bit").read_bytes() == CONTENT
        (tmp_path / "a.bit").unlink()
    assert server.asked == ["/a.bit", "/silent", "/moved", "/a.bit"]


@pytest.mark.parametrize(
    ("answer", "found", "expected"),
    [
        (sends(CONTENT[:-1]), "has 10,239 bytes", "10,240 bytes"),
        (sends(CONTENT[:-1], None), "has 10,239 bytes", "10,240 bytes"),
        (sends(CONTENT + b"x"), "has 10,241 bytes", "10,240 bytes"),
        (sends(CONTENT * 300, None), "has more than 10,240 bytes", "10,240 bytes"),
        (sends(CONTENT[::-1]), f"has SHA-256 {promise(CONTENT[::-1]).sha256}", f"SHA-256 {promise().sha256}"),
    ],
)
def test_another_file_is_refused_and_not_kept(
    server: Server, tmp_path: Path, answer: Callable[[Handler], None], found: str, expected: str
) -> None:
    server.answers["/a.bit"] = answer
    with pytest.raises(DownloadRefusedError) as caught:
        download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    assert (caught.value.found, caught.value.expected) == (f"what came from '{server.base}/a.bit' {found}", expected)
    assert not list(tmp_path.iterdir())


def test_a_wrong_md5_is_refused_too(server: Server, tmp_path: Path) -> None:
    server.answers["/a.bit"] = sends(CONTENT)
    with pytest.raises(DownloadRefusedError, match=f"has MD5 {promise().md5}"):
        download(f"{server.base}/a.bit", tmp_path / "a.bit", replace(promise(), md5="0" * 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"md5": ""}, {"sha256": ""}, {"md5": "g" * 32}, {"sha256": "0" * 63}])
def test_nothing_is_asked_for_without_a_checksum(server: Server, tmp_path: Path, wrong: dict[str, Any]) -> None:
    name, digits = ("MD5", 32) if "md5" in wrong else ("SHA-256", 64)
    with pytest.raises(DownloadRefusedError) as caught:
        download(f"{server.base}/a.bit", tmp_path / "a.bit", replace(promise(), **wrong))
    assert caught.value.found == f"the link '{server.base}/a.bit' has no {name}"
    assert caught.value.expected == (
        f"a checksum of {digits} hexadecimal digits beside each link; nothing is downloaded without"
    )
    assert not server.asked and not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/a.bit", "data:,x", "FILE:///etc/hostname"])
def test_other_schemes_are_not_followed(server: Server, tmp_path: Path, place: str) -> None:
    server.answers["/a.bit"] = leads_to(place)
    link = f"{server.base}/a.bit"
    for url, found in ((link, f"the link '{link}' leads to '{place}', which is not followed"), (place, None)):
        with pytest.raises(DownloadRefusedError) as caught:
            download(url, tmp_path / "a.bit", promise())
        assert caught.value.found == (found or f"the link '{place}' is not followed")
    assert not list(tmp_path.iterdir())


def breaks_off(handler: Handler) -> None:
    """States the right size and sends half of it."""
    sends(CONTENT[:5000], len(CONTENT))(handler)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the server answers 404 Not Found"),
        (breaks_off, "it broke off after 5,000 bytes of 10,240"),
        (leads_to("/a.bit"), "the server answers 302 The HTTP server returned a redirect error that would lead"),
        (lambda handler: handler.wfile.write(b"no HTTP\r\n\r\n"), "the server does not speak HTTP (BadStatusLine)"),
        (lambda handler: handler.connection.close(), ""),
    ],
)
def test_a_server_that_fails_is_named(
    server: Server, tmp_path: Path, answer: Callable[[Handler], None] | None, reason: str
) -> None:
    if answer is not None:
        server.answers["/a.bit"] = answer
    with pytest.raises(DownloadFailedError) as caught:
        download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    assert caught.value.found.startswith(f"cannot download '{server.base}/a.bit': {reason}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stated", ["\xb2", "9" * 5000, "+10240", "x"])
def test_a_size_that_is_none_is_as_good_as_not_stated(server: Server, tmp_path: Path, stated: str) -> None:
    """What comes is counted; Python's ``isdigit`` knows more digits than ``int``."""
    server.answers = {"/a.bit": sends(CONTENT, stated), "/short": sends(CONTENT[:10], stated)}
    download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    assert (tmp_path / "a.bit").read_bytes() == CONTENT
    with pytest.raises(DownloadFailedError, match="it broke off after 10 bytes of 10,240"):
        download(f"{server.base}/short", tmp_path / "b.bit", promise())


def test_a_servers_words_are_shown_escaped(server: Server, tmp_path: Path) -> None:
    def garbles(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 404 \x1b[2J%b\r\n\r\n" % (b"x" * 300))

    server.answers["/a.bit"] = garbles
    with pytest.raises(DownloadFailedError) as caught:
        download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    found = caught.value.found.removeprefix(f"cannot download '{server.base}/a.bit': ")
    assert found.startswith(r"the server answers 404 \x1b[2Jxxx") and len(found) == 200


def test_nobody_listens_and_time_that_is_over(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadFailedError, match=r"cannot download 'http://127\.0\.0\.1:1/a': "):
        download("http://127.0.0.1:1/a", tmp_path / "a.bit", promise())
    server.answers["/a.bit"] = sends(CONTENT)
    clock = iter([0.0, 1799.0, 1801.0])
    monkeypatch.setattr("hetfab.driver.download.monotonic", lambda: next(clock))
    with pytest.raises(DownloadFailedError, match="the time is over"):
        download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    assert not list(tmp_path.iterdir())


def test_the_time_is_looked_at_whenever_something_came(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends a byte now and then holds no one longer than the deadline."""
    refused, held = threading.Event(), threading.Event()

    def drips(handler: Handler) -> None:
        sends(CONTENT[:1], len(CONTENT))(handler)
        if not refused.wait(5):
            held.set()

    server.answers["/a.bit"] = drips
    clock = iter([0.0, 1799.0, 1801.0])
    monkeypatch.setattr("hetfab.driver.download.monotonic", lambda: next(clock))
    with pytest.raises(DownloadFailedError, match="the time is over"):
        download(f"{server.base}/a.bit", tmp_path / "a.bit", promise())
    assert not held.is_set()  # It was not the server's end that ended the wait.
    refused.set()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_waited_for(server: Server, tmp_path: Path, code: int) -> None:
    server.answers = {"/a.bit": sends(CONTENT), "/moved": leads_to("/a.bit", code, str(1 << 40))}
    download(f"{server.base}/moved", tmp_path / "a.bit", promise())
    assert (tmp_path / "a.bit").read_bytes() == CONTENT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package as a build leaves it."""
    return write_emulated_package(tmp_path_factory.mktemp("built"), DESIGN)


def report(package: Package, **changes: Any) -> dict[str, Any]:
    said = {
        "identity": DESIGN.identity,
        "way": "local",
        "kind": package.kind.value,
        "sha256": {"bit": hashlib.sha256(package.bit.read_bytes()).hexdigest()},
    }
    return {**said, "vectors": {"load": 12, "agg": 30}, "failed": {}, **changes}


@pytest.fixture
def contribution(built: Package, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder that a contributor hands on; the server has the bitstream."""
    server.answers["/small.bit"] = sends(built.bit.read_bytes())
    (tmp_path / "report.json").write_text(json.dumps(report(built)), "utf-8")
    arguments = ["bitstream", str(built.bit.parent), "--selftest", str(tmp_path / "report.json")]
    arguments += ["--url", f"{server.base}/small.bit", "--tool", "Vivado 2024.1", "--builder", "A. Name <a@b.example>"]
    assert main([*arguments, "-o", str(tmp_path / "given")]) == ExitCode.DONE
    assert "description, handoff and link of 'small'" in capsys.readouterr().out
    return tmp_path / "given" / "small"


def test_a_contribution_is_a_package_with_a_link_in_its_bitstreams_place(contribution: Path, built: Package) -> None:
    assert {path.name for path in contribution.iterdir()} == {"small.json", "small.hwh", "small.bit.link"}
    bit = built.bit.read_bytes()
    link = json.loads((contribution / "small.bit.link").read_text("utf-8"))
    assert link["md5sum"] == hashlib.md5(bit).hexdigest() and set(link) == {"url", "md5sum"}
    described = json.loads((contribution / "small.json").read_text("utf-8"))
    assert described.pop("origin") == {
        "tool": "Vivado 2024.1",
        "builder": "A. Name <a@b.example>",
        "bit_bytes": len(bit),
        "vectors": {"load": 12, "agg": 30},
    }
    assert described == json.loads(built.bit.with_suffix(".json").read_text("utf-8"))


def test_a_bitstream_is_listed_downloaded_and_found(
    contribution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(contribution.parent))
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "none")
    monkeypatch.setattr(packages, "store_folder", lambda: tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OverlayPackageError) as missing:
        find_package("small")
    assert missing.value.found == f"the bitstream '{contribution / 'small.bit'}' is not here, only a link to it"
    assert missing.value.do == "hetfab bitstream small, which downloads and checks it"
    capsys.readouterr()
    assert main(["bitstream", "--json"]) == ExitCode.DONE
    (row,) = json.loads(capsys.readouterr().out)["bitstreams"]
    assert (row["name"], row["board"], row["vectors"], row["state"]) == ("small", "pynq-z2", 42, "to be downloaded")
    assert main(["bitstream", "small", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["bit"] == "overlays/small/small.bit"
    assert find_package("small").bit == Path("overlays/small/small.bit")
    assert main(["bitstream", "small", "--json"]) == ExitCode.INPUT
    assert json.loads(capsys.readouterr().out)["error"]["found"] == "'overlays/small' holds a package already"


@pytest.mark.parametrize("answer", [sends(b"x"), sends(b"x" * 4000, None), leads_to("file:///etc/hostname")])
def test_a_wrong_bitstream_leaves_no_package(
    contribution: Path, server: Server, tmp_path: Path, answer: Callable[[Handler], None]
) -> None:
    server.answers["/small.bit"] = answer
    with pytest.raises(DownloadRefusedError):
        fetch(contribution, tmp_path / "overlays")
    assert not list((tmp_path / "overlays").iterdir())


def test_what_came_is_a_package_before_it_is_at_its_place(
    contribution: Path, server: Server, built: Package, tmp_path: Path
) -> None:
    """The server gives what was promised, which is no bitstream for a board; the next try is as the first."""
    good = (contribution / "small.json").read_text("utf-8")
    alter(contribution / "small.json", kind="hardware")
    place = tmp_path / "overlays" / "small"
    for _ in range(2):
        with pytest.raises(OverlayPackageError) as caught:
            fetch(contribution, tmp_path / "overlays")
        assert caught.value.found == f"cannot use '{place / 'small.json'}': it says 'hardware', the .bit file does not"
        assert caught.value.do == "nothing was written; tell whoever described the bitstream"
        assert not list((tmp_path / "overlays").iterdir())
    place.mkdir()
    (place / "small.bit").write_bytes(b"of no package")
    (contribution / "small.json").write_text(good, "utf-8")
    assert fetch(contribution, tmp_path / "overlays").bit.read_bytes() == built.bit.read_bytes()
    assert {path.name for path in (tmp_path / "overlays").rglob("*")} == {
        "small",
        "small.bit",
        "small.hwh",
        "small.json",
    }


def test_a_description_comes_last(
    contribution: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at any file leaves nothing that reads as a package."""
    really, target = Path.replace, tmp_path / "overlays" / "small"

    def fails(self: Path, place: Path) -> Path:
        if Path(place) == target / "small.json":
            raise OSError(28, "No space left on device")
        return really(self, place)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputUnwritableError, match=f"cannot write '{target}': No space left on device"):
        fetch(contribution, tmp_path / "overlays")
    assert sorted(path.name for path in target.iterdir()) == ["small.bit", "small.hwh"]
    monkeypatch.undo()
    assert fetch(contribution, tmp_path / "overlays").name == "small"


def test_a_bitstream_is_downloaded_beside_its_link_and_over_no_package(
    contribution: Path, server: Server, tmp_path: Path
) -> None:
    assert fetch(contribution, contribution.parent).bit == contribution / "small.bit"
    (tmp_path / "other" / "small").mkdir(parents=True)
    (tmp_path / "other" / "small" / "small.json").write_text("{}", "utf-8")
    for folder in (contribution.parent, tmp_path / "other"):
        with pytest.raises(OutputUnwritableError, match="holds a package already"):
            fetch(contribution, folder)


def alter(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def test_links_and_descriptions_that_lack_something_are_refused(
    contribution: Path, server: Server, tmp_path: Path
) -> None:
    link, description = contribution / "small.bit.link", contribution / "small.json"
    good, good_link = description.read_text("utf-8"), link.read_text("utf-8")
    steps: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: alter(link, md5sum=None), DownloadRefusedError, "has no MD5"),
        (lambda: alter(link, url=3), BitstreamInvalidError, "names no url"),
        (lambda: link.write_text("[]", "utf-8"), BitstreamInvalidError, "is no JSON object"),
        (link.unlink, BitstreamInvalidError, "cannot be read: No such file"),
        (lambda: alter(description, origin=None), BitstreamInvalidError, "says nothing of who built"),
        (lambda: alter(description, origin={"tool": "x"}), OverlayPackageError, "cannot use"),
        (lambda: alter(description, sha256={"bit": "0", "hwh": "0"}), OverlayPackageError, "has no hashes of"),
    ]
    for change, error, text in steps:
        change()
        with pytest.raises(error, match=text):
            fetch(contribution, tmp_path / "overlays")
    origins: list[dict[str, Any]] = [
        {"bit_bytes": 1 << 40},
        {"bit_bytes": -1},
        {"tool": "\x1b[2J"},
        {"vectors": {}},
        {"vectors": {"a": "b"}},
    ]
    for wrong in origins:
        table = json.loads(good)
        description.write_text(json.dumps(table | {"origin": table["origin"] | wrong}), "utf-8")
        with pytest.raises(OverlayPackageError):
            fetch(contribution, tmp_path / "overlays")
    description.write_text(good, "utf-8")
    link.write_text(good_link, "utf-8")
    (contribution / "small.hwh").write_text("other", "utf-8")
    with pytest.raises(BitstreamInvalidError, match=r"is not the file that 'small\.json' describes"):
        fetch(contribution, tmp_path / "overlays")
    assert not server.asked


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity": "0" * 16}, "has a report of another overlay, '0000000000000000'"),
        ({"failed": {"agg": 1}}, "failed its self-test"),
        ({"vectors": {}}, "has no report of a self-test"),
        ({"vectors": None}, "has no report of a self-test"),
        ({"kind": "hardware"}, "has a report of another kind of overlay, 'hardware'"),
        ({"kind": None}, "has a report of another kind of overlay, None"),
        ({"sha256": {"bit": "0" * 64}}, f"has a report of another bitstream, of SHA-256 '{'0' * 64}'"),
        ({"sha256": None}, "has a report of another bitstream, of SHA-256 None"),
        ({"sha256": "\x1b[2J"}, "has a report of another bitstream, of SHA-256 None"),
    ],
)
def test_a_report_must_be_of_this_overlay_and_good(
    built: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report(built, **changes)), "utf-8")
    arguments = ["bitstream", str(built.bit), "--selftest", str(tmp_path / "r.json"), "--url", "https://a.example/b"]
    arguments += ["--tool", "Vivado 2024.1", "--builder", "me", "-o", str(tmp_path / "given"), "--json"]
    assert main(arguments) == ExitCode.INPUT
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["found"]) == ("bitstream-invalid", f"'{built.bit}' {reason}")
    assert not (tmp_path / "given").exists()


def test_a_contribution_does_not_overwrite_the_package(built: Package, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report(built)), "utf-8")
    arguments = ["bitstream", str(built.bit), "--selftest", str(tmp_path / "r.json"), "--url", "https://a.example/b"]
    before = built.bit.with_suffix(".json").read_bytes()
    assert main([*arguments, "--tool", "x", "--builder", "me", "-o", str(built.bit.parents[1])]) == ExitCode.INPUT
    assert built.bit.with_suffix(".json").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [["-o", "x"], ["small", "--url", "https://a.example"], ["--selftest", "r.json"], ["small", "--tool", "x"]],
)
def test_options_that_do_not_go_together(arguments: list[str]) -> None:
    assert main(["bitstream", *arguments]) == ExitCode.USAGE


def test_a_damaged_package_is_listed_with_its_problem(
    contribution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(contribution.parent))
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "none")
    monkeypatch.setattr(packages, "store_folder", lambda: tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    (contribution / "small.json").write_text("{", "utf-8")
    (found,) = listed()
    assert found.description is None and found.problem.startswith(f"cannot use '{contribution / 'small.json'}'")


@pytest.mark.parametrize("changes", [{"way": "emulated"}, {"way": None}, {"kind": "emulated"}, {"kind": None}])
def test_a_bitstream_needs_the_report_of_a_board(built: Package, tmp_path: Path, changes: dict[str, Any]) -> None:
    """An emulated package is reached as a board's is, ``local``, and has the same identity."""
    hardware = replace(built, kind=Kind.HARDWARE)
    given: dict[str, Any] = {"tool": "x", "builder": "me", "url": "https://a.example/b", "folder": tmp_path}
    with pytest.raises(BitstreamInvalidError, match="has a report of an emulated overlay"):
        describe(hardware, report=report(hardware, **changes), **given)
    for reached in ("local", "ssh", "remote"):
        said = describe(hardware, report=report(hardware, way=reached), **given)
        assert said.origin is not None and said.origin.vectors == {"load": 12, "agg": 30}


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"url": "ftp://x/y"}, DownloadRefusedError, "the link 'ftp://x/y' is not followed"),
        ({"url": "https:///y"}, DownloadRefusedError, "the link 'https:///y' leads nowhere"),
        ({"url": "https://[x/y"}, DownloadRefusedError, r"the link 'https://\[x/y' leads nowhere"),
        ({"url": "https://x/a b"}, DownloadRefusedError, "the link 'https://x/a b' leads nowhere"),
        ({"builder": "a\nb"}, BitstreamInvalidError, "cannot be described: the tool and the builder"),
        ({"tool": ""}, BitstreamInvalidError, "cannot be described: the tool and the builder"),
    ],
)
def test_all_is_checked_before_anything_is_written(
    built: Package, tmp_path: Path, changes: dict[str, Any], error: type[Exception], reason: str
) -> None:
    given: dict[str, Any] = {"tool": "x", "builder": "me", "url": "https://a.example/b", "report": report(built)}
    with pytest.raises(error, match=reason):
        describe(built, folder=tmp_path / "given", **given | changes)
    assert not (tmp_path / "given").exists()


def test_a_version_of_the_instruction_set_is_shown_short_and_escaped(contribution: Path) -> None:
    alter(contribution / "small.json", isa_version="\x1b[2J" + "x" * 1000)
    with pytest.raises(IsaVersionError) as caught:
        read_description(contribution / "small.json")
    assert r"is for version '\x1b[2Jxxx" in caught.value.found and "x" * 100 not in caught.value.found


def test_a_list_of_nothing_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(FOLDERS_VARIABLE, raising=False)
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "none")
    monkeypatch.setattr(packages, "store_folder", lambda: tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    assert main(["bitstream"]) == ExitCode.DONE
    assert capsys.readouterr().out == (
        "no packages: none in the folders of HETFAB_OVERLAYS, in overlays, arrived over ssh, or with hetfab\n"
    )
