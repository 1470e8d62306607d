"""Train the three networks on generated shapes, and write weights and cards where the package keeps them.

Data, seeds and recipe are those of the cards. On one kind of processor, with one version of torch and one number of threads, the
weights come out the same to the last bit; elsewhere they differ, and so do the last digits of the accuracy.

    python examples/train_shapes.py                  # all three
    python examples/train_shapes.py vit --out DIR    # one of them, to another folder
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from counterpoint.data.shapes import CLASSES, NETWORKS, ShapeBatch, generate
from counterpoint.data.shapes.loading import MEAN, STD, card_path, classifier
from counterpoint.data.shapes.networks import SIZE, VGG, ViT
from counterpoint.files import whole_file, writable_folder

HELD_OUT_SEED, HELD_OUT = 1, 2000
FIRST_TRAINING_SEED, PER_SEED = 100, 500
THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained: AdamW, its learning rate in one cycle, on images turned, mirrored and recoloured at random."""

    images: int = 8000
    """Of the training seeds, 500 each."""
    epochs: int
    learning_rate: float
    batch: int = 32
    weight_decay: float = 0.01
    seed: int = 0
    """Of the first weights, the order of the images, and what is done to them."""
    without_decoys: float = 0.25
    """Share of images without decoys at the end; it falls from 1 in the first half. It makes the evidence easy to find."""


RECIPES = {
    "resnet": Recipe(epochs=8, learning_rate=4e-3),
    "vgg": Recipe(epochs=9, learning_rate=2e-3),
    "vit": Recipe(epochs=7, learning_rate=3e-3),
}


def training_images(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images and images without decoys, (count, 3, 64, 64) as bytes, and their labels."""
    images, alone, labels = [], [], []
    for k in range(0, count, PER_SEED):
        batch = generate(min(PER_SEED, count - k), seed=FIRST_TRAINING_SEED + k // PER_SEED, size=SIZE)
        images.append(_as_bytes(batch.images))
        alone.append(_as_bytes(batch.without(batch.decoys)))
        labels.append(batch.labels)
    return torch.cat(images), torch.cat(alone), torch.cat(labels)


def _as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def train(name: str, recipe: Recipe) -> nn.Module:
    """The trained network, in evaluation mode."""
    images, alone, labels = training_images(recipe.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = NETWORKS[name](len(CLASSES))
        _draw_weights(network)
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    steps = recipe.images // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.15
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    for epoch in range(recipe.epochs):
        share = max(recipe.without_decoys, 1 - 2 * epoch / recipe.epochs)
        order = torch.randperm(recipe.images, generator=generator)
        total = 0.0
        for rows in order[: steps * recipe.batch].split(recipe.batch):
            chosen = torch.rand(len(rows), generator=generator) < share
            pixels = torch.where(chosen.view(-1, 1, 1, 1), alone[rows], images[rows]).float() / 255
            loss = nn.functional.cross_entropy(
                network(_varied((pixels - MEAN) / STD, generator)), labels[rows]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"{name}: epoch {epoch + 1} of {recipe.epochs}, loss {total / steps:.3f}", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)


def _draw_weights(network: nn.Module) -> None:
    """Where torch's own first weights will not do."""
    if isinstance(network, VGG):  # without norms, signals must keep their strength from layer to layer
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not network.fc2:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if isinstance(network, ViT):
        nn.init.trunc_normal_(network.embedding.class_token, std=0.02)
        nn.init.trunc_normal_(network.embedding.position, std=0.02)


def _varied(batch: Tensor, generator: torch.Generator) -> Tensor:
    """The normalised images turned, mirrored, their channels in another order, their colours inverted: no class depends on it.

    Each image another way: batch norm must see in a batch what it will see later.
    """
    eighths = batch.chunk(8)  # the images come in random order, so these are random eighths
    turned = [
        part.rot90(k, (2, 3)) if k < 4 else part.rot90(k, (2, 3)).flip(3) for k, part in enumerate(eighths)
    ]
    rows = torch.arange(len(batch))[:, None]
    channels = torch.rand(len(batch), 3, generator=generator).argsort(1)
    sign = 1 - 2.0 * torch.randint(2, (len(batch), 1, 1, 1), generator=generator)
    return (torch.cat(turned)[rows, channels] * sign).contiguous(memory_format=torch.channels_last)


def filled(batch: ShapeBatch, removed: Tensor) -> Tensor:
    """The images with the mean colour of their background in place of the removed pixels."""
    mean = batch.backgrounds.mean((2, 3), keepdim=True)
    return torch.where(removed.unsqueeze(1), mean, batch.images)


VIEWS: dict[str, Callable[[ShapeBatch], Tensor]] = {
    "as they are": lambda batch: batch.images,
    "without the evidence": lambda batch: batch.without(batch.evidence),
    "evidence filled with the mean colour": lambda batch: filled(batch, batch.evidence),
    "without the decoys": lambda batch: batch.without(batch.decoys),
    "decoys filled with the mean colour": lambda batch: filled(batch, batch.decoys),
    "all but the evidence filled with the mean colour": lambda batch: filled(batch, ~batch.evidence),
}
"""What the held-out images are turned into before the network sees them."""


def accuracies(module: nn.Module, batch: ShapeBatch) -> tuple[dict[str, float], dict[str, float]]:
    """The share of right answers for each view, and for each class of the images as they are."""
    right = {name: _right(module, view(batch), batch.labels) for name, view in VIEWS.items()}
    views = {name: round(hits.float().mean().item(), 4) for name, hits in right.items()}
    classes = {
        name: round(right["as they are"][batch.labels == k].float().mean().item(), 4)
        for k, name in enumerate(CLASSES)
    }
    return views, classes


@torch.no_grad()
def _right(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    answers = torch.cat([module(rows).argmax(1) for rows in images.split(100)])
    return answers == labels


def write(name: str, recipe: Recipe, folder: Path, *, held_out: int = HELD_OUT) -> dict[str, Any]:
    """Train one network, write its weights and its card, and return the card."""
    wall, processor = time.perf_counter(), time.process_time()
    network = train(name, recipe)
    cost = {
        "wall_seconds": round(time.perf_counter() - wall),
        "processor_seconds": round(time.process_time() - processor),
        "threads": torch.get_num_threads(),
    }
    views, classes = accuracies(
        classifier(network, name).module, generate(held_out, seed=HELD_OUT_SEED, size=SIZE)
    )
    content = to_bytes(network.state_dict())
    card = {
        "name": f"shapes_{name}",
        "classes": list(CLASSES),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "data": {
            "source": "counterpoint.data.shapes.generate",
            "size": SIZE,
            "training_seeds": [FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + (recipe.images - 1) // PER_SEED],
            "held_out": held_out,
            "held_out_seed": HELD_OUT_SEED,
        },
        "training": asdict(recipe),
        "accuracy": views,
        "accuracy_of_each_class": classes,
        "cost": cost,
        "made_with": {"torch": torch.__version__, "processor": platform.machine()},
        "licence": "Apache-2.0",
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    card_file = folder / card_path(name).name
    with whole_file(card_file.with_suffix(".safetensors")) as partial:
        partial.write_bytes(content)
    with whole_file(card_file) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def main() -> None:
    """Read the command line, train, and print what the cards say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"{', '.join(RECIPES)}; by default all")
    parser.add_argument("--out", type=Path, default=card_path("resnet").parent, help="folder to write to")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in RECIPES]:
        parser.error(f"unknown network '{unknown[0]}'; known: {', '.join(RECIPES)}")
    torch.set_num_threads(THREADS)
    folder = writable_folder(arguments.out)
    for name in arguments.names or RECIPES:
        card = write(name, RECIPES[name], folder)
        print(json.dumps({key: card[key] for key in ("name", "accuracy", "cost")}, indent=1), flush=True)


if __name__ == "__main__":
    main()
