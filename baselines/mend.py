"""MEND: fast model editing at scale (Mitchell et al. 2022, arXiv 2110.11309).

The edit is the gradient of the edit's loss, transformed by a hypernetwork; see `hypernet.gradient_editor` for the
equations and `hypernet.objective` for the training objective. Learning rates of the hypernetwork, of the first step
alpha of an edit, and of alpha in training:

    >>> options = MEND.Config()
    >>> options.training.lr, options.edit_lr, options.edit_lr_lr
    (1e-06, 0.0001, 0.0001)
"""

from instructedit.editors import GradientConfig, GradientEditor


class MEND(GradientEditor[GradientConfig]):
    """Model editor networks with gradient decomposition, for one task or several."""

    name = "mend"
    title = "MEND"
    source = "Mitchell et al. 2022, arXiv 2110.11309"
    Config = GradientConfig
