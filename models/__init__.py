"""Networks, preprocessing, scoring, calibration, training, evaluation, export and the model package."""
