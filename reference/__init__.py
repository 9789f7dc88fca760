"""Oracles: every formula of the library, derived another way.

Plain NumPy and SciPy in float64. Nothing here imports the library, so an error there cannot repeat itself
here. An oracle that judges a closed form does not retype it: it integrates, enumerates, conditions a joint
Gaussian by linear algebra, or applies Bayes' rule on a grid.

One file is another kind. `samplers` types DDPM's and DDIM's formulas once more, line by line from the papers: a
second reading, in scalar arithmetic, which finds slips of the hand and of the array but would share a
misunderstanding. The independent judges of an equation that names it are the others beside it. (DDPM's simple loss
has no other: it is a definition.)

    quadrature      integrals of one and several variables
    gaussian        chains of linear-Gaussian steps: joint moments, conditioning, moment recursion
    distributions   log-densities, entropies and divergences
    exponential     the exponential law
    divergence      divergences by quadrature, the best Gaussian by search
    densities       volumes of unnormalised densities, exponential families
    latent          evidence and bounds of models with latent variables
    vq              nearest codes, and the loss with its choices held
    tangents        the plane in which a map moves
    disentanglement the difference of codes that share a factor
    mcmc            Markov chains as matrices
    langevin        Langevin's walk as an affine map
    diffusion       forward chain, posterior, weight of a noise prediction
    bound           exact evidence of a linear model, three forms of the variational bound
    binomial        chains of bits, all states enumerated
    denoisers       exact noise, score and denoiser for Gaussian and mixture data
    samplers        the steps of DDPM and DDIM, transcribed in scalar arithmetic
    score           divergences of scores by quadrature
    sde             moments, paths and likelihoods of stochastic differential equations
    flows           Jacobians of maps by differences
    derivatives     finite differences and the complex step
    layers          network layers as nested loops
    metrics         Fréchet distance, precision and recall, classifier score

They are slow on purpose, and meant to be read beside the file they judge.
"""
