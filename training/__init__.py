"""Training of the two streams and their fusion (PyTorch); ``pipeline`` never imports it.

To follow ``python -m training train`` from its arguments to the loss, read the modules in this
order; the docstring of each names the next one.

1. ``__main__``: the arguments, and ``commands``: what each command does with them.
2. ``config``: the recipe, a YAML file.
3. ``clip_lists`` and ``clip_list_formats``: which clips there are, with label, group and fold.
4. ``data``: decodes a clip, computes flow fields and backbone features, and caches both.
5. ``crossvalidation``: what is trained on and what is held out in each fold.
6. ``session``: trains one model for each fold and one on all clips, and writes ``runs/NAME``.
7. ``optimise``: the training loop and the loss.
8. ``batches``, ``sequences``, ``clip_augment``: how a batch is composed from clips.
9. ``model``, ``spatial``, ``temporal``, ``fusion``, ``aggregators``: the networks.
10. ``measure``, ``stream_figures``: the figures of a trained model.

``linear`` replaces 7 and 8 for recipes that train nothing but linear layers.
"""
