"""The audit of metrics on images whose evidence is known."""

import json

import pytest
import torch
from PIL import Image
from torch import nn

import counterpoint as cp
from counterpoint.audit import EvidenceAudit, audit_evidence
from counterpoint.audit.evidence import corrupted
from counterpoint.audit.words import evidence_sentences
from counterpoint.auditing import evidence_photographs
from counterpoint.errors import InputError, ShapeError

BASELINES = [cp.baselines.Black(), cp.baselines.White()]


class Bright(nn.Module):
    """Two classes: how bright the left half is, and nothing."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 2, bias=False)
        self.fc.weight.data = torch.tensor([[9.0], [0.0]])

    def forward(self, x):
        return self.fc(x[..., : x.shape[-1] // 2].mean((1, 2, 3))[:, None])


@pytest.fixture(scope="module")
def classifier():
    return cp.Classifier(Bright().eval(), mean=0.0, std=1.0, size=32, labels=["bright", "not"], name="bright")


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.7


@pytest.fixture(scope="module")
def evidence():
    left = torch.zeros(6, 32, 32, dtype=torch.bool)
    left[..., :16] = True
    return left


def test_level_0_is_the_mask_and_level_1_knows_nothing_of_it(evidence):
    exact, gone = (corrupted(evidence, level) for level in (0.0, 1.0))
    assert exact[evidence].min() > exact[~evidence].max()
    other = corrupted(~evidence, 1.0)
    assert torch.equal(gone, other)


def test_each_image_is_corrupted_in_its_own_way_whatever_its_company(evidence):
    gone, half = (corrupted(evidence, level) for level in (1.0, 0.5))
    assert not torch.equal(gone[0], gone[1])
    assert not torch.equal(half[0], half[1])
    assert torch.equal(corrupted(evidence[:2], 0.5), half[:2])
    assert not torch.equal(corrupted(evidence, 0.5, seed=1), half)


def test_corruption_is_nested_and_of_the_share_asked_for(evidence):
    exact = corrupted(evidence, 0.0)
    wrong = [corrupted(evidence, level) != exact for level in (0.25, 0.5, 0.75)]
    for share, here in zip((0.25, 0.5, 0.75), wrong, strict=True):
        assert float(here[0].double().mean()) == pytest.approx(share, abs=0.02)
    assert not (wrong[0] & ~wrong[1]).any()
    assert not (wrong[1] & ~wrong[2]).any()


def test_a_baseline_that_takes_the_evidence_away_orders_maps_and_one_that_does_not_cannot(
    classifier, images, evidence
):
    audit = audit_evidence(classifier, images, evidence, BASELINES, target="bright", steps=16)
    black, white = range(2)
    for metric in ("deletion", "insertion", "relevance_gain"):
        means = audit.means(metric)
        assert means[black] > 0.9
        # White is brighter still: removal adds evidence, and every order is turned around.
        assert means[white] < 0.2
    words = " ".join(evidence_sentences(audit))
    assert "best under black" in words
    assert "Surely less often (95 %) under white" in words
    assert "Not surely better than chance under white" in words


def test_equal_areas_count_half():
    areas = torch.zeros(3, 2, 4)
    areas[:, 1] = torch.tensor([3.0, 2.0, 1.0])[:, None]
    from counterpoint.audit.evidence import _in_order

    assert _in_order(areas).tolist() == [[0.5] * 4, [1.0] * 4]


def test_gaps_are_paired_differences_from_the_best():
    correct = torch.tensor([[1.0, 0.5, 0.9, 0.4], [0.9, 0.4, 0.8, 0.3]])
    audit = EvidenceAudit(
        baselines=("a", "b"), correct={"deletion": correct}, areas={}, levels=(0.0, 1.0), resamples=100
    )
    low, high = audit.gaps("deletion")
    assert low.tolist() == pytest.approx([0.0, 0.1])
    assert high.tolist() == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"evidence": torch.ones(6, 16, 16, dtype=torch.bool)}, ShapeError, "evidence must be"),
        ({"evidence": torch.zeros(6, 32, 32, dtype=torch.bool)}, InputError, "at least one pixel of each"),
        ({"levels": (0.0,)}, InputError, "levels must rise"),
        ({"levels": (0.5, 0.2)}, InputError, "levels must rise"),
        ({"levels": (0.0, 1.5)}, InputError, "levels must rise"),
    ],
)
def test_bad_input_is_named(unchecked, classifier, images, evidence, change, error, words):
    given = {"evidence": evidence, **change}
    with pytest.raises(error, match=words):
        audit_evidence(classifier, images, given.pop("evidence"), BASELINES, target="bright", **given)


# photographs and masks


@pytest.fixture
def album(images, evidence, tmp_path):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(4):
        pixels = (images[k].permute(1, 2, 0).numpy() * 255).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
        Image.fromarray((evidence[k].numpy() * 255).astype("uint8")).save(tmp_path / "masks" / f"{k}.png")
    return tmp_path


def test_photographs_with_masks_become_table_words_and_figure(classifier, album):
    paths = sorted((album / "photos").iterdir())
    written = evidence_photographs(classifier, paths, album / "masks", BASELINES, album / "out", steps=8)
    assert {path.name for path in written.files} == {"evidence.md", "evidence.json", "evidence.png"}
    facts = json.loads((album / "out" / "evidence.json").read_text())
    black, white = facts["metrics"]["deletion"]
    assert black["correct"] > white["correct"]
    assert "best under black" in (album / "out" / "evidence.md").read_text()


def test_every_photograph_needs_a_mask_of_its_size(classifier, album):
    paths = sorted((album / "photos").iterdir())
    with pytest.raises(InputError, match="must be a folder of masks"):
        evidence_photographs(classifier, paths, album / "none", BASELINES, album / "out")
    Image.new("L", (8, 8), 255).save(album / "masks" / "1.png")
    with pytest.raises(InputError, match=r"size of its photograph, but '1.png' is \(8, 8\)"):
        evidence_photographs(classifier, paths, album / "masks", BASELINES, album / "out")
    (album / "masks" / "2.png").unlink()
    with pytest.raises(InputError, match=r"none for\s+2\.png"):
        evidence_photographs(classifier, paths, album / "masks", BASELINES, album / "out")
    assert not (album / "out").exists()
