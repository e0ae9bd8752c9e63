"""Results beside the paper's tables.

`result_files` reads files, `extract` turns each result into cells, `paper_tables` puts them beside the published rows,
`figures` and `layout` show them, `build` writes the folder. `segmentation_figure` draws one recording.
"""
