"""Feature visualisation: what the parametrisations claim, crops within range, optimisation that can be checked and repeated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from counterpoint import progress
from counterpoint import visualisation as vis
from counterpoint.errors import (
    Cancelled,
    InputError,
    LayerError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from counterpoint.visualisation.colour import AXES
from counterpoint.visualisation.resampling import resampled
from counterpoint.visualisation.spectra import frequencies, spectrum_at
from networks import SmallNet

SIZE = 32
EVERY = (
    vis.Pixels(SIZE),
    vis.Fourier(SIZE),
    vis.Fourier(SIZE + 1, decay=1.5, contrast=2.0),
    vis.Fourier(SIZE, learn_contrast=True),
    vis.MaCo(vis.pink_spectrum(SIZE), SIZE),
    vis.MaCo(vis.pink_spectrum(16), SIZE + 1, learn_magnitude=True),
    vis.MaCo(vis.bundled_spectrum(SIZE), SIZE, learn_magnitude=True, as_published=True),
)
every = pytest.mark.parametrize("parametrisation", EVERY, ids=lambda p: f"{type(p).__name__}-{p.size}")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def double(parameters):
    return {name: tensor.double() for name, tensor in parameters.items()}


def colour_of(image):
    """The image before the sigmoid, in decorrelated colour."""
    return vis.decorrelate(torch.logit(image)[0])


def random_image(seed, size=SIZE, dtype=torch.float32):
    return torch.rand(1, 3, size, size, generator=generator(seed), dtype=torch.float64).to(dtype)


# Colour


def test_colours_decorrelated_and_back_are_the_same():
    pixels = torch.randn(2, 3, 4, 5, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(vis.recorrelate(vis.decorrelate(pixels)), pixels)
    torch.testing.assert_close(vis.decorrelate(vis.recorrelate(pixels)), pixels)


def test_one_unit_of_each_axis_adds_its_row_of_the_matrix():
    for axis, row in enumerate(AXES):
        colour = torch.zeros(3, 1, 1, dtype=torch.float64)
        colour[axis] = 1
        torch.testing.assert_close(vis.recorrelate(colour).flatten(), torch.tensor(row, dtype=torch.float64))


def test_starts_vary_in_lightness_more_than_in_colour_as_photographs_do():
    image = vis.Fourier(64).image(vis.Fourier(64).start(generator()))
    red, green, blue = image[0].flatten(1)
    lightness = (red + green + blue) / 3
    assert (red - blue).std() < lightness.std()
    correlations = torch.corrcoef(colour_of(image).flatten(1))
    assert (correlations - torch.eye(3)).abs().max() < 0.35  # few low frequencies decide it


# Parametrisations


@every
def test_images_are_pixels_in_range_with_finite_gradients_at_the_start(parametrisation):
    parameters = {n: p.requires_grad_() for n, p in parametrisation.start(generator()).items()}
    image = parametrisation.image(parameters)
    assert image.shape == (1, 3, parametrisation.size, parametrisation.size)
    assert image.dtype == torch.float32
    assert 0 <= float(image.detach().min()) < float(image.detach().max()) <= 1
    weight = torch.randn(image.shape, generator=generator(1))
    for name, gradient in zip(
        parameters, torch.autograd.grad((image * weight).sum(), list(parameters.values())), strict=True
    ):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


@every
def test_gradients_are_finite_where_the_image_is_of_one_colour(parametrisation):
    grey = torch.full((1, 3, parametrisation.size, parametrisation.size), 0.5)
    parameters = {n: p.requires_grad_() for n, p in parametrisation.of(grey).items()}
    weight = torch.randn(grey.shape, generator=generator(1))
    value = (parametrisation.image(parameters) * weight).sum()
    for gradient in torch.autograd.grad(value, list(parameters.values())):
        assert gradient.isfinite().all()


@every
def test_float64_parameters_make_a_float64_image(parametrisation):
    parameters = parametrisation.start(generator())
    image = parametrisation.image(double(parameters))
    assert image.dtype == torch.float64
    torch.testing.assert_close(image.float(), parametrisation.image(parameters), rtol=0, atol=1e-5)


@every
def test_one_seed_is_one_start_and_another_is_another(parametrisation):
    first, again, other = (
        parametrisation.image(parametrisation.start(generator(seed))) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every
def test_the_gradient_is_that_of_finite_differences(parametrisation):
    small = type(parametrisation)
    small = {
        vis.Pixels: lambda: vis.Pixels(5),
        vis.Fourier: lambda: vis.Fourier(parametrisation.size % 2 + 4, learn_contrast=True),
        vis.MaCo: lambda: vis.MaCo(
            vis.pink_spectrum(4),
            parametrisation.size % 2 + 4,
            learn_magnitude=parametrisation.learn_magnitude,
            as_published=parametrisation.as_published,
        ),
    }[small]()
    parameters = double(small.start(generator()))
    names = list(parameters)
    inputs = [parameters[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *given: small.image(dict(zip(names, given, strict=True))), inputs, atol=1e-6
    )


@pytest.mark.parametrize("parametrisation", EVERY[:4], ids=lambda p: f"{type(p).__name__}-{p.size}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_returns_the_parameters_of_an_image(parametrisation, dtype):
    image = 0.01 + 0.98 * random_image(3, parametrisation.size, dtype)
    back = parametrisation.image(parametrisation.of(image))
    torch.testing.assert_close(back, image, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-7)
    # Black and white lie at infinity: half a grey level is missing.
    checks = torch.zeros_like(image)
    checks[..., ::2] = 1
    back = parametrisation.image(parametrisation.of(checks))
    torch.testing.assert_close(back, checks, rtol=0, atol=1 / 500)


@pytest.mark.parametrize("parametrisation", EVERY[:4], ids=lambda p: f"{type(p).__name__}-{p.size}")
@pytest.mark.parametrize("colour", [(0.5, 0.5, 0.5), (0.2, 0.2, 0.2), (0.9, 0.4, 0.1)])
def test_of_a_plain_colour_is_that_colour(parametrisation, colour):
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, parametrisation.size, parametrisation.size)
    back = parametrisation.image(parametrisation.of(image))
    torch.testing.assert_close(back, image, rtol=0, atol=1e-5)


def test_of_takes_images_of_other_sizes_and_shapes():
    image = resampled(random_image(0, 6), (0, 0, 6, 6), (48, 48))
    wide = F.pad(image, (20, 20))
    back = vis.Fourier(SIZE).image(vis.Fourier(SIZE).of(wide))
    expected = F.interpolate(image, (SIZE, SIZE), mode="bilinear", antialias=True)
    torch.testing.assert_close(back, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
def test_of_keeps_the_phases_of_an_image_in_maco_and_with_magnitudes_all_its_frequencies(size):
    image = 0.2 + 0.6 * random_image(1, size, torch.float64)
    spectrum = torch.fft.rfft2(colour_of(image))[:, 1:, 1:-1]
    for learn in (False, True):
        maco = vis.MaCo(vis.pink_spectrum(size), size, learn_magnitude=learn)
        found = torch.fft.rfft2(colour_of(maco.image(maco.of(image))))[:, 1:, 1:-1]
        torch.testing.assert_close((found / found.abs()), spectrum / spectrum.abs())
        ratio = found.abs() / spectrum.abs()
        assert (float(ratio.std() / ratio.mean()) < 1e-9) == learn


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (torch.full((1, 3, 8, 8), math.nan), NotFiniteError, "NaN"),
        (torch.full((1, 3, 8, 8), 1.5), InputError, "1.5"),
        (torch.zeros(2, 3, 8, 8), ShapeError, "(2, 3, 8, 8)"),
        (torch.zeros(1, 1, 8, 8), ShapeError, "three channels"),
    ],
)
def test_of_says_what_is_wrong_with_an_image(unchecked, image, error, words):
    for parametrisation in EVERY:
        with pytest.raises(error) as raised:
            parametrisation.of(image)
        assert words in str(raised.value)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_magnitudes_of_a_fourier_start_fall_with_frequency_by_the_stated_power(decay):
    fourier = vis.Fourier(128, decay=decay)
    spectrum = torch.fft.rfft2(colour_of(fourier.image(double(fourier.start(generator()))))).abs()
    frequency = frequencies(128).expand(3, -1, -1)
    # Columns at the border have real parts only where rows are their own mirror: all others are alike.
    inside = (frequency > 2 / 128) & (frequency < 0.5)
    inside[..., 0] = inside[..., -1] = False
    x, y = frequency[inside].log(), spectrum[inside].log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(float(slope) + decay) < 0.03


def test_a_fourier_image_keeps_its_mean_and_contrast_unless_they_are_learned():
    fourier = vis.Fourier(SIZE, contrast=1.7)
    assert fourier.fixed == {"mean", "contrast"}
    parameters = double(fourier.start(generator()))
    for scale in (1.0, 100.0):
        parameters["spectrum"] = parameters["spectrum"] * scale
        colour = colour_of(fourier.image(parameters))
        assert abs(float(colour.mean())) < 1e-6
        assert float(colour.std(correction=0)) == pytest.approx(1.7, rel=1e-4)
    assert vis.Fourier(SIZE, learn_contrast=True).fixed == set()


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
@pytest.mark.parametrize("source", [vis.pink_spectrum, vis.bundled_spectrum])
def test_the_magnitudes_of_a_maco_image_are_those_of_its_spectrum(size, source):
    template = source(size).double()
    maco = vis.MaCo(source(size), size)
    for phases in (maco.start(generator()), {"phase": 100 * maco.start(generator(1))["phase"]}):
        found = torch.fft.rfft2(colour_of(maco.image(double(phases)))).abs()
        found[:, 0, 0] = 0
        ratio = template.flatten().dot(found.flatten()) / template.flatten().dot(template.flatten())
        torch.testing.assert_close(found, ratio * template, rtol=1e-5, atol=1e-6)


def test_the_published_phases_do_not_keep_every_magnitude():
    maco = vis.MaCo(vis.pink_spectrum(SIZE), SIZE, as_published=True)
    found = torch.fft.rfft2(colour_of(maco.image(double(maco.start(generator()))))).abs()
    ratio = found[:, 1:] / vis.pink_spectrum(SIZE).double()[:, 1:]
    inner = ratio[:, :, 1:-1]
    assert inner.std() / inner.mean() < 1e-5
    assert ratio[:, :, 0].std() / ratio[:, :, 0].mean() > 0.1


def test_learned_magnitudes_start_at_1_and_change_the_spectrum():
    plain, learned = (vis.MaCo(vis.pink_spectrum(SIZE), SIZE, learn_magnitude=m) for m in (False, True))
    parameters = learned.start(generator())
    assert torch.equal(parameters["magnitude"], torch.ones_like(parameters["phase"]))
    torch.testing.assert_close(learned.image(parameters), plain.image({"phase": parameters["phase"]}))
    parameters["magnitude"][:, :, 3] = 5.0
    assert (learned.image(parameters) - plain.image({"phase": parameters["phase"]})).abs().max() > 0.05


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vis.Pixels(0), "size"),
        (lambda: vis.Pixels(8.0), "size"),
        (lambda: vis.Pixels(spread=-1), "spread"),
        (lambda: vis.Fourier(3), "size"),
        (lambda: vis.Fourier(decay=-1), "decay"),
        (lambda: vis.Fourier(contrast=0), "contrast"),
        (lambda: vis.MaCo(vis.pink_spectrum(8), 3), "size"),
        (lambda: vis.MaCo(-vis.pink_spectrum(8)), "none negative"),
        (lambda: vis.MaCo(torch.zeros(3, 8, 5)), "not all 0"),
        (lambda: vis.MaCo(torch.ones(3, 8, 8)), "(3, size, size // 2 + 1)"),
        (lambda: vis.MaCo(torch.full((3, 8, 5), math.nan)), "NaN"),
    ],
)
def test_parametrisations_refuse_what_makes_no_sense(unchecked, make, words):
    with pytest.raises(InputError) as raised:
        make()
    assert words in str(raised.value)


# Spectra


def test_pink_magnitudes_are_one_over_the_frequency():
    spectrum = vis.pink_spectrum(16)
    assert spectrum.shape == (3, 16, 9)
    assert spectrum[1, 0, 1] == 1
    assert spectrum[1, 0, 8] == pytest.approx(1 / 8)
    assert spectrum[2, 13, 4] == pytest.approx(1 / 5)  # row 13 is frequency -3
    assert (spectrum[:, 0, 0] == 0).all()


def test_the_mean_spectrum_is_that_of_the_images():
    # Pictures of a known spectrum, whatever their size: 1 / f in lightness, 1 / f^2 in the two colours.
    size = 64
    power = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64).view(3, 1, 1)
    images = []
    for seed in range(12):
        noise = torch.randn(3, size, size // 2 + 1, 2, generator=generator(seed), dtype=torch.float64)
        shaped = torch.view_as_complex(noise) * (frequencies(size).clamp(min=1 / size) * size) ** -power
        images.append(0.5 + 0.05 * vis.recorrelate(torch.fft.irfft2(shaped, norm="ortho")) * 10)
    spectrum = vis.mean_spectrum(torch.stack(images))
    frequency = frequencies(size)
    for axis in range(3):
        inside = (frequency > 4 / size) & (frequency < 0.45)
        x, y = frequency[inside].log(), spectrum[axis][inside].double().log()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        assert abs(float(slope + power[axis])) < 0.1


def test_the_border_of_images_leaves_no_cross_in_the_spectrum():
    ramp = torch.linspace(0.2, 0.8, 64)[:, None].expand(3, 64, 64).unsqueeze(0)
    spectrum = vis.mean_spectrum(ramp)[0]
    assert spectrum[20:45, 0].max() < 1e-2 * spectrum[1, 0]
    assert vis.mean_spectrum(ramp + 0.1)[0, 5, 0] == pytest.approx(float(spectrum[5, 0]), rel=1e-3)


def test_spectra_at_another_size_have_the_same_magnitudes_at_the_same_frequencies():
    small, large = vis.pink_spectrum(16), spectrum_at(vis.pink_spectrum(64), 16)
    # One over cycles for each image: 4 times as many pixels, a quarter of the magnitude.
    torch.testing.assert_close(large[:, 1:, 1:] / large[0, 1, 1], small[:, 1:, 1:] / small[0, 1, 1])
    up = spectrum_at(small, 64)
    torch.testing.assert_close(up[0, 0, 4:32:4] / up[0, 0, 4], small[0, 0, 1:8] / small[0, 0, 1])
    assert up[0, 0, 1] / up[0, 0, 2] == pytest.approx(2, rel=1e-4)  # below the lowest known frequency


def test_the_bundled_spectrum_falls_about_as_1_over_f_and_is_strongest_in_lightness():
    spectrum = vis.bundled_spectrum(128)
    assert spectrum.shape == (3, 128, 65)
    frequency = frequencies(128)
    inside = (frequency > 4 / 128) & (frequency < 0.45)
    x = frequency[inside].log()
    for axis in range(3):
        y = spectrum[axis][inside].double().log()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        assert -1.7 < float(slope) < -0.8
    assert float(spectrum[0].square().sum()) > float(spectrum[2].square().sum())


def test_the_bundled_spectrum_is_what_the_example_makes():
    import runpy
    from pathlib import Path

    script = Path(__file__).parents[2] / "examples" / "bundled_spectrum.py"
    made = runpy.run_path(str(script))["spectrum"]()
    torch.testing.assert_close(made, vis.bundled_spectrum(64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.zeros(0, 3, 8, 8), ShapeError, "at least one image"),
        (torch.zeros(1, 1, 8, 8), ShapeError, "3 channels"),
        (torch.zeros(3, 8, 8), ShapeError, "(batch, channel, height, width)"),
        (torch.full((1, 3, 8, 8), math.nan), NotFiniteError, "NaN"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), InputError, "uint8"),
        (torch.full((1, 3, 8, 8), 0.5), InputError, "more than one colour"),
    ],
)
def test_images_for_a_spectrum_are_checked(unchecked, images, error, words):
    with pytest.raises(error) as raised:
        vis.MaCo(vis.mean_spectrum(images))
    assert words in str(raised.value)


# Views


@given(
    seed=st.integers(0, 2**31),
    sides=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair))),
    spread=st.floats(0, 2),
    image=st.tuples(st.integers(4, 600), st.integers(4, 600)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_crops_lie_in_the_image_with_sides_in_the_stated_range(seed, sides, spread, image, size):
    boxes = vis.Crops(8, sides, spread).boxes(image, size, generator(seed))
    top, left, bottom, right = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= image[0] + 1e-9).all()
    assert (right <= image[1] + 1e-9).all()
    longer = torch.maximum(bottom - top, right - left) / min(image)
    assert (longer >= sides[0] - 1e-9).all()
    assert (longer <= sides[1] + 1e-9).all()
    torch.testing.assert_close((bottom - top) * size[1], (right - left) * size[0])


def test_sides_and_centres_of_crops_are_spread_as_stated():
    top, left, bottom, right = vis.Crops(4000, (0.1, 0.3)).boxes((200, 200), (10, 10), generator()).T / 200
    side = bottom - top
    assert float(side.mean()) == pytest.approx(0.2, abs=0.003)
    assert float(side.std()) == pytest.approx(0.2 / math.sqrt(12), abs=0.002)
    for centre in ((top + bottom) / 2, (left + right) / 2):
        assert float(centre.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(centre.std()) == pytest.approx(0.15, abs=0.01)


def test_crops_show_what_lies_in_their_box():
    # Red counts rows and green columns: a crop's mean says where it was.
    rows = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
    image = torch.stack(torch.broadcast_tensors(rows[:, None], rows, torch.zeros(1)))[None]
    crops = vis.Crops(6, normal_noise=0, uniform_noise=0)
    seen = crops(image, (16, 16), generator(5))
    boxes = crops.boxes((50, 50), (16, 16), generator(5)) / 50
    torch.testing.assert_close(seen[:, 0].mean((1, 2)), (boxes[:, 0] + boxes[:, 2]) / 2, atol=0.01, rtol=0)
    torch.testing.assert_close(seen[:, 1].mean((1, 2)), (boxes[:, 1] + boxes[:, 3]) / 2, atol=0.01, rtol=0)


def test_pixels_outside_a_crop_do_not_show_in_it():
    image = random_image(0, 40, torch.float64)
    changed = image.clone()
    changed[:, :, :11], changed[:, :, 28:], changed[..., :5], changed[..., 26:] = 9, 9, 9, 9
    box = (11.3, 5.1, 27.9, 25.8)
    assert torch.equal(resampled(image, box, (9, 31)), resampled(changed, box, (9, 31)))


@pytest.mark.parametrize("size", [(20, 15), (80, 60), (13, 47), (40, 30), (1, 1)])
def test_whole_images_are_resized_as_torch_resizes_them(size):
    image = random_image(0, 40, torch.float64)[..., :30]
    expected = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(resampled(image, (0, 0, 40, 30), size), expected)


def test_the_whole_image_is_shown_at_the_networks_size():
    image = random_image(0, 40, torch.float64)
    expected = F.interpolate(image, (10, 10), mode="bilinear", antialias=True)
    torch.testing.assert_close(vis.Whole()(image, (10, 10), generator()), expected)
    # Of another shape: the central part.
    part = F.interpolate(image[:, :, 10:30], (10, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(vis.Whole()(image, (10, 20), generator()), part)
    noisy = vis.Whole(2, normal_noise=0.1)(image, (10, 10), generator())
    assert noisy.shape == (2, 3, 10, 10)
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("make", [vis.Crops, vis.Whole])
def test_noise_is_as_strong_as_stated(make):
    grey = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    normal = make(count=4, normal_noise=0.08, uniform_noise=0)(grey, (64, 64), generator()) - 0.5
    assert float(normal.std()) == pytest.approx(0.08, rel=0.02)
    uniform = make(count=4, normal_noise=0, uniform_noise=0.04)(grey, (64, 64), generator()) - 0.5
    assert float(uniform.abs().max()) == pytest.approx(0.04, rel=0.01)
    assert float(uniform.std()) == pytest.approx(0.04 / math.sqrt(3), rel=0.02)


def test_views_are_differentiable_and_one_seed_gives_one_set():
    image = random_image(0, 8, torch.float64).requires_grad_()
    for views in (vis.Crops(2), vis.Whole(2, normal_noise=0.1)):
        first, again = (views(image, (4, 4), generator(3)) for _ in range(2))
        assert torch.equal(first, again)
        assert torch.autograd.gradcheck(lambda x, v=views: v(x, (4, 4), generator(3)), (image,))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count"),
        ({"sides": (0.0, 0.5)}, "sides"),
        ({"sides": (0.6, 0.5)}, "sides"),
        ({"sides": (0.5, 1.1)}, "sides"),
        ({"sides": (math.nan, 0.5)}, "sides"),
        ({"centre_spread": -0.1}, "centre_spread"),
        ({"normal_noise": -0.1}, "normal_noise"),
        ({"uniform_noise": math.inf}, "uniform_noise"),
    ],
)
def test_crops_refuse_what_makes_no_sense(arguments, words):
    with pytest.raises(InputError) as raised:
        vis.Crops(**arguments)
    assert words in str(raised.value)


# Optimisation


def tiny_net(dtype=torch.float32):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    drawn = generator(7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn) * 0.4)
    return net.to(dtype).eval()


def run(net=None, parametrisation=EVERY[1], **options):
    net = tiny_net() if net is None else net
    options = {"size": (16, 16), "steps": 20, "views": vis.Crops(3, (0.3, 0.9)), **options}
    return vis.optimise(vis.objectives.channel(net, "2", 1), parametrisation, **options)


@every
@pytest.mark.parametrize("minimise", [False, True])
def test_the_loss_falls(parametrisation, minimise):
    found = run(parametrisation=parametrisation, minimise=minimise, steps=40)
    assert found.losses[-5:].mean() < found.losses[:5].mean() - 0.02
    assert torch.equal(found.losses, found.values if minimise else -found.values)
    assert found.steps == 40
    assert torch.equal(found.image, parametrisation.image(found.parameters))


@pytest.mark.parametrize("minimise", [False, True])
def test_the_best_image_of_a_linear_score_is_found(minimise):
    weight = torch.randn(1, 3, 8, 8, generator=generator(2), dtype=torch.float64)
    pixels = vis.Pixels(8)
    found = vis.optimise(
        lambda views: (views * weight).flatten(1).sum(1),
        pixels,
        size=(8, 8),
        views=vis.Whole(),
        steps=300,
        learning_rate=5.0,
        start=double(pixels.start(generator())),
        minimise=minimise,
    )
    best = ((weight > 0) != minimise).double()  # white where more is better, black elsewhere
    assert float((found.image - best).abs().max()) < 1e-3
    assert float(found.values[-1]) == pytest.approx(float((weight * best).sum()), rel=5e-3)


def test_the_best_maco_image_of_a_linear_score_has_the_phases_of_its_weights():
    # Of all pictures with given magnitudes the one with the weights' phases correlates most with them.
    size = 16
    maco = vis.MaCo(vis.pink_spectrum(size), size, contrast=0.05)  # nearly linear behind the sigmoid
    weight = torch.randn(3, size, size, generator=generator(2), dtype=torch.float64)

    def objective(views):
        return (colour_of(views) * weight).sum()

    found = vis.optimise(
        objective,
        maco,
        size=(size, size),
        views=vis.Whole(),
        steps=200,
        learning_rate=0.4,
        start=double(maco.start(generator())),
    )
    ours = torch.fft.rfft2(colour_of(found.image))[:, :, 1:-1]
    theirs = torch.fft.rfft2(weight)[:, :, 1:-1]
    strong = theirs.abs() > 0.3 * theirs.abs().mean()
    cosine = (ours * theirs.conj()).real / (ours.abs() * theirs.abs())
    assert float(cosine[strong].min()) > 0.97


def test_the_same_seed_makes_the_same_image_and_another_seed_another():
    first, again, other = run(), run(), run(seed=1)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.image, other.image)


@every
def test_a_resumed_run_has_the_bits_of_one_in_a_piece(parametrisation, tmp_path):
    whole = run(parametrisation=parametrisation, keep=4)
    part = run(parametrisation=parametrisation, steps=20, keep=4, on_step=None)
    states = {}

    def remember(moment):
        states[moment.step] = moment.state()

    part = run(parametrisation=parametrisation, keep=4, on_step=remember)
    save_file(states[7], tmp_path / "state.safetensors")
    resumed = run(
        parametrisation=parametrisation, keep=4, seed=9, state=load_file(tmp_path / "state.safetensors")
    )
    for found in (part, resumed):
        assert torch.equal(found.image, whole.image)
        assert torch.equal(found.values, whole.values)
        assert torch.equal(found.intermediate, whole.intermediate)
        assert found.intermediate_steps == whole.intermediate_steps == (5, 10, 15, 20)
        assert found.seed == 0
        assert found.state.keys() == whole.state.keys()
        for name, tensor in found.state.items():
            assert torch.equal(tensor, whole.state[name]), name


def test_a_finished_run_can_be_made_longer():
    longer = run(steps=20, state=run(steps=12).state)
    assert torch.equal(longer.image, run(steps=20).image)
    same = run(steps=20, state=longer.state)
    assert torch.equal(same.image, longer.image)


def test_float64_follows_from_the_start():
    fourier = EVERY[1]
    found = run(tiny_net(torch.float64), start=double(fourier.start(generator())))
    assert found.image.dtype == torch.float64
    assert all(tensor.dtype == torch.float64 for tensor in found.parameters.values())
    whole = run(tiny_net(torch.float64), state=found.state, steps=25)
    assert whole.image.dtype == torch.float64


def test_fixed_parameters_stay_and_learned_ones_move():
    start = EVERY[1].start(generator())
    kept = run(start=start)
    assert torch.equal(kept.parameters["contrast"], start["contrast"])
    learned = run(parametrisation=EVERY[3], start=start)
    assert not torch.equal(learned.parameters["contrast"], start["contrast"])
    assert not torch.equal(learned.parameters["mean"], start["mean"])
    assert "optimiser.mean.exp_avg" not in kept.state


def test_images_are_kept_on_the_way_and_shown_at_other_sizes():
    seen = {}
    found = run(keep=3, on_step=lambda moment: seen.update({moment.step: moment.image()}))
    assert found.intermediate_steps == (7, 14, 20)
    assert found.intermediate.shape == (3, 3, 16, 16)
    for step, image in zip(found.intermediate_steps, found.intermediate, strict=True):
        expected = F.interpolate(seen[step], (16, 16), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(image, expected)
    torch.testing.assert_close(found.at((16, 16))[0], found.intermediate[-1])
    assert run().intermediate.shape == (0, 3, 16, 16)
    assert found.at((10, 20)).shape == (1, 3, 10, 20)


def test_a_moment_tells_the_step_and_the_value():
    moments = []
    found = run(on_step=moments.append)
    assert [moment.step for moment in moments] == list(range(1, 21))
    assert [moment.value for moment in moments] == found.values.tolist()


def test_progress_is_told_and_can_cancel():
    told = []

    def listener(done, total, what):
        told.append((done, total))
        if done == 4:
            raise Cancelled

    with progress.listening(listener), pytest.raises(Cancelled):
        run()
    assert told == [(0, 20), (1, 20), (2, 20), (3, 20), (4, 20)]


def test_an_interrupted_run_leaves_the_network_and_the_global_generator_as_they_were():
    net = tiny_net()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    attributes = [dict(vars(part)) for part in net.modules()]
    random = torch.random.get_rng_state()

    def stop(moment):
        if moment.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(net, on_step=stop)
    run(net)
    assert torch.equal(torch.random.get_rng_state(), random)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[2].weight.grad is None
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert [dict(vars(part)) for part in net.modules()] == attributes
    assert not any(part._forward_hooks for part in net.modules())


def test_it_works_where_gradients_are_switched_off():
    net = tiny_net()
    with torch.no_grad():
        first = run(net)
    with torch.inference_mode():
        second = run(net)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.image, run().image)
    assert not first.image.requires_grad


@pytest.mark.parametrize("shape", ["number", "rows"])
def test_an_objective_may_return_one_number_or_one_for_each_view(shape):
    objective = {"number": lambda v: v.mean(), "rows": lambda v: v.mean((1, 2, 3))}[shape]
    found = vis.optimise(objective, vis.Pixels(16), size=(8, 8), steps=5)
    assert found.values[-1] > found.values[0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"steps": 0}, InputError, "steps"),
        ({"steps": 2.5}, InputError, "steps"),
        ({"keep": -1}, InputError, "keep"),
        ({"learning_rate": 0}, InputError, "learning_rate"),
        ({"learning_rate": math.nan}, InputError, "learning_rate"),
        ({"size": (0, 8)}, InputError, "size"),
        ({"start": {}, "state": {}}, InputError, "give one of them"),
        ({"start": {}}, InputError, "pixels"),
        ({"start": {"pixels": torch.zeros(1, 3, 9, 9)}}, ShapeError, "(1, 3, 16, 16)"),
        ({"start": {"pixels": torch.full((1, 3, 16, 16), math.nan)}}, NotFiniteError, "start"),
        ({"start": {"pixels": torch.zeros(1, 3, 16, 16).half()}}, InputError, "float32 or float64"),
        ({"state": {"values": torch.zeros(3)}}, InputError, "state lacks"),
    ],
)
def test_optimise_refuses_what_makes_no_sense(options, error, words):
    with pytest.raises(error) as raised:
        vis.optimise(lambda v: v.mean(), vis.Pixels(16), **{"size": (8, 8), "steps": 3, **options})
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("objective", "error", "words"),
    [
        (lambda v: torch.tensor(1.0), InputError, "depend on the views"),
        (lambda v: v.detach().mean(), InputError, "depend on the views"),
        (lambda v: torch.ones(1, requires_grad=True).sum(), InputError, "depend on the views"),
        (lambda v: v.mean() * math.nan, NotFiniteError, "step 1"),
        (lambda v: (v.mean() * 0).sqrt(), NotFiniteError, "gradient"),
        (lambda v: v, ShapeError, "one number"),
        (lambda v: 1.0, InputError, "float"),
        (lambda v: F.relu(v.mean() - 9), ModelError, "silent"),
    ],
)
def test_objectives_that_cannot_be_optimised_are_refused_early(objective, error, words):
    with pytest.raises(error) as raised:
        vis.optimise(objective, vis.Pixels(16), size=(8, 8), steps=100)
    assert words in str(raised.value)


def test_a_state_of_another_parametrisation_or_of_more_steps_is_refused():
    state = run().state
    with pytest.raises(InputError, match="another parametrisation"):
        run(parametrisation=EVERY[0], state=state)
    with pytest.raises(ShapeError, match="another size"):
        run(parametrisation=vis.Fourier(16), state=state)
    with pytest.raises(InputError, match="at least the 20"):
        run(state=state, steps=10)


# Objectives


def views(seed=0, size=6, dtype=torch.float64):
    return torch.rand(2, 2, size, size, generator=generator(seed), dtype=dtype)


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_objectives_read_what_the_layer_returns(unchecked, kind):
    net = SmallNet(0, kind)
    inputs = views()
    stem, last = net.stem(inputs), []
    handle = net.last.register_forward_hook(lambda m, a, output: last.append(output))
    logits = net(inputs)
    handle.remove()
    of = vis.objectives
    check = torch.testing.assert_close
    check(of.channel(net, "stem", 2)(inputs), stem[:, 2].mean((1, 2)))
    check(of.unit(net, "stem", 1, (0, 5))(inputs), stem[:, 1, 0, 5])
    check(of.unit(net, "stem", 1)(inputs), stem[:, 1, 3, 3])
    check(of.mean_activation(net, "last")(inputs), last[0].abs().mean((1, 2, 3)))
    check(of.silence(net, "last", floor=0.5)(inputs), (1 / (last[0] ** 2 + 0.5)).mean((1, 2, 3)))
    vector = torch.tensor([3.0, 0.0, -4.0, 0.0])
    check(of.direction(net, "stem", vector)(inputs), (0.6 * stem[:, 0] - 0.8 * stem[:, 2]).mean((1, 2)))
    check(of.channel(net, "head", 1)(inputs), logits[:, 1])
    check(of.logit(net, 2)(inputs), logits[:, 2])
    check(of.class_(net, 2, "probability")(inputs), logits.softmax(1)[:, 2])
    assert "channel 2 of 'stem'" in repr(of.channel(net, "stem", 2))


def test_only_the_part_up_to_the_layer_runs_and_no_hook_stays(unchecked):
    net, runs = SmallNet(0), []
    net.head.register_forward_hook(lambda *_: runs.append(1))
    objective = vis.objectives.channel(net, "stem", 0)
    objective(views())
    first = len(runs)
    objective(views())
    assert (first, len(runs)) == (1, 1)  # one whole run, to see that the layer runs once
    assert not net.stem._forward_hooks
    broken = vis.objectives.channel(net, "stem", 0)
    with pytest.raises(RuntimeError):
        broken(torch.zeros(1, 5, 6, 6, dtype=torch.float64))
    assert not net.stem._forward_hooks


def test_the_penultimate_layer_can_be_asked_for_by_that_word():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()
    inputs = random_image(0, 6, torch.float64)
    objective = vis.objectives.mean_activation(net)
    torch.testing.assert_close(objective(inputs), net[:3](inputs).abs().mean(1))
    assert objective.layer == "2"


def test_tokens_have_their_channels_last_and_their_places_on_a_grid():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 5, 4, stride=4)
            self.tokens = nn.Identity()

        def forward(self, x):
            patches = self.patches(x).flatten(2).transpose(1, 2)
            return self.tokens(torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)).mean(1)

    net, inputs = Tokens(), random_image(0, 12)
    maps = net.patches(inputs)
    assert vis.objectives.unit(net, "tokens", 3, (2, 1))(inputs) == maps[:, 3, 2, 1]
    torch.testing.assert_close(vis.objectives.channel(net, "tokens", 3)(inputs), maps[:, 3].sum((1, 2)) / 10)


class Odd(nn.Module):
    """Layers that cannot be read: one that runs twice, one that never does, one that returns a pair."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.pair = nn.ReLU(), nn.ReLU(), nn.LSTM(3, 4)
        self.once = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        self.pair(x.mean((2, 3)))
        return self.head(self.twice(self.once(self.twice(x))).mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda of, net: of.channel(net, "onec", 0), UnknownNameError, "did you mean 'once'"),
        (lambda of, net: of.channel(net, "twice", 0), LayerError, "runs 2 times"),
        (lambda of, net: of.channel(net, "never", 0), LayerError, "does not run"),
        (lambda of, net: of.channel(net, "pair", 0), LayerError, "a tuple"),
        (lambda of, net: of.channel(net, "once", 4), InputError, "from 0 to 3"),
        (lambda of, net: of.channel(net, "once", -1), InputError, "at least 0"),
        (lambda of, net: of.unit(net, "once", 0, (9, 0)), InputError, "8 x 8"),
        (lambda of, net: of.unit(net, "once", 0, (0, 0, 0)), InputError, "(row, column)"),
        (lambda of, net: of.unit(net, "head", 0), ShapeError, "ask for the channel"),
        (lambda of, net: of.direction(net, "once", torch.ones(3)), ShapeError, "4 channels"),
        (lambda of, net: of.direction(net, "once", torch.zeros(4)), InputError, "all zeros"),
        (lambda of, net: of.direction(net, "once", torch.full((4,), math.nan)), NotFiniteError, "NaN"),
        (lambda of, net: of.silence(net, "once", floor=0), InputError, "floor"),
        (lambda of, net: of.logit(net, 2), InputError, "0 to 1"),
        (lambda of, net: of.logit(net, "cat"), UnknownNameError, "is a label"),
        (lambda of, net: of.logit(net, "top1"), InputError, "first choice"),
        (lambda of, net: of.channel(len, "once", 0), InputError, "builtin"),
    ],
)
def test_objectives_say_what_is_wrong_before_long_work(make, error, words):
    net = Odd()
    with pytest.raises(error) as raised:
        make(vis.objectives, net)(torch.zeros(1, 3, 8, 8))
    assert words in str(raised.value)
    assert not any(part._forward_hooks for part in net.modules())


def test_a_network_in_training_mode_is_left_in_it_with_its_statistics():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
    random = torch.random.get_rng_state()
    mean = net[1].running_mean.clone()
    vis.optimise(vis.objectives.channel(net, "3", 0), vis.Pixels(8), size=(8, 8), steps=3)
    assert net.training
    assert torch.equal(net[1].running_mean, mean)
    assert torch.equal(torch.random.get_rng_state(), random)


class _ChannelsLast(nn.Module):
    """Three channels that become five, moved to the end and normalised there, as in Swin."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 5, 2, stride=2)
        self.turned = _Turned()
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        return self.head(self.norm(self.turned(self.embed(images))).mean((1, 2)))


class _Turned(nn.Module):
    def forward(self, maps):
        return maps.permute(0, 2, 3, 1)


def test_a_channel_of_features_with_the_channels_last_is_their_last_axis():
    module = _ChannelsLast().eval()
    views = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, last = (vis.objectives.channel(module, layer, 4)(views) for layer in ("embed", "turned"))
    torch.testing.assert_close(first, last)
