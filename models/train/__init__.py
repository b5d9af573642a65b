"""Training, calibration, evaluation and export; needs the extra `train`, never imported at serving time."""
