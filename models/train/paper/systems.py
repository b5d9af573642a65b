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


def _published(name: str, *, input_px: int, batch: int, epochs: int) -> PaperConfig:
    steps = epochs * 2841 // batch
    return PaperConfig(name=name, seed=0, steps=steps, input_px=input_px, width=1.0, batch=batch)


def _here(name: str, *, steps: int, width: float, rate: float, batch: int = 16) -> PaperConfig:
    return PaperConfig(name=name, seed=0, steps=steps, input_px=128, width=width, batch=batch, rate=rate)


_ENTRIES = (
    Entry(
        title="Convolutional autoencoder, squared error",
        system=Cae,
        published=_published("cae", input_px=512, batch=32, epochs=1000),
        here=_here("cae", steps=4000, width=1 / 2, rate=5),
    ),
    Entry(
        title="Variational autoencoder, divergence of the code",
        system=Vae,
        published=_published("vae", input_px=512, batch=32, epochs=500),
        here=_here("vae", steps=10_000, width=1 / 4, rate=20),
    ),
    Entry(
        title="Variational autoencoder with the published loss, divergence of the code",
        system=PublishedVae,
        published=_published("vae-published", input_px=512, batch=32, epochs=500),
        # Trained longer (10,000 steps), its code collapses to rounding, and export refuses it.
        here=_here("vae-published", steps=800, width=1 / 4, rate=20),
    ),
    Entry(
        title="DCGAN, discriminator",
        system=Dcgan,
        published=_published("dcgan", input_px=512, batch=80, epochs=500),
        here=_here("dcgan", steps=5000, width=1 / 4, rate=30),
    ),
    Entry(
        title="BiGAN, discriminator of pairs",
        system=Bigan,
        published=_published("bigan", input_px=128, batch=16, epochs=500),
        here=_here("bigan", steps=4000, width=1 / 8, rate=15, batch=8),
    ),
    Entry(
        title="α-GAN, discriminator",
        system=AlphaGan,
        published=_published("alpha-gan", input_px=128, batch=16, epochs=500),
        here=_here("alpha-gan", steps=6000, width=1 / 8, rate=3, batch=8),
    ),
)
SYSTEMS = {entry.here.name: entry for entry in _ENTRIES}


def make_system(config: PaperConfig) -> System:
    """An untrained system with weights drawn from torch's global generator."""
    return SYSTEMS[config.name].system(config)
