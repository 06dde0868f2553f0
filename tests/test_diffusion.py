"""Paths, targets, ways back: against simulation, brute force, and distributions whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.closeness import assert_same, draw
from tutorlib.diffusion import (
    CLEAN,
    NOISE,
    VELOCITY,
    Coefficients,
    Parts,
    at,
    bounded,
    chain,
    cosine,
    denoiser,
    euler,
    exact,
    guided,
    linear_betas,
    mix,
    posterior,
    sample_back,
    step,
    straight,
    walk_back,
)

PATHS = {"straight": straight, "cosine": cosine, "chain": chain(linear_betas(100).double())}
TARGETS = {"clean": CLEAN, "noise": NOISE, "velocity": VELOCITY}
of_paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
smooth = pytest.mark.parametrize("path", [straight, cosine])


@of_paths
def test_a_path_begins_in_the_data_and_keeps_its_clock(path):
    c = path(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert c.signal[0] == 1 and c.noise[0] == 0
    assert (c.signal.diff() < 0).all() and (c.noise.diff() > 0).all()
    assert_same(c.signal * c.noise_slope - c.noise * c.signal_slope, torch.ones_like(c.signal))


def test_paths_end_in_noise():
    one = torch.ones(1)
    for path in (straight, cosine):
        assert path(one).signal.item() == 0 and path(one).noise.item() == 1
    assert chain(linear_betas())(one).signal.item() == pytest.approx(0.00635, abs=1e-4)  # of Ho et al.: not quite


@pytest.mark.parametrize(("path", "speed"), [(straight, 1), (cosine, math.pi / 2)])
def test_slopes_are_those_of_the_path(path, speed):
    time = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    before, now, after = path(time - 1e-5), path(time), path(time + 1e-5)
    for name in ("signal", "noise"):
        slope = (getattr(after, name) - getattr(before, name)) / 2e-5 / speed
        assert torch.allclose(getattr(now, f"{name}_slope"), slope, atol=1e-8)


def test_a_chain_has_the_moments_of_its_simulation():
    betas = torch.tensor([0.1, 0.3, 0.2, 0.5], dtype=torch.float64)
    generator, states = torch.Generator().manual_seed(0), torch.full((200_000,), 2.0, dtype=torch.float64)
    for number, beta in enumerate(betas, start=1):
        states = (1 - beta).sqrt() * states + beta.sqrt() * torch.randn(len(states), generator=generator, dtype=torch.float64)
        c = chain(betas)(torch.tensor([number / 4], dtype=torch.float64))
        assert states.mean().item() == pytest.approx(2 * c.signal.item(), abs=0.01)
        assert states.std().item() == pytest.approx(c.noise.item(), abs=0.01)


@of_paths
def test_mixing_has_the_moments_of_the_path(path):
    clean, noise = 1 + 0.5 * draw(200_000, 1, dtype=torch.float64), draw(200_000, 1, dtype=torch.float64, seed=1)
    c = at(path, torch.full((len(clean),), 0.4, dtype=torch.float64), clean)
    noisy, a, s = mix(clean, noise, c), c.signal[0].item(), c.noise[0].item()
    assert noisy.mean().item() == pytest.approx(a, abs=0.01)
    assert noisy.var().item() == pytest.approx(a**2 / 4 + s**2, abs=0.01)


@given(st.sampled_from(list(PATHS)), st.sampled_from(list(TARGETS)), st.floats(0.02, 0.98), st.integers(0, 100))
def test_each_target_gives_the_parts_back(path, target, moment, seed):
    parts = Parts(draw(2, 3, 4, dtype=torch.float64, seed=seed), draw(2, 3, 4, dtype=torch.float64, seed=seed + 1))
    c = at(PATHS[path], torch.full((2,), moment, dtype=torch.float64), parts.clean)
    chosen = TARGETS[target]
    found = chosen.parts(chosen.of(parts, c), mix(*parts, c), c)
    assert torch.allclose(found.clean, parts.clean, atol=1e-9) and torch.allclose(found.noise, parts.noise, atol=1e-9)


def test_velocity_is_flows_and_salimans_and_hos():
    parts = Parts(draw(3, 2), draw(3, 2, seed=1))
    time = torch.tensor([0.2, 0.5, 0.7])
    assert_same(VELOCITY.of(parts, at(straight, time, parts.clean)), parts.noise - parts.clean)
    c = at(cosine, time, parts.clean)
    assert_same(VELOCITY.of(parts, c), c.signal * parts.noise - c.noise * parts.clean)


def test_a_predicted_noise_has_an_answer_where_no_signal_is_left():
    noisy = draw(2, 3)
    parts = NOISE.parts(torch.zeros(2, 3), noisy, at(cosine, torch.ones(2), noisy))
    assert parts.clean.isfinite().all()


@of_paths
def test_posterior_against_brute_force(path):
    """Bayes on a grid: p(x_then | x_now, x_0) is proportional to p(x_now | x_then) p(x_then | x_0)."""
    clean, noisy, grid = 0.7, -0.4, torch.linspace(-6, 6, 40_001, dtype=torch.float64)
    then, now = (Coefficients(*(value[0] for value in path(torch.tensor([t], dtype=torch.float64)))) for t in (0.3, 0.6))
    ratio = now.signal / then.signal
    between = (now.noise**2 - ratio**2 * then.noise**2).sqrt()
    logp = -((grid - then.signal * clean) / then.noise) ** 2 / 2 - ((noisy - ratio * grid) / between) ** 2 / 2
    weights = logp.softmax(0)
    mean = (weights * grid).sum()
    expected = mean, (weights * (grid - mean) ** 2).sum()
    noise = (noisy - now.signal * clean) / now.noise
    found_ = posterior(Parts(torch.tensor(clean), noise), torch.tensor(noisy), now, then)
    for found, value in zip(found_, expected, strict=True):
        assert found.item() == pytest.approx(value.item(), abs=1e-6)


def test_posterior_of_neighbors_is_equation_7():
    betas, path = linear_betas(100).double(), PATHS["chain"]
    n, kept = 60, (1 - betas).cumprod(0)
    clean, noisy = draw(3, dtype=torch.float64), draw(3, dtype=torch.float64, seed=1)
    alpha, before, after, beta = 1 - betas[n - 1], kept[n - 2], kept[n - 1], betas[n - 1]
    mean = (before.sqrt() * beta * clean + alpha.sqrt() * (1 - before) * noisy) / (1 - after)
    now, then = (at(path, torch.full((3,), t / 100, dtype=torch.float64), clean) for t in (n, n - 1))
    found, variance = posterior(Parts(clean, clean), noisy, now, then)
    assert_same(found, mean)
    assert_same(variance, ((1 - before) / (1 - after) * beta).expand(3))


@of_paths
def test_a_step_with_eta_1_draws_from_the_posterior(path):
    parts = Parts(draw(4, 3, dtype=torch.float64), draw(4, 3, dtype=torch.float64, seed=1))
    fresh = draw(4, 3, dtype=torch.float64, seed=2)
    now, then = (at(path, torch.full((4,), t, dtype=torch.float64), fresh) for t in (0.8, 0.5))
    mean, variance = posterior(parts, mix(*parts, now), now, then)
    assert_same(step(parts, now, then, 1.0, fresh), mean + variance.sqrt() * fresh)


@of_paths
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_from_the_true_parts_arrives_on_the_path(path, eta):
    """Whatever is replaced by fresh noise, x_then has the signal and the variance of its time."""
    generator = torch.Generator().manual_seed(0)
    noise, fresh = torch.randn(2, 200_000, 1, generator=generator, dtype=torch.float64)
    now, then = (at(path, torch.full((len(noise),), t, dtype=torch.float64), noise) for t in (0.8, 0.5))
    arrived = step(Parts(torch.ones_like(noise), noise), now, then, eta, fresh)
    assert arrived.mean().item() == pytest.approx(then.signal[0].item(), abs=0.01)
    assert arrived.std().item() == pytest.approx(then.noise[0].item(), abs=0.01)


def test_what_is_replaced_is_equation_16_of_ddim():
    now, then, eta = cosine(torch.tensor([0.8]).double()), cosine(torch.tensor([0.5]).double()), 0.3
    nothing, kept_now, kept_then = Parts(torch.zeros(1), torch.zeros(1)), now.signal**2, then.signal**2
    expected = eta * ((1 - kept_then) / (1 - kept_now)).sqrt() * (1 - kept_now / kept_then).sqrt()
    assert_same(step(nothing, now, then, eta, torch.ones(1).double()), expected)


@smooth
def test_exact_is_the_mean_of_what_may_have_been(path):
    """Of three centers with a spread, against the mean over a grid of all that x_0 may be."""
    centers, variance, grid = torch.tensor([[-1.0], [0.5], [2.0]]).double(), 0.04, torch.linspace(-4, 5, 9001).double()
    density = (-(grid - centers) ** 2 / (2 * variance)).exp().sum(0)  # (G,)
    noisy, time = torch.tensor([[-0.5], [0.3], [1.0]]).double(), torch.tensor([0.3, 0.6, 0.95]).double()
    c = at(path, time, noisy)
    weights = density * (-(noisy - c.signal * grid) ** 2 / (2 * c.noise**2)).exp()  # (3, G)
    expected = (weights * grid).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    found = exact(centers, variance, path)(noisy, time)
    assert torch.allclose(found.clean, expected, atol=1e-6)
    assert_same(mix(*found, c), noisy)


@smooth
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samplers_reach_a_normal_distribution_with_a_known_answer(path, eta):
    denoise, generator = exact(torch.tensor([[2.0]]).double(), 0.25, path), torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    drawn = sample_back(denoise, path, noise, 200, eta=eta, generator=generator)
    assert drawn.mean().item() == pytest.approx(2, abs=0.03)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.03)


def test_flow_and_diffusion_carry_each_noise_to_the_same_place():
    """For one normal distribution both lead x to mean + deviation · x, along other ways."""
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for path in (straight, cosine):
        drawn = sample_back(exact(torch.tensor([[2.0]]).double(), 0.25, path), path, noise, 800)
        assert torch.allclose(drawn, 2 + noise / 2, atol=0.02)


def test_paths_with_the_same_ratios_of_noise_to_signal_draw_the_same():
    """x_t / a is all that a step without fresh noise depends on, so the line is no other way than the circle."""
    def at_the_ratios_of_the_circle(time):
        c = cosine(time)
        both = c.signal + c.noise
        return c._replace(signal=c.signal / both, noise=c.noise / both)

    centers, noise = draw(5, 3, dtype=torch.float64), draw(4, 3, dtype=torch.float64, seed=1)
    one, other = (sample_back(exact(centers, 0.1, path), path, noise, 6) for path in (cosine, at_the_ratios_of_the_circle))
    assert_same(one, other)
    assert not torch.allclose(one, sample_back(exact(centers, 0.1, straight), straight, noise, 6), atol=1e-3)


def test_without_fresh_noise_a_walk_repeats_itself_and_with_it_the_generator_decides():
    denoise, noise = exact(draw(5, 3), 0.1, cosine), draw(4, 3, seed=1)
    assert torch.equal(sample_back(denoise, cosine, noise, 7), sample_back(denoise, cosine, noise, 7))
    drawn = [sample_back(denoise, cosine, noise, 7, eta=1.0, generator=torch.Generator().manual_seed(seed))
             for seed in (0, 0, 1)]
    half = [sample_back(denoise, cosine, noise, 7, eta=0.5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert not torch.allclose(*half)
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])


def test_on_the_straight_path_a_step_is_eulers():
    denoise, noise = exact(draw(5, 3, dtype=torch.float64), 0.1, straight), draw(4, 3, dtype=torch.float64, seed=1)

    def velocity(noisy, time):
        parts = denoise(noisy, time)
        return parts.noise - parts.clean

    assert_same(sample_back(denoise, straight, noise, 9), euler(velocity, noise, 9))


def test_one_step_gives_the_mean():
    centers = draw(50, 3, dtype=torch.float64)
    for path in (straight, cosine):
        drawn = sample_back(exact(centers, 0.0, path), path, draw(4, 3, dtype=torch.float64, seed=1), 1)
        assert_same(drawn, centers.mean(0).expand(4, 3))


def test_the_best_denoiser_of_a_training_set_copies_it():
    members = draw(20, 6, dtype=torch.float64)
    drawn = sample_back(exact(members, 0.0, straight), straight, draw(8, 6, dtype=torch.float64, seed=1), 50)
    assert torch.cdist(drawn, members).amin(1).max() < 1e-6


def test_drawing_may_begin_later():
    """From an earlier time it takes as many steps, from there, and goes on where a walk from time 1 has arrived."""
    times, noise = [], draw(3, 2)

    def denoise(noisy, time):
        times.append(time[0].item())
        return CLEAN.parts(noisy / 2, noisy, at(straight, time, noisy))

    assert torch.allclose(sample_back(denoise, straight, noise, 4, first=1.0), sample_back(denoise, straight, noise, 4))
    times.clear()
    sample_back(denoise, straight, noise, 4, first=0.8)
    assert times == pytest.approx([0.8, 0.6, 0.4, 0.2])
    arrived, _ = next(walk_back(denoise, straight, noise, 5))
    assert_same(sample_back(denoise, straight, arrived, 4, first=0.8), sample_back(denoise, straight, noise, 5))


def test_a_walk_yields_each_state_and_its_parts():
    denoise, noise = exact(draw(5, 3), 0.1, straight), draw(4, 3, seed=1)
    states = [noisy for noisy, _ in walk_back(denoise, straight, noise, 5)]
    assert len(states) == 5 and torch.equal(states[-1], sample_back(denoise, straight, noise, 5))
    first = denoise(noise, torch.ones(4))
    assert_same(next(walk_back(denoise, straight, noise, 5))[1].clean, first.clean)


@given(st.floats(-2, 10))
def test_guidance_goes_on_along_the_line_from_without_to_with(weight):
    given_, free = (lambda noisy, time, sign=sign: Parts(sign * noisy, noisy + sign) for sign in (2.0, -1.0))
    noisy, time = draw(3, 2), torch.rand(3)
    found, with_, without = (denoise(noisy, time) for denoise in (guided(given_, free, weight), given_, free))
    for mixed, one, other in zip(found, with_, without, strict=True):
        assert torch.allclose(mixed, weight * one + (1 - weight) * other, atol=1e-4)


def test_guidance_0_is_unconditional_and_1_conditional():
    given_, free = exact(draw(4, 3), 0.1, cosine), exact(draw(9, 3, seed=1), 0.1, cosine)
    noisy, time = draw(3, 3, seed=2), torch.tensor([0.2, 0.5, 0.9])
    for weight, same in ((0.0, free), (1.0, given_)):
        for found, expected in zip(guided(given_, free, weight)(noisy, time), same(noisy, time), strict=True):
            assert_same(found, expected)


def test_a_bounded_denoiser_stays_in_its_bounds_and_explains_what_it_was_given():
    denoise, noisy = exact(3 * draw(4, 3), 0.1, cosine), draw(5, 3, seed=2)
    time = torch.full((5,), 0.4)
    free, held = denoise(noisy, time), bounded(denoise, cosine, -0.5, 0.5)(noisy, time)
    assert free.clean.abs().max() > 1 and held.clean.abs().max() <= 0.5
    assert_same(mix(*held, at(cosine, time, noisy)), noisy)


def test_a_network_is_asked_with_its_labels():
    asked = []

    def network(noisy, time, labels):
        asked.append(labels)
        return noisy

    denoise, labels = denoiser(network, CLEAN, straight, torch.tensor([3, 4])), torch.tensor([3, 4])
    assert torch.equal(denoise(draw(2, 3), torch.ones(2)).clean, draw(2, 3)) and torch.equal(asked[0], labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtype_and_device_are_those_of_the_noise(dtype, device):
    centers, noise = draw(5, 3, dtype=dtype, device=device), draw(4, 3, dtype=dtype, device=device, seed=1)
    for path in (straight, cosine, chain(linear_betas(10))):
        drawn = sample_back(exact(centers, 0.1, path), path, noise, 5, eta=1.0)
        assert drawn.dtype == dtype and drawn.device == noise.device and drawn.isfinite().all()


@pytest.mark.parametrize(("call", "said"), [
    (lambda: chain(torch.tensor([0.1, 1.0])), "betas must be a vector of numbers in (0, 1)"),
    (lambda: chain(torch.zeros(2, 2)), "betas must be"),
    (lambda: linear_betas(0), "steps must be at least 1"),
    (lambda: at(straight, torch.ones(3), torch.ones(2, 3)), "time must have one number for each of 2 examples"),
    (lambda: sample_back(exact(torch.ones(1, 3), 0.1, straight), straight, torch.ones(2, 3), 0), "steps must be at least 1"),
    (lambda: sample_back(exact(torch.ones(1, 3), 0.1, straight), straight, torch.ones(2, 3), 2, eta=1.5),
     "eta must lie in [0, 1]"),
    (lambda: sample_back(exact(torch.ones(1, 3), 0.1, straight), straight, torch.ones(2, 3), 2, first=0.0),
     "first must lie in (0, 1]"),
    (lambda: euler(lambda noisy, time: noisy, torch.ones(2, 3), 0.5), "steps must be a whole number"),
])
def test_refusals(call, said):
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)
