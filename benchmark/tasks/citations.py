"""BibTeX entries of the papers that the data sets come from."""

KNOWEDIT = """@article{zhang2024knowedit,
  title = {A Comprehensive Study of Knowledge Editing for Large Language Models},
  author = {Zhang, Ningyu and Yao, Yunzhi and Tian, Bozhong and Wang, Peng and Deng, Shumin and others},
  journal = {arXiv preprint arXiv:2401.01286},
  year = {2024}
}"""

RIPPLE_EDITS = """@article{cohen2024ripple,
  title = {Evaluating the Ripple Effects of Knowledge Editing in Language Models},
  author = {Cohen, Roi and Biran, Eden and Yoran, Ori and Globerson, Amir and Geva, Mor},
  journal = {Transactions of the Association for Computational Linguistics},
  volume = {12},
  year = {2024},
  note = {arXiv:2307.12976}
}"""

ZSRE = """@inproceedings{levy2017zsre,
  title = {Zero-Shot Relation Extraction via Reading Comprehension},
  author = {Levy, Omer and Seo, Minjoon and Choi, Eunsol and Zettlemoyer, Luke},
  booktitle = {Proceedings of the 21st Conference on Computational Natural Language Learning (CoNLL)},
  year = {2017},
  note = {arXiv:1706.04115}
}"""

ROME = """@inproceedings{meng2022rome,
  title = {Locating and Editing Factual Associations in {GPT}},
  author = {Meng, Kevin and Bau, David and Andonian, Alex and Belinkov, Yonatan},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022},
  note = {arXiv:2202.05262}
}"""

MEND = """@inproceedings{mitchell2022mend,
  title = {Fast Model Editing at Scale},
  author = {Mitchell, Eric and Lin, Charles and Bosselut, Antoine and Finn, Chelsea and Manning, Christopher D.},
  booktitle = {International Conference on Learning Representations},
  year = {2022},
  note = {arXiv:2110.11309}
}"""

SERAC = """@inproceedings{mitchell2022serac,
  title = {Memory-Based Model Editing at Scale},
  author = {Mitchell, Eric and Lin, Charles and Bosselut, Antoine and Manning, Christopher D. and Finn, Chelsea},
  booktitle = {Proceedings of the 39th International Conference on Machine Learning (ICML)},
  year = {2022},
  note = {arXiv:2206.06520}
}"""


def cite(*entries: str) -> str:
    """Join entries to one text that a `.bib` file can hold."""
    return "\n\n".join(entries)
