"""Oracles: every formula of the library, derived another way.

Plain NumPy and SciPy in float64. Nothing here imports the library, so an error there cannot repeat itself
here, and no oracle retypes the closed form it judges: it integrates, enumerates, conditions a joint Gaussian
by linear algebra, applies Bayes' rule on a grid, or walks a paper's algorithm number by number.

    quadrature      integrals of one and several variables
    gaussian        chains of linear-Gaussian steps: joint moments, conditioning, moment recursion
    distributions   log-densities, entropies and divergences
    diffusion       forward chain, posterior, weight of a noise prediction
    bound           exact evidence of a linear model, three forms of the variational bound
    denoisers       exact noise, score and denoiser for Gaussian and mixture data
    samplers        the steps of DDPM and DDIM in scalar arithmetic
    derivatives     finite differences and the complex step
    layers          network layers as nested loops
    metrics         Fréchet distance, precision and recall, classifier score

They are slow on purpose, and meant to be read beside the file they judge.
"""
