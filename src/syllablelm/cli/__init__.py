"""The command line: one small module per group of verbs.

Nothing heavy is imported at the top of these modules, so that ``syllablelm --help`` answers at once; each command
imports what it needs.
"""
