#!/usr/bin/env python3
"""Every distinct convolution of the networks in PyTorch on the CPU, as `hadnet-dist bench conv` measures its own.

    python3 convolutions.py --shape 80x96x80 --k 32 --threads 2
"""

import json
import statistics
import sys
import time

import torch

from step import parser, set_threads, versions

LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


def layers(k):
    """Kernel, stride, padding, inputs, outputs, and the level whose size it reads: full size / 2^level."""
    return [
        (3, 1, 1, 3, k, 0), (3, 1, 1, k, k, 0), (3, 1, 1, 2 * k, 2 * k, 1), (3, 1, 1, 4 * k, 4 * k, 2),
        (3, 1, 1, 8 * k, 8 * k, 3), (3, 1, 1, 8 * k, 16 * k, 4), (3, 1, 1, 16 * k, 8 * k, 4), (1, 1, 0, k, 4, 0),
        (4, 2, 1, 7, 4 * k, 0), (4, 2, 1, 8 * k, 8 * k, 1), (4, 2, 1, 16 * k, 16 * k, 2), (4, 2, 1, 32 * k, 32 * k, 3),
        (4, 1, 1, 32 * k, 1, 4)]


def median(repeats, body):
    body()
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        body()
        runs.append(time.perf_counter() - start)
    return statistics.median(runs)


def measure(layer, size, layout, repeats):
    """Seconds of forward, data gradient and weight gradient."""
    kernel, stride, padding, inputs, outputs, _ = layer
    x = torch.rand(1, inputs, *size).sub_(0.5).contiguous(memory_format=layout)
    w = torch.rand(outputs, inputs, *[kernel] * 3).sub_(0.5).contiguous(memory_format=layout)
    # Only the last layer of the discriminator is without.
    bias = torch.zeros(outputs) if outputs > 1 else None
    y = torch.conv3d(x, w, bias, stride, padding)
    dy = y.contiguous(memory_format=layout)

    def gradient(data, weight):
        # Called by itself, so that each gradient has its own time.
        torch.ops.aten.convolution_backward(
            dy, x, w, None, [stride] * 3, [padding] * 3, [1] * 3, False, [0] * 3, 1, [data, weight, False])

    seconds = {"forward": median(repeats, lambda: torch.conv3d(x, w, bias, stride, padding))}
    # Nobody needs the gradient of the sequences alone.
    if inputs != 3:
        seconds["data gradient"] = median(repeats, lambda: gradient(True, False))
    seconds["weight gradient"] = median(repeats, lambda: gradient(False, True))
    voxels = y.shape[2] * y.shape[3] * y.shape[4]
    return seconds, 2 * kernel**3 * inputs * outputs * voxels / 1e9


@torch.no_grad()
def main():
    options = parser("Every distinct convolution of the networks in PyTorch on the CPU.").parse_args()
    set_threads(options)
    torch.manual_seed(1)
    version, onednn = versions()
    rows = []
    if not options.json:
        print(f"seconds, and effective GFLOP/s of the faster format, on {options.threads} thread(s), "
              f"PyTorch {version}, oneDNN {onednn}")
        print(f"{'layer':17} {'input':12} {'':16} contiguous  channels-last  GFLOP/s")
    for layer in layers(options.k):
        kernel, stride, _, inputs, outputs, level = layer
        size = [side >> level for side in options.shape]
        (contiguous, operations), (last, _) = [measure(layer, size, layout, options.repeats) for layout in LAYOUTS]
        for what in contiguous:
            best = min(contiguous[what], last[what])
            rows.append(dict(
                shape=size, inputs=inputs, outputs=outputs, kernel=kernel, stride=stride, what=what,
                contiguous_s=contiguous[what], channels_last_s=last[what], gflops=operations / best,
                torch=version, onednn=onednn))
            if not options.json:
                name = f"{kernel}³/{stride} {inputs}→{outputs}"
                print(f"{name:17} {'x'.join(map(str, size)):12} {what:16} {contiguous[what]:10.6f}  {last[what]:13.6f}"
                      f"  {operations / best:7.1f}")
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main())
