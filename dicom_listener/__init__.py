"""The DICOM node: receives studies durably, has them scored, delivers what comes back."""
