from syllablelm.core.document import format_table as format_table
