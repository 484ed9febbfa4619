"""How large the models are that are compared: parameters and operations, ours and MCVD's.

    python benchmarks/sizes.py

Counted, not measured: the numbers are the same on every machine. Operations are those of one denoising step of one
clip and, for LGC-VD, of remembering the clip before; a product and a sum are two. Weights include those that say where
things go (digits-64); the operations of motion skips are not counted.
"""

from __future__ import annotations

import argparse

from lgcvd import PRESETS
from lgcvd.config import MCVD_DIMS
from lgcvd.matching import size_of
from lgcvd.program import run_as_program
from lgcvd.reports import markdown_row, markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=MCVD_DIMS, default=list(MCVD_DIMS))
    options = parser.parse_args()
    header = ["preset", "kind", "dim", "parameters, M", "GFLOP", "parameters, times ours", "operations, times ours"]
    print(markdown_table(header))
    for name in options.presets:
        ours = size_of(PRESETS[name].model)
        for preset in (name, *(f"{name}-{kind}" for kind in MCVD_DIMS[name])):
            model, size = PRESETS[preset].model, size_of(PRESETS[preset].model)
            counted = [f"{size.parameters / 1e6:.3g}", f"{size.flops / 1e9:.3g}"]
            print(markdown_row([preset, model.kind, model.dim, *counted, *(f"{r:.2f}" for r in size.over(ours))]))


if __name__ == "__main__":
    run_as_program(main)
