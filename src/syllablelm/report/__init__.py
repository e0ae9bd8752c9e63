"""One page of every result beside the paper's: results read, put into the paper's tables, drawn and written.

`results` reads files, `extract` turns each result into cells, `tables` puts them beside the published rows, `figures`,
`html` and `markdown` show them, `build` writes the folder.
"""
