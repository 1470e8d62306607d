"""The score of a class over a region of its class map: which region, at which resolution, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.errors import InputError, ModelError, ShapeError
from networks import random_images

GREY = cp.baselines.Grey()


class Segmenter(nn.Module):
    """Class maps of a given share of the image's resolution, in a dictionary as torchvision's networks return them."""

    labels = ("ground", "cat", "dog")

    def __init__(self, seed=0, shrink=1, classes=3, channels=2):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.body = nn.Conv2d(channels, classes, 3, padding=1).double()
        self.shrink = shrink
        with torch.no_grad():
            for parameter in self.body.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        maps = self.body(x)
        return {"out": F.avg_pool2d(maps, self.shrink) if self.shrink > 1 else maps}


def maps_of(net, images):
    with torch.no_grad():
        return net(images)["out"]


def test_a_box_and_a_mask_of_the_same_pixels_have_the_mean_logit_there():
    net, images = Segmenter(), random_images(0)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:4, 2:6] = True
    expected = maps_of(net, images)[:, 1, 1:4, 2:6].mean((1, 2))
    for where in ((1, 2, 4, 6), mask, torch.stack([mask, mask]), [mask, (1, 2, 4, 6)]):
        bound = cp.region(net, "cat", where).bind(images)
        torch.testing.assert_close(bound.at_inputs, expected)
        torch.testing.assert_close(bound(images, torch.arange(2)), expected)
        assert bound.labels == ("cat", "cat")
        assert bound.area.tolist() == [12.0, 12.0]


def test_the_sum_and_the_probability_are_what_they_say():
    net, images = Segmenter(), random_images(0)
    maps = maps_of(net, images)
    total = cp.region(net, 2, (0, 0, 2, 3), reduce="sum").bind(images)
    torch.testing.assert_close(total.at_inputs, maps[:, 2, :2, :3].sum((1, 2)))
    sure = cp.region(net, 2, (0, 0, 2, 3), kind="probability").bind(images)
    torch.testing.assert_close(sure.at_inputs, maps.softmax(1)[:, 2, :2, :3].mean((1, 2)))
    every = maps.softmax(1)[:, :, :2, :3].mean((2, 3))
    torch.testing.assert_close(sure.spread, every.amax(1) - every.amin(1))
    whole = cp.region(net, 0, "all").bind(images)
    torch.testing.assert_close(whole.at_inputs, maps[:, 0].mean((1, 2)))


def test_the_predicted_region_is_where_the_class_wins_at_the_clean_input_and_stays_there():
    net, images = Segmenter(), random_images(0)
    maps = maps_of(net, images)
    wins = maps.argmax(1) == 1
    assert 0 < wins[0].sum() < 36
    bound = cp.region(net, "cat").bind(images)
    torch.testing.assert_close(
        bound.at_inputs, torch.stack([m[1][w].mean() for m, w in zip(maps, wins, strict=True)])
    )
    # At another point the region is still the one of the image, whatever wins there.
    other = random_images(5)
    expected = maps_of(net, other)[0, 1][wins[1]].mean()
    torch.testing.assert_close(bound(other[:1], torch.tensor([1]))[0], expected)


def test_top1_is_the_class_that_wins_most_of_the_region():
    net, images = Segmenter(), random_images(0)
    wins = maps_of(net, images).argmax(1)
    assert cp.region(net).bind(images).classes.tolist() == [w.flatten().mode().values.item() for w in wins]
    corner = cp.region(net, "top1", (0, 0, 1, 1)).bind(images)
    assert corner.classes.tolist() == wins[:, 0, 0].tolist()


@pytest.mark.parametrize("shrink", [2, 4])
def test_a_class_map_of_lower_resolution_counts_each_cell_by_the_share_that_is_covered(shrink):
    net, images = Segmenter(shrink=shrink), random_images(0, size=8)
    maps = maps_of(net, images)
    assert maps.shape[2] == 8 // shrink
    mask = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    share = F.avg_pool2d(mask[None].double(), shrink)[0]
    expected = (maps[:, 1] * share).sum((1, 2)) / share.sum()
    bound = cp.region(net, 1, mask).bind(images)
    torch.testing.assert_close(bound.at_inputs, expected)
    assert bound.area.tolist() == [float(mask.sum())] * 2
    # A mask of the map's own size is taken cell by cell.
    small = share > 0.3
    torch.testing.assert_close(
        cp.region(net, 1, small).bind(images).at_inputs, torch.stack([m[1][small].mean() for m in maps])
    )


def test_cells_that_do_not_divide_the_image_are_covered_by_parts_of_pixels():
    from counterpoint.scores.regions import _shares

    line = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    # Cells of 2.5 pixels: the third pixel, 0, is shared.
    torch.testing.assert_close(_shares(line, (2,)), torch.tensor([0.4, 0.8], dtype=torch.float64))
    # More cells than pixels: each has its pixel's number.
    torch.testing.assert_close(
        _shares(line[:2], (4,)), torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    )


@pytest.mark.parametrize("drop", [False, True])
def test_a_single_class_wins_above_0_and_its_probability_is_the_sigmoid(drop):
    class Single(Segmenter):
        def forward(self, x):
            maps = super().forward(x)["out"]
            return maps[:, 0] if drop else maps

    net, images = Single(3, classes=1), random_images(0)
    net.labels = None
    maps = net.body(images).detach()
    bound = cp.region(net, 0, kind="probability").bind(images)
    expected = [m[0].sigmoid()[m[0] > 0].mean() for m in maps]
    torch.testing.assert_close(bound.at_inputs, torch.stack(expected))
    assert bound.spread.tolist() == [0.0, 0.0]


def test_several_regions_of_one_image_are_several_rows():
    net, image = Segmenter(), random_images(0, batch=1)
    boxes = [(0, 0, 3, 3), (3, 3, 6, 6)]
    comparison = cp.compare(cp.region(net, ["cat", "dog"], boxes), image.expand(2, -1, -1, -1), baseline=GREY)
    attribution = comparison.explain(cp.methods.IntegratedGradients())
    maps = maps_of(net, image)[0]
    torch.testing.assert_close(
        attribution.score, torch.stack([maps[1, :3, :3].mean(), maps[2, 3:, 3:].mean()])
    )
    assert attribution.question["class_target"] == [1, 2]
    assert attribution.question["score"] == "region_mean_logit"
    # A convolution of three pixels sees one pixel beyond the region, and none farther off.
    assert attribution.values[0, :, 5:].abs().max() == attribution.values[1, :, :2].abs().max() == 0
    assert attribution.error.abs().max() < 1e-12


def test_volumes_and_signals_have_regions_too():
    net = nn.Conv3d(1, 2, 1).double()
    volume = torch.rand(1, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bound = cp.region(net, 1, (0, 1, 2, 2, 3, 5)).bind(volume)
    torch.testing.assert_close(bound.at_inputs, net(volume)[:, 1, 0:2, 1:3, 2:5].mean((1, 2, 3)))
    line = nn.Conv1d(1, 2, 1).double()
    signal = volume[:, :, 0, 0]
    torch.testing.assert_close(
        cp.region(line, 0, (1, 4)).bind(signal).at_inputs, line(signal)[:, 0, 1:4].mean(1)
    )


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ((0, 0, 7, 2), ShapeError, r"a box within \(6, 6\), its ends above its starts, got \(0, 0, 7, 2\)"),
        ((2, 2, 2, 3), ShapeError, "its ends above its starts"),
        ((0, 0, 2), InputError, r"a box of 4 whole numbers \(all starts, then all ends\), got \(0, 0, 2\)"),
        ("somewhere", InputError, "region must be 'predicted', 'all', a mask or a box, got 'somewhere'"),
        (torch.ones(6, 6), InputError, r"a mask of booleans, got torch.float32: mask > 0.5"),
        (torch.ones(5, 6) > 0, ShapeError, r"the size of the image, \(6, 6\), or of the class map, \(6, 6\)"),
        (torch.ones(3, 6, 6) > 0, InputError, "one for each of 2 images, got 3"),
        (
            torch.ones(6) > 0,
            InputError,
            r"a mask of 2 axes, a box, or one of these for each image, got \(6,\)",
        ),
        (["all"], InputError, "one for each of 2 images, got 1"),
        (3, InputError, "got int"),
        (torch.zeros(6, 6) > 0, InputError, "at least one pixel, but that of image 0 is empty"),
    ],
)
def test_a_wrong_region_is_named(where, error, words):
    with pytest.raises(error, match=words):
        cp.region(Segmenter(), 1, where).bind(random_images(0))


def test_a_class_that_wins_nowhere_is_told_which_do():
    net, images = Segmenter(), random_images(0)
    with torch.no_grad():
        net.body.bias[2] = -100
    with pytest.raises(
        InputError, match=r"class 2 \(dog\) wins, but in image 0 it wins none; those that do: \d"
    ):
        cp.region(net, "dog").bind(images)


def test_a_model_without_class_maps_is_told_so():
    scores = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    with pytest.raises(
        ModelError, match=r"class maps \(2, classes, height, width\).*\(2, 3\); for class scores .* cp.logit"
    ):
        cp.region(scores, 0).bind(random_images(0))
    for name, wrong in (("reduce", {"reduce": "max"}), ("kind", {"kind": "log"})):
        with pytest.raises(InputError, match=f"{name} must be "):
            cp.region(scores, 0, **wrong)


@pytest.mark.slow
def test_segmentation_networks_of_torchvision_and_hugging_face_are_read_as_they_are():
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    transformers = pytest.importorskip("transformers")
    images = random_images(0, batch=1, channels=3, size=64).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        two = segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=5, aux_loss=True
        ).eval()
        config = transformers.SegformerConfig(
            num_labels=4, depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16
        )
        quarter = transformers.SegformerForSemanticSegmentation(config).eval()
    with pytest.raises(
        ModelError, match=r"an OrderedDict with 'out' \(1, 5, 64, 64\) and 'aux'.*output='out'"
    ):
        cp.region(two).bind(images)
    # The auxiliary head would pass a layer of the last block by; what is picked does not.
    comparison = cp.compare(
        cp.region(two, output="out"), images, baseline=cp.baselines.Grey(), layer="backbone.16"
    )
    assert comparison.cut.kind == "split"
    # One tensor, of a quarter of the resolution, needs no name.
    with torch.no_grad():
        maps = quarter(images).logits[0]
    bound = cp.region(quarter).bind(images)
    wins = maps.argmax(0) == bound.classes[0]
    torch.testing.assert_close(bound.at_inputs[0], maps[bound.classes[0]][wins].mean())
    assert maps.shape[1:] == (16, 16)
    assert bound.area.tolist() == [16.0 * int(wins.sum())]
