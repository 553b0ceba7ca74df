"""OWL-ViT from a folder: tokens and feature map equal to transformers', pictures squashed as published."""

import json
import shutil

import numpy as np
import pytest
import torch

from dcase_seld.core.errors import SeldError
from dcase_seld.pretrained.owlvit import load_clip_tokenizer, load_owlvit, pool_grid
from dcase_seld.pretrained.transformers_models import import_transformers, make_random_model
from dcase_seld.store.tokens import mirrored_order


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "owlvit"
    make_random_model("owlvit", path, tiny=True, seed=1)
    return path


@pytest.fixture(scope="module")
def owlvit(folder):
    return load_owlvit(folder, batch=2)


def smooth_picture(seed, height=360, width=640):
    coarse = torch.tensor(np.random.default_rng(seed).uniform(0, 255, (1, 3, 9, 16)), dtype=torch.float32)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return fine[0].permute(1, 2, 0).numpy().astype(np.uint8)


PICTURES = [smooth_picture(seed) for seed in range(3)]


def test_pictures_are_squashed_as_published(owlvit):
    processor = import_transformers().OwlViTImageProcessorPil(size={"height": 128, "width": 128})
    theirs = processor(images=[p[:, :, ::-1].copy() for p in PICTURES], return_tensors="pt")["pixel_values"]
    ours = owlvit.prepare(PICTURES)
    assert ours.shape == (3, 3, 128, 128)
    one_level = 1 / 255 / 0.2613
    assert (ours - theirs).abs().max() <= 1.01 * one_level
    assert ((ours - theirs).abs() > 1e-4).float().mean() < 0.01


def test_tokens_are_post_layernorm_and_projection(owlvit):
    view = owlvit.see(PICTURES)
    model = owlvit.model.owlvit
    with torch.no_grad():
        out = model.get_image_features(pixel_values=owlvit.prepare(PICTURES))
        hidden = model.vision_model(pixel_values=owlvit.prepare(PICTURES)).last_hidden_state
        expected = model.visual_projection(model.vision_model.post_layernorm(hidden))
    assert view.tokens.shape == (3, 17, 512) and owlvit.tokens == 17 and owlvit.dimension == 512
    assert torch.allclose(view.tokens, expected, atol=1e-6)
    assert torch.allclose(
        view.tokens[:, 0], out.pooler_output, atol=1e-6
    )  # the class token is CLIP's picture embedding


def test_feature_map_is_the_detectors(owlvit):
    with torch.no_grad():
        theirs, _ = owlvit.model.image_embedder(pixel_values=owlvit.prepare(PICTURES))
    assert torch.allclose(owlvit.see(PICTURES).feature_map, theirs, atol=1e-6)


def test_batches_do_not_change_the_tokens(owlvit, folder):
    assert torch.allclose(owlvit.encode(PICTURES), load_owlvit(folder, batch=1).encode(PICTURES), atol=1e-5)


def test_low_precision_stays_near(owlvit, folder):
    half = load_owlvit(folder, dtype="bfloat16").see(PICTURES)
    assert half.tokens.dtype == torch.float32 and half.feature_map.shape == (3, 4, 4, 32)
    assert torch.nn.functional.cosine_similarity(half.tokens, owlvit.see(PICTURES).tokens, dim=-1).min() > 0.98


def test_published_size_gives_577_tokens():
    transformers = import_transformers()
    vision = transformers.OwlViTConfig().vision_config
    assert 1 + (vision.image_size // vision.patch_size) ** 2 == 577
    assert pool_grid(torch.zeros(1, 577, 4), 2).shape[1] == 145


def test_pooling_averages_squares_and_keeps_the_class_token(folder, owlvit):
    tokens = torch.arange(17.0).reshape(1, 17, 1)
    assert pool_grid(tokens, 2)[0, :, 0].tolist() == [0, (1 + 2 + 5 + 6) / 4, (3 + 4 + 7 + 8) / 4, 11.5, 13.5]
    pooled = load_owlvit(folder, pool=2)
    assert pooled.tokens == 5 and pooled.encode(PICTURES).shape == (3, 5, 512)
    assert torch.allclose(pooled.encode(PICTURES), pool_grid(owlvit.encode(PICTURES), 2), atol=1e-6)
    with pytest.raises(SeldError, match="4 x 4 tokens cannot be pooled by 3"):
        load_owlvit(folder, pool=3)


def test_mirrored_order_mirrors_columns():
    assert mirrored_order(10).tolist() == [0, 3, 2, 1, 6, 5, 4, 9, 8, 7]
    assert np.array_equal(mirrored_order(577)[mirrored_order(577)], np.arange(577))
    with pytest.raises(ValueError, match="11 tokens"):
        mirrored_order(11)


def test_a_folder_without_detection_heads_gives_tokens_only(folder, tmp_path):
    plain = tmp_path / "plain"
    import_transformers().OwlViTForObjectDetection.from_pretrained(folder).owlvit.save_pretrained(plain)
    shutil.copy(folder / "preprocessor_config.json", plain)
    whole, part = load_owlvit(folder), load_owlvit(plain)
    assert whole.has_detector and not part.has_detector
    assert torch.allclose(whole.encode(PICTURES), part.encode(PICTURES), atol=1e-6)
    assert whole.fingerprint == part.fingerprint
    assert whole.random_weights and not part.random_weights  # the marker belongs to the folder


def test_standardisation_follows_the_folder(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(
        json.dumps({**settings, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    prepared = load_owlvit(other).prepare([np.full((128, 128, 3), 255, np.uint8)])
    assert torch.allclose(prepared, torch.ones(1, 3, 128, 128))


def test_an_empty_tokenizer_is_refused(folder, tmp_path):
    with pytest.raises(SeldError, match="tokenizer"):
        load_clip_tokenizer(folder)
    letters = {chr(code): code - 97 for code in range(97, 123)}
    ends = {f"{letter}</w>": 26 + index for letter, index in letters.items()}
    (tmp_path / "vocab.json").write_text(json.dumps({**letters, **ends, "<|startoftext|>": 52, "<|endoftext|>": 53}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    transformers = import_transformers()
    transformers.CLIPTokenizer(vocab=json.loads((tmp_path / "vocab.json").read_text()), merges=[]).save_pretrained(
        tmp_path
    )
    assert len(load_clip_tokenizer(tmp_path)("door", add_special_tokens=False)["input_ids"]) == 4
