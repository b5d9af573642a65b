"""The paper's systems by name, each as published and as trained here on two cores."""

from dataclasses import dataclass

from models.train.paper.alpha_gan import AlphaGan
from models.train.paper.bigan import Bigan
from models.train.paper.cae import Cae
from models.train.paper.dcgan import Dcgan
from models.train.paper.system import PaperConfig, System
from models.train.paper.vae import PublishedVae, Vae


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A system as published and as trained here; steps of `published` are for the paper's 2,841 normals."""

    title: str
    system: type[System]
    published: PaperConfig
    here: PaperConfig


def _entry(
    name: str, title: str, system: type[System], *, published: tuple[int, int, int], here: dict[str, float]
) -> Entry:
    """published: pixels, batch, epochs. here: what differs from 128 px."""
    pixels, batch, epochs = published
    return Entry(
        title=title,
        system=system,
        published=PaperConfig(
            name=name, seed=0, steps=epochs * 2841 // batch, input_px=pixels, width=1.0, batch=batch
        ),
        here=PaperConfig(
            name=name,
            seed=0,
            steps=int(here["steps"]),
            input_px=128,
            width=here["width"],
            batch=int(here.get("batch", 16)),
            rate=here.get("rate", 1.0),
        ),
    )


SYSTEMS = {
    entry.here.name: entry
    for entry in (
        _entry(
            "cae",
            "Convolutional autoencoder, squared error",
            Cae,
            published=(512, 32, 1000),
            here={"steps": 1200, "width": 0.5, "rate": 5.0},
        ),
        _entry(
            "vae",
            "Variational autoencoder, divergence of the code",
            Vae,
            published=(512, 32, 500),
            here={"steps": 1500, "width": 0.25, "rate": 20.0},
        ),
        _entry(
            "vae-published",
            "Variational autoencoder with the published loss, divergence of the code",
            PublishedVae,
            published=(512, 32, 500),
            here={"steps": 1500, "width": 0.25, "rate": 20.0},
        ),
        _entry(
            "dcgan",
            "DCGAN, discriminator",
            Dcgan,
            published=(512, 80, 500),
            here={"steps": 600, "width": 0.25, "rate": 30.0},
        ),
        _entry(
            "bigan",
            "BiGAN, discriminator of pairs",
            Bigan,
            published=(128, 16, 500),
            here={"steps": 600, "width": 0.125, "batch": 8, "rate": 60.0},
        ),
        _entry(
            "alpha-gan",
            "α-GAN, discriminator",
            AlphaGan,
            published=(128, 16, 500),
            here={"steps": 500, "width": 0.125, "batch": 8, "rate": 3.0},
        ),
    )
}


def make_system(config: PaperConfig) -> System:
    """An untrained system with weights drawn from torch's global generator."""
    return SYSTEMS[config.name].system(config)
