"""fimi.generator_node.training.network: diffusers' classes, configured as the recipe says."""

from __future__ import annotations

import pytest
import torch

from fimi.generator_node.training.network import (
    NetworkSettings,
    build_unet,
    library_versions,
    sampling_solver,
    torch_threads,
    training_schedule,
)

SMALL = NetworkSettings(channels=(8,), norm_groups=4)


class TestBuildUnet:
    def test_the_default_has_160401_parameters(self) -> None:
        unet = build_unet(NetworkSettings(), 10, (1, 8, 8), seed=0)
        assert sum(parameter.numel() for parameter in unet.parameters()) == 160_401
        assert unet.config.num_class_embeds == 11

    def test_the_seed_decides_and_the_global_generator_stays(self) -> None:
        before = torch.random.get_rng_state()
        first, again, other = (build_unet(SMALL, 3, (1, 8, 8), seed=s) for s in (1, 1, 2))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.equal(first.conv_in.weight, again.conv_in.weight)
        assert not torch.equal(first.conv_in.weight, other.conv_in.weight)

    @pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 12)])
    def test_other_shapes(self, shape: tuple[int, int, int]) -> None:
        unet = build_unet(NetworkSettings(channels=(8, 8), norm_groups=4), 2, shape, seed=0)
        images = torch.zeros(5, *shape)
        assert unet(images, 1, class_labels=torch.full((5,), 2)).sample.shape == images.shape

    def test_images_that_cannot_be_halved(self) -> None:
        with pytest.raises(ValueError, match="7×8 pixels do not allow; take sides divisible by 2"):
            build_unet(NetworkSettings(), 10, (1, 7, 8), seed=0)

    def test_no_levels(self) -> None:
        with pytest.raises(ValueError, match=r"channels \(\)"):
            build_unet(NetworkSettings(channels=()), 10, (1, 8, 8), seed=0)

    def test_groups_that_do_not_divide(self) -> None:
        with pytest.raises(ValueError, match="norm_groups 8 does not divide channels 12"):
            build_unet(NetworkSettings(channels=(16, 12)), 10, (1, 8, 8), seed=0)


class TestSchedules:
    def test_velocity_turns_noise_into_data(self) -> None:
        """v = α·ε − σ·x, so that x = α·x_t − σ·v (Salimans and Ho, appendix D)."""
        schedule, draw = training_schedule(), torch.Generator().manual_seed(0)
        clean, noise = torch.randn(2, 6, 1, 4, 4, generator=draw)
        times = torch.tensor([0, 10, 300, 600, 990, 999])
        alpha = schedule.alphas_cumprod[times].sqrt()[:, None, None, None]
        sigma = (1 - schedule.alphas_cumprod[times]).sqrt()[:, None, None, None]
        noisy = schedule.add_noise(clean, noise, times)
        velocity = schedule.get_velocity(clean, noise, times)
        torch.testing.assert_close(alpha * noisy - sigma * velocity, clean, atol=1e-5, rtol=0)

    def test_the_solver_begins_where_there_is_only_noise(self) -> None:
        solver = sampling_solver()
        solver.set_timesteps(20)
        assert len(solver.timesteps) == 20
        assert int(solver.timesteps[0]) == 999
        assert solver.config.solver_order == 2

    def test_the_solver_finds_the_data_if_the_velocity_is_right(self) -> None:
        """With the true velocity towards one image, every start ends in that image."""
        schedule, solver = training_schedule(), sampling_solver()
        solver.set_timesteps(20)
        draw = torch.Generator().manual_seed(1)
        image = torch.rand(1, 1, 8, 8, generator=draw) * 2 - 1
        noisy = torch.randn(3, 1, 8, 8, generator=draw)
        for timestep in solver.timesteps:
            alpha = schedule.alphas_cumprod[timestep].sqrt()
            sigma = (1 - schedule.alphas_cumprod[timestep]).sqrt()
            noise = (noisy - alpha * image) / sigma
            noisy = solver.step(alpha * noise - sigma * image, timestep, noisy).prev_sample
        torch.testing.assert_close(noisy, image.expand(3, 1, 8, 8), atol=1e-3, rtol=0)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_library_versions_name_what_decides_the_numbers() -> None:
    assert set(library_versions()) == {"diffusers", "numpy", "torch"}
    assert library_versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
