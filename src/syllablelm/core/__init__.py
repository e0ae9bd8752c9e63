"""Ground floor: errors, segmentations, configuration, artifacts, files, models, progress, documents."""
