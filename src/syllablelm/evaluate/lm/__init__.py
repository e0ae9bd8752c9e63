"""Language models on pairs of recordings: sWUGGY, sBLIMP, tStoryCloze and open sets."""
