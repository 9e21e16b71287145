"""A whole Stable Diffusion pipeline with random weights, a few megabytes, built without a network.

Its tokenizer knows single bytes only: CLIP's vocabulary before any merge.
"""

from __future__ import annotations

from pathlib import Path

import torch


def save(folder: Path) -> None:
    """Write the pipeline as diffusers does."""
    from diffusers import (
        AutoencoderKL,
        DPMSolverMultistepScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    vocabulary = {text: index for index, text in enumerate(_tokens())}
    begin, end = "<|startoftext|>", "<|endoftext|>"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=32,
                intermediate_size=37,
                num_attention_heads=4,
                num_hidden_layers=2,
                vocab_size=len(vocabulary),
                bos_token_id=vocabulary[begin],
                eos_token_id=vocabulary[end],
            )
        )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _tokens() -> list[str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (chr(256 + n) for n in range(256 - len(printable)))
    letters = [chr(b) if b in printable else next(rest) for b in range(256)]
    return [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
