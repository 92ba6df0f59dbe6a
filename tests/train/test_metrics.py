"""metrics.jsonl read back: what a kill leaves is left out, what is damaged is named."""

import pytest

from cde_nets.train import Run

LINES = ['{"epoch": 1}\n', '{"epoch": 2}\n', '{"epoch": 3}\n']
ROWS = [{"epoch": n} for n in (1, 2, 3)]


def run_with(folder, text):
    run = Run(folder)
    run.metrics.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run


def test_what_was_written_is_read(tmp_path):
    run = Run(tmp_path)
    assert run.read_metrics() == []
    run.write_metrics(ROWS)
    assert run.read_metrics() == run.read_metrics(3) == ROWS
    assert run.read_metrics(2, ahead=True) == ROWS[:2]


@pytest.mark.parametrize("torn", ['{"epoch": 4, "lo', "{", "\0\0\0", b"\xff"])
def test_a_last_line_that_a_kill_left_is_left_out_with_a_warning(tmp_path, torn):
    whole = "".join(LINES).encode()
    run = run_with(tmp_path, whole + (torn if isinstance(torn, bytes) else torn.encode()))
    with pytest.warns(UserWarning, match=r"metrics.jsonl: the last line is cut short"):
        assert run.read_metrics() == ROWS
    assert run.read_metrics(3, ahead=True) == ROWS, "of an epoch that is trained again: nothing to warn of"
    with pytest.raises(ValueError, match=r"line 4 is no JSON object\. Put a whole copy in its place, or train again"):
        run.read_metrics(4)


@pytest.mark.parametrize("damage", ["{", "", "3", b"\xff\xfe"])
@pytest.mark.parametrize("epochs", [None, 3])
def test_a_damaged_line_before_the_last_is_named(tmp_path, damage, epochs):
    damage = damage if isinstance(damage, bytes) else damage.encode()
    run = run_with(tmp_path, b"\n".join([LINES[0].strip().encode(), damage, LINES[2].encode()]))
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged: line 2 is no JSON object\. Put a whole copy"):
        run.read_metrics(epochs)


def test_more_and_fewer_lines_than_epochs(tmp_path):
    run = run_with(tmp_path, "".join(LINES))
    for epochs in (2, 4):
        with pytest.raises(ValueError, match=f"is damaged: lines 3, expected {epochs}, one an epoch"):
            run.read_metrics(epochs)
    run.metrics.unlink()
    with pytest.raises(ValueError, match=r"metrics.jsonl is missing, expected a file with a line for each of 3 epochs"):
        run.read_metrics(3)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda text: text[:-20], "line 2 is no JSON object"),
        (lambda text: "{" + text, "line 1 is no JSON object"),
        (lambda text: text.splitlines(keepends=True)[0], "lines 1, expected 2"),
    ],
)
def test_a_run_whose_metrics_are_damaged_is_not_gone_on_with(make_trainer, silent, keep, said):
    """Before work starts: its curves would have a gap in the end."""

    class PowerCutError(Exception):
        pass

    def cut():
        raise PowerCutError

    killed = make_trainer()
    killed.start()
    with pytest.raises(PowerCutError):
        killed.fit(silent(30, cut))
    killed.run.metrics.write_text(keep(killed.run.metrics.read_text()))
    with pytest.raises(ValueError, match=said):
        make_trainer().resume()
