"""What holds of the whole command: help, streams, colours, completion, what is imported."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cde_nets.cli import app
from cde_nets.cli.shape import ORDER, SHELLS

TREE = typer.main.get_command(app)
COMMANDS = [(name,) for name in TREE.commands] + [("train", "mnist")]


def test_the_commands_are_the_ones_that_are_told_of():
    assert set(TREE.commands) == set(ORDER)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_is_readable(command, words, columns, monkeypatch):
    # Of bench the help that an installed package shows: in a checkout it is the benchmarks' own.
    monkeypatch.setattr("cde_nets.cli.bench.checkout", lambda: None)
    shown = command(*words, "--help", env={"COLUMNS": str(columns)})
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    examples = [line for line in lines if line.startswith(("    cde-nets ", "    torchrun "))]
    assert len(examples) >= 2, "an example to copy is one line"
    assert "  Examples:" in lines
    for line in lines:
        assert len(line) <= columns or line in examples
    assert "…" not in shown.out
    node = TREE
    for word in words:
        node = node.commands[word]
    for parameter in node.params:
        for option in parameter.opts:
            assert parameter.param_type_name == "argument" or option in shown.out, "whole names of options"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_prints_results_has_json(words):
    node = TREE
    for word in words:
        node = node.commands[word]
    options = {option for parameter in node.params for option in parameter.opts}
    assert ("--json" in options) == (words not in [("train",), ("run",), ("bench",)])


def test_help_lists_commands_in_order_with_whole_sentences(command):
    shown = command("--help")
    told = shown.out.split("Commands:")[1]
    names = [line.split()[0] for line in told.splitlines() if line.startswith("  ") and line[2] != " "]
    assert names == list(ORDER)
    assert "..." not in told


def test_nothing_and_nonsense_are_bad_input(command):
    assert command().code == 2
    done = command("trian")
    assert done.code == 2
    assert "train" in done.err
    assert done.out == ""


def imported(code):
    """Which heavy modules a process of its own has imported after this code."""
    heavy = {"torch", "numpy", "scipy", "matplotlib", "sympy", "sklearn", "rich", "PIL", "joblib", "pooch"}
    code = f"import json, sys\n{code}\nprint(json.dumps(sorted({heavy!r} & set(sys.modules))), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["train", "mnist", "--help"], ["list", "--json"], ["list"]],
    ids=" ".join,
)
def test_help_and_list_wait_for_nothing_heavy(arguments):
    call = "from cde_nets.cli import app\ntry:\n"
    call += f"    app({arguments!r})\nexcept SystemExit as done:\n    assert not done.code"
    assert imported(call) == []


def test_importing_the_package_waits_for_nothing_heavy():
    assert imported("import cde_nets") == []


@pytest.fixture
def on_a_terminal(tmp_path):
    """What `cde-nets` writes, errors included, where it believes in a terminal."""

    def run(*arguments, **env):
        ours, theirs = pty.openpty()
        changed = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "OMP_NUM_THREADS": "1", **env}
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", *({"NO_COLOR"} - env.keys())):
            changed.pop(name, None)
        process = subprocess.Popen(
            [sys.executable, "-m", "cde_nets", *arguments],
            cwd=tmp_path, env=changed, stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 120)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        os.close(ours)
        return process.wait(timeout=60), written.decode()

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["list"], 0), (["run", "nothing"], 2), (["check", "polynomail"], 2)]
)
def test_no_color_means_no_escape_codes(on_a_terminal, arguments, code):
    done, written = on_a_terminal(*arguments, NO_COLOR="1")
    assert done == code, written
    assert written
    assert "\x1b" not in written


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_a_terminal_gets_colours_otherwise(on_a_terminal):
    assert "\x1b[" in on_a_terminal("run", "nothing")[1], "or the test above could not fail"


def test_bars_vanish_where_there_is_no_terminal(process):
    done = process("check", "polynomial", "--dim", "2", "--points", "3", "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.json["proved"]


def closed_pipe(folder, *arguments):
    """Exit code and standard error where nobody reads standard output."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "cde_nets", *arguments],
        cwd=folder, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
    )  # fmt: skip
    os.close(theirs)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"], ["info"]], ids=" ".join)
def test_a_reader_who_has_gone_is_no_traceback(tmp_path, arguments):
    assert closed_pipe(tmp_path, *arguments) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["list"], ["--help"]], ids=" ".join)
def test_a_full_disk_has_failed_with_a_sentence(arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cde_nets", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nothing can be written" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_shown_for_a_shell_by_name(command, shell):
    shown = command("--show-completion", shell)
    assert shown.code == 0, shown.err
    assert "_CDE_NETS_COMPLETE" in shown.out
    assert "cde-nets" in shown.out


def test_completion_is_installed(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = command("--install-completion", "bash")
    assert done.code == 0, done.err
    assert "cde-nets" in (tmp_path / ".bashrc").read_text()
    unknown = command("--install-completion", "tcsh")
    assert unknown.code == 2
    assert "bash, zsh, fish" in unknown.err


def test_by_its_module_it_has_the_same_name(process):
    """Completion and examples are of the name cde-nets."""
    shown = process("--show-completion", "bash")
    assert shown.code == 0, shown.err
    assert "complete -o default -F _cde_nets_completion cde-nets" in shown.out
