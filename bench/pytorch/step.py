#!/usr/bin/env python3
"""One HAD-Net step in PyTorch on the CPU, timed as `hadnet-dist bench step` times its own.

    python3 step.py --shape 80x96x80 --k 32 --threads 2
    python3 step.py --golden ../../Tests/Fixtures/parity/step_k2.safetensors
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

CLASS_WEIGHTS = (1, 59.4507, 23.3190, 71.8481)
LAMBDA = 0.2
# FLAIR, T1 and T2 of FLAIR, T1ce, T1, T2.
WITHOUT_CONTRAST = [0, 2, 3]


# Networks. Parameters have the names of the published checkpoints.


class InstanceNorm(nn.Module):
    """Statistics per case and channel. F.instance_norm is not called, for two reasons: it is slower on the CPU than
    the two below, and its gradient is wrong when the incoming one is channels-last (seen with 2.13)."""

    def __init__(self, channels, affine=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x):
        if x.is_contiguous() or x.shape[0] > 1:
            return F.group_norm(x, x.shape[1], self.weight, self.bias, 1e-5)
        # With one case a batch is an instance, and batch norm is the faster one on channels-last data.
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=1e-5)


def upsampled(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Unit(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.inst = InstanceNorm(outputs)

    def forward(self, x):
        return F.leaky_relu(self.inst(self.conv(x)), 0.01, inplace=True)


class Down(nn.Module):
    def __init__(self, inputs, middle, outputs, drop):
        super().__init__()
        self.drop = drop
        self.conv1 = Unit(inputs, middle)
        self.conv2 = Unit(middle, outputs)

    def forward(self, x):
        return self.conv2(self.conv1(self.drop(x)))


class Up(nn.Module):
    def __init__(self, channels, outputs, drop):
        super().__init__()
        self.drop = drop
        self.conv_up = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv_left = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.inst = InstanceNorm(channels)
        self.conv_out = Unit(channels, outputs)

    def forward(self, skip, lower):
        # Whole channels are dropped, so dropping before upsampling is the same with an eighth of the work.
        x = self.conv_up(upsampled(self.drop(lower)))
        x += self.conv_left(self.drop(skip))
        return self.conv_out(F.leaky_relu(self.inst(x), 0.01, inplace=True))


class UNet(nn.Module):
    def __init__(self, inputs, k, dropout):
        super().__init__()
        drop = nn.Dropout3d(dropout) if dropout > 0 else nn.Identity()
        self.conv_d1 = Down(inputs, k, k, nn.Identity())
        self.conv_d2 = Down(k, 2 * k, 2 * k, drop)
        self.conv_d3 = Down(2 * k, 4 * k, 4 * k, drop)
        self.conv_d4 = Down(4 * k, 8 * k, 8 * k, drop)
        self.conv_c5 = Down(8 * k, 16 * k, 8 * k, drop)
        self.conv_u4 = Up(8 * k, 4 * k, drop)
        self.conv_u3 = Up(4 * k, 2 * k, drop)
        self.conv_u2 = Up(2 * k, k, drop)
        self.conv_u1 = Up(k, k, drop)
        self.conv_out = nn.Conv3d(k, 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        """Logits, and three pairs of feature maps: encoder, decoder (half the size), one after the other."""
        d1 = self.conv_d1(x)
        d2 = self.conv_d2(F.max_pool3d(d1, 2))
        d3 = self.conv_d3(F.max_pool3d(d2, 2))
        d4 = self.conv_d4(F.max_pool3d(d3, 2))
        c5 = self.conv_c5(F.max_pool3d(d4, 2))
        u4 = self.conv_u4(d4, c5)
        u3 = self.conv_u3(d3, u4)
        u2 = self.conv_u2(d2, u3)
        u1 = self.conv_u1(d1, u2)
        return self.conv_out(u1), d2, u3, d3, u4, d4, c5


class Discriminator(nn.Module):
    def __init__(self, k):
        super().__init__()
        # The convolutions keep PyTorch's own initial weights, as the method wants them.
        self.disc_1 = nn.Sequential(nn.Conv3d(7, 4 * k, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True))
        self.disc_2 = self.block(8 * k)
        self.disc_3 = self.block(16 * k)
        self.disc_4 = self.block(32 * k)
        self.disc_5 = nn.Conv3d(32 * k, 1, 4, padding=1, bias=False)

    @staticmethod
    def block(channels):
        # The layer before and a pair of feature maps together have as many channels as come out.
        return nn.Sequential(
            nn.Conv3d(channels, channels, 4, 2, 1), InstanceNorm(channels, affine=False),
            nn.LeakyReLU(0.2, inplace=True))

    def forward(self, outputs, sequences):
        logits, d2, u3, d3, u4, d4, c5 = outputs
        x = self.disc_1(torch.cat((logits, sequences), 1))
        x = self.disc_2(torch.cat((x, d2, upsampled(u3)), 1))
        x = self.disc_3(torch.cat((x, d3, upsampled(u4)), 1))
        x = self.disc_4(torch.cat((x, d4, upsampled(c5)), 1))
        return self.disc_5(x)


# One step.


def adam(network):
    settings = dict(lr=2e-4, betas=(0.5, 0.999), eps=1e-8)
    try:
        return torch.optim.Adam(network.parameters(), fused=True, **settings)
    except RuntimeError:
        # Before 2.4 the fused one was for GPUs only.
        return torch.optim.Adam(network.parameters(), foreach=True, **settings)


class Distillation:
    def __init__(self, k, dropout, layout=torch.contiguous_format, one_forward=False, gate=1.0):
        self.student = UNet(3, k, dropout).to(memory_format=layout)
        # Frozen, but in training mode as in the published code: its dropout is on.
        self.teacher = UNet(4, k, dropout).to(memory_format=layout).requires_grad_(False)
        self.discriminator = Discriminator(k).to(memory_format=layout)
        self.student_adam = adam(self.student)
        self.discriminator_adam = adam(self.discriminator)
        self.weights = torch.tensor(CLASS_WEIGHTS)
        self.layout = layout
        self.one_forward = one_forward
        # An accuracy is never above 1: with a gate of 1 the discriminator always learns.
        self.gate = gate

    def inputs(self, images):
        """What the teacher and what the student sees."""
        return (images.contiguous(memory_format=self.layout),
                images[:, WITHOUT_CONTRAST].contiguous(memory_format=self.layout))

    def step(self, images, truth):
        """Student's loss, its cross-entropy, discriminator's loss and accuracy before the updates, updated."""
        four, three = self.inputs(images)
        with torch.no_grad():
            teacher = self.teacher(four)

        student = self.student(three)
        cross_entropy = F.cross_entropy(student[0], truth, self.weights)
        self.student_adam.zero_grad(set_to_none=True)
        if self.one_forward:
            # One forward pass of the discriminator serves both losses, cut off from the student.
            seen = [x.detach().requires_grad_() for x in student]
            fake = self.discriminator(seen, three)
            adversarial = LAMBDA * (fake - 1).square().mean()
            # Asked for these gradients only, autograd leaves the weights' out; the graph stays for the second loss.
            gradients = torch.autograd.grad(adversarial, seen, retain_graph=True)
            torch.autograd.backward((cross_entropy, *student), (None, *gradients))
            loss = cross_entropy.detach() + adversarial.detach()
            del seen, gradients
        else:
            # Without this, backward would also make the discriminator's weight gradients, for nothing.
            self.discriminator.requires_grad_(False)
            loss = cross_entropy + LAMBDA * (self.discriminator(student, three) - 1).square().mean()
            loss.backward()
            self.discriminator.requires_grad_(True)
        self.student_adam.step()

        real = self.discriminator(teacher, three)
        if not self.one_forward:
            fake = self.discriminator([x.detach() for x in student], three)
        discriminator_loss = fake.square().mean() + (real - 1).square().mean()
        accuracy = ((real >= 0.5).float().mean() + (fake <= 0.5).float().mean()).item() / 2
        updated = accuracy <= self.gate
        if updated:
            self.discriminator_adam.zero_grad(set_to_none=True)
            # Naming the weights spares the gradients of the student's outputs.
            discriminator_loss.backward(inputs=list(self.discriminator.parameters()))
            self.discriminator_adam.step()
        return [loss.item(), cross_entropy.item(), discriminator_loss.item(), accuracy, float(updated)]


# Measuring.


def case(size):
    """Noise in 0…1 and a nested tumour, so that every class is there."""
    axes = [torch.arange(n) - n // 2 for n in size]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    r = (z * z + y * y + x * x).float().sqrt() / min(size)
    truth = torch.zeros(size, dtype=torch.long)
    for limit, label in ((0.25, 2), (0.16, 3), (0.1, 1)):
        truth[r < limit] = label
    return (0.5 * torch.rand(4, *size) + 0.1 * truth)[None], truth[None]


def peak_gib():
    """The most memory this process has had resident, in GiB."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return float("nan")


def versions():
    """Version of PyTorch, and of oneDNN with the instructions that PyTorch itself uses."""
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    onednn = next((line.split("(Git")[0].split()[-1] for line in lines if "MKL-DNN v" in line), "none")
    return torch.__version__, f"{onednn}, {torch.backends.cpu.get_cpu_capability()}"


def benchmark(options):
    torch.manual_seed(1)
    distillation = Distillation(options.k, 0.2, options.layout, options.one_forward)
    images, truth = case(options.shape)
    runs = []
    for i in range(options.repeats + 1):
        start = time.perf_counter()
        report = distillation.step(images, truth)
        # The first step also allocates and chooses kernels.
        if i > 0:
            runs.append(time.perf_counter() - start)
    version, onednn = versions()
    result = dict(
        shape=list(options.shape), k=options.k, threads=options.threads, seconds=statistics.median(runs), runs=runs,
        peak_gib=peak_gib(), loss=report[0], updated=bool(report[4]),
        layout="channels-last" if options.channels_last else "contiguous", one_forward=options.one_forward,
        torch=version, onednn=onednn)
    if options.json:
        return print(json.dumps(result))
    print(f"{'x'.join(map(str, options.shape))}, k = {options.k}, {options.threads} thread(s), {result['layout']}"
          f"{', one forward' if options.one_forward else ''}, PyTorch {version}, oneDNN {onednn}")
    print(f"{result['seconds']:.3f} s a step, peak {result['peak_gib']:.2f} GiB, loss {result['loss']:.4f}")
    print("runs:", " ".join(f"{run:.3f}" for run in runs))


# Golden values.


def golden(options):
    """Compares with a file of golden values; 0 if all is within the bounds that the Swift program keeps."""
    from safetensors.torch import load_file

    file = load_file(options.golden)
    k = file["init/student.conv_d1.conv1.conv.weight"].shape[0]
    if file["init/disc.disc_2.0.weight"].shape[1] != 8 * k:
        sys.exit(f"{options.golden}: not of the hierarchical discriminator, which is the only one here")
    # The bench always updates the discriminator; the file was made with the method's gate.
    distillation = Distillation(k, 0, options.layout, options.one_forward, gate=0.8)
    networks = dict(student=distillation.student, teacher=distillation.teacher, disc=distillation.discriminator)
    for name, network in networks.items():
        prefix = f"init/{name}."
        network.load_state_dict({key[len(prefix):]: x for key, x in file.items() if key.startswith(prefix)})
    images, truth = file["input/x"][None], file["input/y"].long()[None]
    rows = []

    def compare(name, value, expected, bound):
        difference = torch.linalg.vector_norm(value.double() - expected.double())
        rows.append((name, (difference / torch.linalg.vector_norm(expected.double())).item(), bound))

    with torch.no_grad():
        four, three = distillation.inputs(images)
        student, teacher = distillation.student(three), distillation.teacher(four)
        forward = {"student.logits": student[0], "teacher.logits": teacher[0]}
        for i in range(6):
            forward[f"student.feature.{i // 2}.{i % 2}"] = student[1 + i]
        forward["disc.fake"] = distillation.discriminator(student, three)
        forward["disc.real"] = distillation.discriminator(teacher, three)
    for name, value in forward.items():
        compare(name, value[0], file[f"forward/{name}"], 1e-4)

    trace, expected = [], file["trace"]
    for i in range(len(expected)):
        trace.append(distillation.step(images, truth))
        if i > 0:
            continue
        # Biases in front of a norm have a true gradient of 0, so they have no relative error.
        names = [name for name, _ in distillation.student.named_parameters()
                 if not name.endswith((".conv.bias", "conv_up.bias"))]
        gradients = {name: p.grad for name, p in distillation.student.named_parameters()}
        compare("student's gradient", torch.cat([gradients[name].flatten() for name in names]),
                torch.cat([file[f"grad/student/{name}"].flatten() for name in names]), 1e-3)
        # The file has only norms of the discriminator's.
        weights = [(p, file[f"digest/grad/disc.{name}"]) for name, p in distillation.discriminator.named_parameters()
                   if name.endswith("weight")]
        if trace[0][4]:
            compare("discriminator's gradient, norms", torch.stack([p.grad.double().norm() for p, _ in weights]),
                    torch.stack([digest[1] for _, digest in weights]), 1e-3)
    trace = torch.tensor(trace, dtype=torch.float64)
    for column, name in enumerate(("student's loss", "cross-entropy", "discriminator's loss", "accuracy", "updated")):
        bound = 1e-3 if column < 3 else 1e-6
        compare(f"{name}, step 1", trace[:1, column], expected[:1, column], bound)
        # The later steps also test both Adams.
        compare(f"{name}, {len(expected)} steps", trace[:, column], expected[:, column], bound)

    if options.json:
        print(json.dumps({name: error for name, error, _ in rows}))
    else:
        print("relative error (l2) against", options.golden)
        for name, error, bound in rows:
            print(f"{name:32} {error:.1e}{'' if error <= bound else f'  above {bound:g}'}")
    return 0 if all(error <= bound for _, error, bound in rows) else 1


# Options, which convolutions.py shares.


def shape(text):
    sides = tuple(int(side) for side in text.split("x"))
    if len(sides) != 3 or min(sides) < 32 or any(side % 16 for side in sides):
        raise argparse.ArgumentTypeError("three sides along z, y and x, each a multiple of 16, 32 at the least")
    return sides


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 at the least")
    return number


def parser(description):
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--shape", type=shape, default=(80, 96, 80), help="voxels along z, y and x: 80x96x80")
    result.add_argument("--k", type=positive, default=32, help="channels of the networks at full size")
    result.add_argument("--threads", type=positive, default=2)
    result.add_argument("--repeats", type=positive, default=3, help="the median counts; one run before does not")
    result.add_argument("--json", action="store_true", help="print JSON")
    return result


def set_threads(options):
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)


def main():
    arguments = parser("One HAD-Net step in PyTorch on the CPU: seconds and memory.")
    arguments.add_argument("--channels-last", action="store_true", help="data and weights as channels_last_3d")
    arguments.add_argument("--one-forward", action="store_true",
                           help="the student's scores of the student's turn serve the discriminator's turn too")
    arguments.add_argument("--golden", metavar="FILE", help="compare with golden values instead; dropout is off")
    options = arguments.parse_args()
    options.layout = torch.channels_last_3d if options.channels_last else torch.contiguous_format
    set_threads(options)
    return golden(options) if options.golden else benchmark(options)


if __name__ == "__main__":
    sys.exit(main())
