"""Every public name with a way to call it: what the property tests go through."""

from benchmarks.faults.entries.arrays import ARRAYS
from benchmarks.faults.entries.judge import Array, Number, judge_array, judge_number
from benchmarks.faults.entries.made import MADE
from benchmarks.faults.entries.numbers import NUMBERS

__all__ = ["ARRAYS", "MADE", "NUMBERS", "Array", "Number", "judge_array", "judge_number"]
