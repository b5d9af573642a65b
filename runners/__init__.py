"""The dependent BentoML services (`Preprocessor`, `AnomalyScorer`), the decoders and the engines they use."""
