"""Open sets of spoken pairs, made here: words and non-words, minimal pairs of sentences, stories and their endings.

They let the suites of `syllablelm.evaluate` run without licensed downloads, and lie on disk as those suites read them.
They are sets of their own: scores on them are no scores on sWUGGY, sBLIMP or StoryCloze.

``pronunciations``, ``nonwords``, ``wordlist``: the words; ``sentences``: the minimal pairs; ``stories``: the endings;
``spoken``: any of them to a folder.
"""

from syllablelm.itemsets.sentences import make_minimal_pairs
from syllablelm.itemsets.speak import Clip, ItemSet, Source, speak_set
from syllablelm.itemsets.stories import make_topic_cloze
from syllablelm.itemsets.wordlist import make_wordlist

__all__ = ["Clip", "ItemSet", "Source", "make_minimal_pairs", "make_topic_cloze", "make_wordlist", "speak_set"]
