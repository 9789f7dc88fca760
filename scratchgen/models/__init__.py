"""Every model of the lectures: one paper, one file, its loss and its sampler written out."""
