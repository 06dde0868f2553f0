"""A few words of the dictionary that the tests of data and of baselines share."""

from tutorlib.data.pronunciation import Entry

FEW = [
    Entry("cat", ("K", "AE", "T")),
    Entry("dog", ("D", "AO", "G")),
    Entry("axe", ("AE", "K", "S")),
    Entry("eye", ("AY",)),
    Entry("six", ("S", "IH", "K", "S")),
    Entry("seven", ("S", "EH", "V", "AH", "N")),
    Entry("three", ("TH", "R", "IY")),
    Entry("a", ("AH",)),
]
