"""Open sets of spoken pairs: words and non-words, minimal pairs of sentences, stories and their endings.

They let the suites of `syllablelm.evaluate` run without licensed downloads, in the layout that those suites read. They
are sets of their own: scores on them are not scores on sWUGGY, sBLIMP or StoryCloze.
"""

from syllablelm.itemsets.sentences import prepare_minimal_pairs
from syllablelm.itemsets.speak import SpokenSet
from syllablelm.itemsets.stories import prepare_topic_cloze
from syllablelm.itemsets.wordlist import prepare_wordlist

__all__ = ["SpokenSet", "prepare_minimal_pairs", "prepare_topic_cloze", "prepare_wordlist"]
