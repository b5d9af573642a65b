"""The paper's systems on tiny drawn data: they learn, resume exactly, and answer for one radiograph alone."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.package import ModelPackage
from models.train.calibrate import HeldOut, operating_points
from models.train.data import Inputs
from models.train.errors import RunError
from models.train.golden import golden_inputs
from models.train.paper.augment import Augmentation, augmented
from models.train.paper.graph import PaperGraph, Scale, blurred, shown_picture
from models.train.paper.layers import MinibatchDiscrimination, SelfAttention, bare_weights
from models.train.paper.packaging import export_paper
from models.train.paper.system import PaperConfig
from models.train.paper.systems import SYSTEMS, make_system
from models.train.paper.training import load_system, normal_hands, train_paper, train_system
from models.train.paper.vae import kl_divergence
from models.train.run_folder import claim
from tests.models.limbs import write_fracatlas

every_system = pytest.mark.parametrize("name", list(SYSTEMS))


def tiny(name: str) -> PaperConfig:
    return PaperConfig(
        name=name, seed=3, steps=5, input_px=32, width=1 / 16, batch=4, rate=10.0, checkpoint_every=2
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fracatlas(tmp_path_factory.mktemp("data") / "fracatlas", normals=34)


@pytest.fixture(scope="module")
def normals(data: Path) -> Inputs:
    return normal_hands(data, tiny("cae")).learnt


def limbs(count: int) -> Tensor:
    """(count, 2, 32, 32): they cannot be drawn that small, so drawn larger and thinned out."""
    return torch.from_numpy(golden_inputs(64, count)[:, :, ::2, ::2].copy())


def weights(folder: Path, name: str) -> Tensor:
    system, step = load_system(folder, tiny(name))
    assert step == tiny(name).steps
    return torch.cat([value.float().flatten() for value in system.state_dict().values()])


@every_system
def test_resuming_gives_the_weights_of_not_stopping(name: str, normals: Inputs, tmp_path: Path) -> None:
    """Stopped between two checkpoints, as a killed process is: the step since the last one is repeated."""

    class Killed(Exception):
        pass

    losses: list[float] = []

    def remember(_: int, values: dict[str, float]) -> None:
        losses.append(values["loss"])

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 3:
            raise Killed

    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for folder in (unbroken, broken):
        claim(folder, asdict(tiny(name)), resume=False)
    train_system(tiny(name), normals, unbroken, report=remember)
    with pytest.raises(Killed):
        train_system(tiny(name), normals, broken, report=kill)
    train_system(tiny(name), normals, broken, report=remember)
    assert torch.equal(weights(unbroken, name), weights(broken, name))
    assert losses[2:5] == losses[5:8]  # steps 3 to 5, the second time from the checkpoint of step 2
    assert np.isfinite(losses).all()


@every_system
def test_a_score_is_of_one_radiograph(name: str) -> None:
    """Not of its company and not of its place; also where the discriminator was trained on whole batches."""
    torch.manual_seed(0)
    system = make_system(tiny(name)).eval()
    bare_weights(system)
    radiographs = limbs(5)
    with torch.no_grad():
        system.settle(*shown_picture(radiographs, equalize=False))
        graph = PaperGraph(system, thumbnails=torch.rand(6, 512), scale=Scale()).eval()
        together = graph(radiographs)
        turned = graph(radiographs.flip(0))
        alone = graph(radiographs[1:2])
    for all_of_them, reverse, one in zip(together, turned, alone, strict=True):
        assert torch.allclose(reverse.flip(0), all_of_them, atol=1e-5)
        assert torch.allclose(one[0], all_of_them[1], atol=1e-5)
    assert len(set(together.score.tolist())) == 5
    assert together.anomaly_map.shape == (5, 32, 32)
    assert float(together.anomaly_map.min()) >= 0
    assert not together.anomaly_map[radiographs[:, 1] == 0].any()


@every_system
def test_the_published_size_is_a_configuration(name: str) -> None:
    """Layers of the published width and resolution fit together; on no device, so without memory."""
    published = SYSTEMS[name].published
    with torch.device("meta"):
        system = make_system(published).eval()
        picture = torch.zeros(2, 1, published.input_px, published.input_px)
        examined = system.examine(picture, torch.ones_like(picture))
    assert all(values.shape == (2,) for values in examined.scores.values())
    assert examined.evidence.shape == picture.shape


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_what_is_exported_is_what_was_trained(data: Path, tmp_path: Path) -> None:
    """α-GAN, which has every kind of layer: the exporter compares the graph with the reference."""
    config = replace(tiny("alpha-gan"), input_px=64)
    run = tmp_path / "run"
    train_paper(config, data=data, folder=run, resume=False)
    with pytest.raises(RunError, match="--resume"):
        train_paper(config, data=data, folder=run, resume=False)
    with pytest.raises(RunError, match="--steps"):
        train_paper(replace(config, steps=9), data=data, folder=run, resume=True)
    package = ModelPackage.open(export_paper(run, data=data, package=tmp_path / "package"))
    training = package.manifest.evaluation["training"]
    assert (training["steps"], training["width"], training["published"]["width"]) == (5, 1 / 16, 1.0)
    assert list(training["auc_of_published_scores"])[1:3] == ["1 - D", "code discriminator"]
    held_out = normal_hands(data, config).held_out
    assert package.manifest.calibration.normals == len(held_out)


def test_without_fractures_thresholds_claim_no_sensitivity() -> None:
    """A plain folder of normals calibrates, and that is all it can do."""
    scores = np.arange(101, dtype=np.float32)
    maps = np.ones((101, 2, 2), np.float32)
    held_out = HeldOut(score=scores, novelty=scores, anomaly_map=maps, shown=maps > 0)
    points = operating_points(held_out, scores[:0], [])
    assert [point.threshold for point in points] == [90, 95]
    assert {point.sensitivity for point in points} == {None}
    (_, found) = operating_points(held_out, np.array([94.0, 96.0, 99.0]), ["a", "b", "c"])
    assert found.sensitivity == pytest.approx(2 / 3)


def test_a_run_without_a_checkpoint_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_system(tmp_path, tiny("cae"))


def test_company_counts_in_training_and_a_fixed_reference_afterwards() -> None:
    torch.manual_seed(0)
    company = MinibatchDiscrimination(3, 2, 5, batch=4, kernel=2)
    features = torch.randn(6, 3, 2, 2)
    twins = torch.cat([features[:1], features[:1]])
    assert torch.allclose(company(twins), torch.ones(2, 5))  # the one batch mate is the same picture
    company.eval()
    company.settle(features)
    assert company.reference.shape == (3, 5, 2)
    assert torch.allclose(company(features)[4:], company(features[4:]))


def test_attention_computes_the_same_while_training_and_in_a_graph() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8)
    torch.nn.init.constant_(attention.gain, 0.7)
    bare_weights(attention)
    x = torch.randn(2, 8, 16, 16)
    assert not torch.allclose(attention(x), x)
    assert torch.allclose(attention.train()(x), attention.eval()(x), atol=1e-5)


def test_divergence_is_exact_where_it_is_large_and_where_it_is_tiny() -> None:
    mean = torch.tensor([[0.3, -1.0], [1e-4, 0.0]]).reshape(2, 2, 1, 1)
    log_variance = torch.tensor([[0.5, -2.0], [2e-4, -1e-4]]).reshape(2, 2, 1, 1)
    exact = 0.5 * (mean.double() ** 2 + torch.expm1(log_variance.double()) - log_variance.double())
    assert torch.allclose(kl_divergence(mean, log_variance).double(), exact.sum(dim=(1, 2, 3)), rtol=1e-4)


def test_the_published_loss_weighs_the_divergence_by_the_number_of_pixels() -> None:
    entropy, divergence = torch.full((2, 1, 4, 4), 0.5), torch.tensor([1.0, 3.0])
    corrected, published = make_system(tiny("vae")), make_system(tiny("vae-published"))
    assert float(corrected.combine(entropy, divergence)) == 0.5 * 16 + 2  # type: ignore[operator]
    assert float(published.combine(entropy, divergence)) == 0.5 + 4  # type: ignore[operator]


def test_augmentation_moves_picture_and_mask_together() -> None:
    radiographs = torch.from_numpy(golden_inputs(64, 8))
    how = Augmentation(brightness=0.2, scale=0.2, rotation_degrees=20)
    picture, mask = augmented(radiographs, how, np.random.default_rng(0))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert not picture[mask == 0].any()
    assert 0.6 < float(mask.sum() / radiographs[:, 1].sum()) < 1.5
    assert not torch.allclose(picture, radiographs[:, :1], atol=0.1)


def test_flips_alone_keep_every_grey() -> None:
    radiographs = limbs(6)
    picture, _ = augmented(radiographs, Augmentation(), np.random.default_rng(1))
    flips = [radiographs[:, :1].flip(axes) for axes in ([], [2], [3], [2, 3])]
    for index in range(6):
        assert any(torch.allclose(picture[index], flip[index], atol=1e-5) for flip in flips)


def test_the_heatmap_keeps_its_sum_and_its_place() -> None:
    evidence = torch.zeros(1, 1, 128, 128)
    evidence[0, 0, 40, 70] = 1.0
    smooth = blurred(evidence)
    assert smooth.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert divmod(int(smooth.argmax()), 128) == (40, 70)
    spread = ((smooth[0, 0].sum(dim=1) * (torch.arange(128) - 40) ** 2).sum()) ** 0.5
    assert spread.item() == pytest.approx(5 / 4, abs=0.05)  # 5 px of 512


def test_a_picture_spans_from_black_to_white() -> None:
    radiographs = limbs(2) * torch.tensor([0.5, 1.0]).reshape(1, 2, 1, 1)
    for equalize in (False, True):
        picture, mask = shown_picture(radiographs, equalize=equalize)
        assert picture.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
        assert not picture[mask == 0].any()
