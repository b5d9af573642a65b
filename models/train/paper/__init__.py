"""The five systems of "Unsupervised Anomaly Detection for X-Ray Images" (Davletshina et al., 2020)."""
