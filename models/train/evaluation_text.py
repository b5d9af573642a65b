"""The words of `docs/evaluation.md` that no figure changes."""

# Davletshina et al., 2020, from the authors' public code: mean ± sd of four seeds, segmented hands.
PUBLISHED = {
    "cae": ".501 ± .013; equalized .570 ± .019",
    "vae": ".520 ± .026; equalized .533 ± .014",
    "vae-published": ".520 ± .026; equalized .533 ± .014",
    "dcgan": ".530 ± .027; equalized .527 ± .022",
    "bigan": ".549 ± .006; equalized .523 ± .016",
    "alpha-gan": ".607 ± .016; equalized .584 ± .012",
}

INTRODUCTION = """\
# Evaluation of all packages

Written by `skiagraph models evaluate`; research use only.
Data: validation split of FracAtlas (CC BY 4.0), our split by group. Intervals are 95 %, from 2,000 bootstrap
draws of whole groups. Nothing was trained on a fracture; thresholds and percentiles come from normal training
radiographs. Each package is one training run with one seed, at full preprocessing; the seeds of the default
have a section of their own. Every single answer is in [evaluation-answers.json](evaluation-answers.json).
"""

HOW_TO_READ = """\
**How to read it.** Fractured limbs are positioned differently, and even networks with random weights notice.
An AUC means something only as far as it exceeds the *control* (the default's pipeline with random weights;
for the memory bank a student with random weights) and the *thumbnail* (`novelty`, which sees no detail as
small as a fracture). What training adds is *where*: the pointing game asks whether the map's maximum lies
in a fracture box. `score` and `novelty` are two outputs and never blended. The paper's figures are on other
radiographs (MURA hands, all abnormalities) and cannot be compared closely. On chest radiographs (BMAD
benchmark) f-AnoGAN reaches .55, PatchCore .76, CutPaste .83; nobody has published such a figure for hands.

**What was chosen how.** `synthetic-defects`: networks, planted defects and training were fixed before
validation was looked at. So was a first map (deviation from look-alike normals plus 0.3 of the bare logit)
with the rule that an alternative must beat it in pointing and AUC by more than the paired interval. With
unfinished networks it was replaced after looking at about fifteen variants on these validation radiographs,
because it flagged places where look-alikes show no tissue. The pointing gain was outside its paired
interval, the AUC gain was not: the rule as written was not met. Its score was made steadier under shifts and
turns later, judged by flipped verdicts ([ADR 0023](adr/0023-steady-score.md)). Expect somewhat lower figures
on radiographs that nobody has looked at. `memory-bank`: everything was fixed beforehand
([ADR 0021](adr/0021-memory-bank.md)). The paper's systems: scores and losses as published, trained for as
long and as wide as two cores allowed (the table of costs; the published size is a configuration); nothing
was tuned on these radiographs.
"""

SEEDS = """\
## Seeds of the default

The shipped package is seed 1. The same recipe, trained again from other seeds without a look at anything in
between, three runs in all: how far they differ is what one run cannot say.

"""

WEAK_SPOTS = """\
## Weak spots

- 49 fractures decide the main table: two packages whose intervals overlap this much are not told apart by it.
- The paper's systems are narrower, at lower resolution and trained for far fewer steps than published.
- `vae-published` stops at 800 steps: trained on, its code collapses to rounding, which cannot be served.
- Fractures only: MURA's other abnormalities (hardware, arthritis, foreign bodies) are not measured here.
- One hospital's collection, photographed or exported as JPEG; no other scanner, country or age group.
- The validation normals were looked at while the default's map was chosen (see above).
- Forearms and elbows are refused by the gate; their row shows what the models would say of them.
"""
