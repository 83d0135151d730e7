"""What the model has to answer: the golden cases of its bundle."""

import json
import pathlib
import sys

import numpy

ADDRESS, BUNDLE = sys.argv[1], pathlib.Path(sys.argv[2])
CASES = json.loads((BUNDLE / "golden.json").read_text())["cases"]
INPUTS = [case["input"] for case in CASES]
PROBABILITIES = numpy.array([case["probabilities"] for case in CASES])
MANIFEST = json.loads((BUNDLE / "bundle.json").read_text())
LABELS = [MANIFEST["classes"][row.argmax()] for row in PROBABILITIES]


def images():
    """The golden images as an array of `n, height, width, channels`."""
    schema = MANIFEST["inputs"]
    return numpy.array(INPUTS).reshape(-1, schema["height"], schema["width"], schema["channels"])


def columns():
    """The golden rows of the table: ages, NaN for a missing one, and cities, empty for a missing one."""
    cities = MANIFEST["inputs"]["columns"][1]["kind"]["categorical"]["categories"]
    ages = [float("nan") if age is None else age for age, _ in INPUTS]
    return ages, ["" if city is None else cities[int(city)] for _, city in INPUTS]


def check(probabilities, tolerance=1e-4):
    """Fails unless the probabilities are the golden ones."""
    got = numpy.array(probabilities, dtype=float).reshape(PROBABILITIES.shape)
    numpy.testing.assert_allclose(got, PROBABILITIES, atol=tolerance)
