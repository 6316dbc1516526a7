"""Networks of timm and open_clip, with random weights that lie where the Hub keeps what was downloaded."""

import hashlib
import json
import sys

import open_clip
import pytest
import timm
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save_file
from torchvision.transforms.v2.functional import InterpolationMode, normalize, resize

from losslens.build import build
from losslens.losses import Loss
from losslens.losses.backbones import ClipEmbedding, TimmFeatures
from losslens.losses.distances import Cosine

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
}
KNOWN = {"hf_hub": "nobody/tiny/", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def keep(cache, repository, name, model):
    """Put weights where the Hub keeps a downloaded file: a blob under its checksum, and a link to it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", "snapshots/1"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text("1")
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    (torch.save if name.endswith(".bin") else save_file)(weights, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    blob = (folder / "new").rename(folder / "blobs" / digest)
    (folder / "snapshots" / "1" / name).symlink_to(blob)
    return blob


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of a Hub that cannot be reached."""
    import huggingface_hub.constants
    import huggingface_hub.file_download

    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    torch.manual_seed(0)
    return tmp_path / "hub"


@pytest.fixture
def clip(hub, tmp_path, monkeypatch):
    """Let open_clip know a tiny network, and weights of it that were downloaded."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "models")
    monkeypatch.setitem(_PRETRAINED, "tiny", {"some": KNOWN})
    made = open_clip.create_model("tiny")
    keep(hub, "nobody/tiny", "open_clip_pytorch_model.bin", made)  # the second name that is looked for
    return made


@pytest.fixture
def images():
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def prepared(images, config, size):
    scaled = images if size is None else resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return normalize(scaled, list(config["mean"]), list(config["std"]))


@pytest.mark.parametrize(("network", "size", "last"), [("test_resnet", None, 5), ("test_vit", 160, 3)])
def test_answers_are_timms(hub, images, network, size, last):
    made = timm.create_model(network).eval()
    keep(hub, f"timm/{network}.r160_in1k", "model.safetensors", made)
    with torch.no_grad():
        answers = made.forward_intermediates(prepared(images, made.pretrained_cfg, size), last, intermediates_only=True)
    expected = [each.flatten(1) for each in answers]
    found = TimmFeatures(f"{network}.r160_in1k")(images)
    start = 0
    for each in expected:
        row = found[:, start : start + each.shape[1]] * each.shape[1] / expected[0].shape[1]
        assert torch.allclose(row, each, atol=1e-4 * each.abs().max().item())
        start += each.shape[1]
    assert start == found.shape[1]


def test_weights_are_those_of_the_hub(hub, images):
    original = timm.create_model("test_resnet")
    keep(hub, "timm/test_resnet.r160_in1k", "model.safetensors", original)
    view = TimmFeatures("test_resnet.r160_in1k", layers=[1])
    stem = next(value for name, value in view.network.named_buffers() if name.endswith("conv1.0.weight"))
    assert torch.equal(stem, original.state_dict()["conv1.0.weight"])
    assert view(images).shape == (2, 32 * 24 * 24)


def test_embeddings_are_open_clips(clip, images):
    with torch.no_grad():
        expected = clip.eval().encode_image(prepared(images, KNOWN, 32))
    assert torch.allclose(ClipEmbedding("tiny", "some")(images), expected, atol=1e-5)


def test_of_coca_the_embedding_is_taken(hub, tmp_path, monkeypatch, images):
    """Its image tower returns tokens as well."""
    decoder = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}
    vision = {**TINY_CLIP["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    config = {**TINY_CLIP, "vision_cfg": vision, "multimodal_cfg": decoder, "custom_text": True}
    config["text_cfg"] = {**TINY_CLIP["text_cfg"], "embed_cls": True, "output_tokens": True}
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "coca_tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "models")
    made = open_clip.create_model("coca_tiny")
    torch.save(made.state_dict(), tmp_path / "coca.pth")
    found = ClipEmbedding("coca_tiny", str(tmp_path / "coca.pth"))(images)
    assert found.shape == (2, 16)


@pytest.fixture(params=["timm", "open_clip"])
def view(request, hub):
    if request.param == "timm":
        keep(hub, "timm/test_resnet.r160_in1k", "model.safetensors", timm.create_model("test_resnet"))
        settings = {"network": "test_resnet.r160_in1k"}
    else:
        request.getfixturevalue("clip")
        settings = {"network": "tiny", "weights": "some"}
    return build({**OmegaConf.load(ROOT / "conf" / "loss" / "view" / f"{request.param}.yaml"), **settings})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_in_every_precision_and_mode_the_same(view, images, dtype):
    expected = view(images)
    found = view.train()(images.to(dtype))
    assert found.isfinite().all()
    assert torch.allclose(found.float(), expected, atol=(0.2 if dtype == torch.bfloat16 else 1e-3) * expected.std())
    assert not view.state_dict()
    assert not list(view.parameters())


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_images_have_finite_gradients(view, level):
    images = torch.full((1, 3, 40, 33), level, requires_grad=True)
    for target in (torch.full_like(images, 0.25), images):
        Loss(view, Cosine())(images, target.detach()).backward()
        assert images.grad.isfinite().all()


def test_gradient_is_that_of_differences(view, images):
    view = view.double()
    weights = torch.randn(view(images.double()).shape, dtype=torch.float64)
    start = images.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: (weights * view(x)).sum(), start, fast_mode=True)


def test_learns_a_photograph(view, photograph):
    target = photograph[..., :48, :48]
    input = (0.5 * target + 0.5 * target.flip(1, 3)).requires_grad_()
    loss = Loss(view, torch.nn.MSELoss())
    assert loss(target, target).item() == 0
    optimizer = torch.optim.Adam([input], lr=0.01)
    first = loss(input, target).item()
    for _ in range(40):
        optimizer.zero_grad()
        loss(input, target).backward()
        optimizer.step()
    assert loss(input, target).item() < 0.5 * first


def test_damaged_weights_are_refused(hub):
    blob = keep(hub, "timm/test_resnet.r160_in1k", "model.safetensors", timm.create_model("test_resnet"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"the weights of test_resnet\.r160_in1k in .* are damaged: remove them"):
        TimmFeatures("test_resnet.r160_in1k")


def test_offline_it_says_what_to_do(hub):
    for make in (lambda: TimmFeatures("resnet18.a1_in1k"), lambda: ClipEmbedding("ViT-B-32", "laion2b_s34b_b79k")):
        with pytest.raises(ValueError, match=r"cannot be downloaded from .*: connect to the internet once, or give a"):
            make()


def test_a_file_in_their_place(hub, tmp_path, images):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "mine.pth")
    assert TimmFeatures("test_resnet.r160_in1k", weights=str(tmp_path / "mine.pth"))(images).isfinite().all()
    torch.save({"no": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"test_resnet\.r160_in1k of timm cannot be made of .*other\.pth: Unexpected"):
        TimmFeatures("test_resnet.r160_in1k", weights=str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match=r"tiny of open_clip cannot be made of .*other\.pth"):
        ClipEmbedding("tiny", str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimmFeatures("nothing"), "timm has no trained network nothing"),
        (lambda: TimmFeatures("resnet18.nothing"), r"timm has no trained network resnet18\.nothing"),
        (lambda: ClipEmbedding("nothing", "x"), "open_clip has no network nothing"),
        (lambda: ClipEmbedding("RN50", "x"), r"weights x of RN50 are no file, and none of open_clip's: openai, "),
    ],
)
def test_unknown_names(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_stages(hub):
    keep(hub, "timm/test_resnet.r160_in1k", "model.safetensors", timm.create_model("test_resnet"))
    with pytest.raises(ValueError, match=r"layers \[9\] of test_resnet\.r160_in1k: it has no such stages"):
        TimmFeatures("test_resnet.r160_in1k", layers=[9])
    for layers in ([], [0], [1, -1]):
        with pytest.raises(ValueError, match=r"layers \[.*\] of test_resnet\.r160_in1k: use numbers from 1"):
            TimmFeatures("test_resnet.r160_in1k", layers=layers)


@pytest.mark.parametrize(("package", "make"), [("timm", TimmFeatures), ("open_clip", ClipEmbedding)])
def test_without_the_extra(monkeypatch, package, make):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"this view needs {package}: pip install 'losslens\[backbones\]'"):
        make("any", None)
