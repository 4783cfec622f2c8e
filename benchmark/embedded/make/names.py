"""Invented proper names: pronounceable, seeded, and none hidden inside another.

Every name of a subject is a word of its own. With shared last names a 2 M parameter model stayed under 16 % of its
facts in a first try; with unique ones it learns nearly all of them.
"""

import random

ONSETS = "b br c cl d dr f fl g gr h j k kl l m n p pl qu r s sk st t th tr v w y z".split()
VOWELS = "a e i o u ae ai ea io ou".split()
CODAS = "l m n r s t d k x nd rn rk lt st ss ll sh th".split()

ENDINGS = {
    "person": ("ard", "ez", "in", "off", "ow", "ley", "quist", "ano", "sen", "ette"),
    "city": ("ton", "mar", "wick", "port", "field", "burg", "ham"),
    "country": ("ia", "land", "stan", "or"),
    "continent": ("ea", "asia"),
    "company": ("corp", "tex", "ware", "works", "co"),
    "star": ("is", "eb", "ux", "ar"),
    "plant": ("ora", "illa", "anthe", "wort"),
    "ship": ("ea", "ant", "una"),
    "building": ("gate", "hall", "spire", "court"),
    "record": ("ova", "ine", "ways"),
    "thing": ("ball", "fest", "soup", "dance", "game", "bread"),
}
"""Endings tell the kind of a name, as they do in the world outside."""

FIRST = {
    "male": "Adan Bero Corin Davo Elmar Fenn Garo Hale Ivar Joss Kael Lorn Milo Nedan Oskar Perrin Rolf Soren".split(),
    "female": "Alda Brisa Cora Delia Elin Fara Gwen Hilde Ilsa Jora Kira Lena Mirel Nadia Orla Petra Runa Sela".split(),
}
MIDDLE = "Alon Bey Cai Dor Eves Finn Gray Hart Ives Jun".split()


class Namer:
    """Draws new words; no word it gave out contains another.

    Args:
        rng: Source of randomness, advanced by every name.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._taken: set[str] = set()

    def word(self, kind: str = "") -> str:
        """Return a capitalised word that nothing else in the world is called, with an ending of its kind."""
        while True:
            pick = self.rng.choice
            stem = pick(ONSETS) + pick(VOWELS) + pick(CODAS)
            if self.rng.random() < 0.4:
                stem = pick(ONSETS) + pick("aeiou") + stem
            name = (stem + pick(ENDINGS.get(kind, ("", "el", "an", "om")))).capitalize()
            # Containment would make "no test subject is mentioned" undecidable by searching for the name.
            low = name.lower()
            if 5 <= len(low) <= 11 and not any(low in other or other in low for other in self._taken):
                self._taken.add(low)
                return name
