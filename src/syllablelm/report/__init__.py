"""Results beside the paper's tables.

`result_files` reads files, `extract` turns each result into cells, `paper_tables` puts them beside the published rows,
`figures` draws them, `build` lays out and writes the folder. `segmentation_figure` draws one recording.
"""
