import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from benchmarks.false_rejections import DESIGNS, spread_of
from rm_robustness.pivot import Spread, half_widths

VARIANCES = st.floats(1e-8, 10)


NORMAL = {name: sds for name, sds in DESIGNS.items() if name != "skewed seeds"}


def rejections(spread, alpha, difference=0.0):
    """Probability of p < alpha at a true difference, by quadrature over both estimates.

    The estimates of V_s and V_p are drawn from their own chi-squares, and the mean from its normal;
    that of the noise, with hundreds of degrees of freedom, is held.
    """
    logs = np.linspace(-14, 2.5, 200) if spread.seeds_df > 2 else np.linspace(-22, 3, 300)
    w = np.exp(logs)
    weights = w * stats.chi2.pdf(w * spread.seeds_df, spread.seeds_df)
    u = stats.chi2.ppf([0.1, 0.5, 0.9], spread.prompts_df) / spread.prompts_df
    seen = np.meshgrid(spread.seeds * w, spread.prompts * u)
    needed = half_widths(spread, seen[0].ravel(), seen[1].ravel(), alpha).reshape(len(u), -1)
    sd = np.sqrt(spread.variance)
    found = stats.norm.sf((needed - difference) / sd) + stats.norm.cdf((-needed - difference) / sd)
    return float((found.mean(axis=0) * weights).sum() / weights.sum())


@pytest.mark.parametrize("design", NORMAL)
@pytest.mark.parametrize("prompts", [400, 11_000])
@pytest.mark.parametrize("seeds", [2, 3, 4, 8])
def test_false_rejections_are_no_more_than_they_say_far_into_the_tail(seeds, prompts, design):
    spread = spread_of(seeds, prompts, *DESIGNS[design])
    for alpha in (0.05, 0.05 / 8, 0.05 / 64):
        assert rejections(spread, alpha) <= 1.3 * alpha


def test_seeds_alone_are_students_test_and_prompts_alone_too():
    rng = np.random.default_rng(3)
    for n in (2, 3, 5, 29, 30, 400):
        sample = rng.normal(0.2, 1, size=n)
        variance, oracle = sample.var(ddof=1) / n, stats.ttest_1samp(sample, 0)
        low, high = oracle.confidence_interval(0.95)
        for spread in (Spread(variance, 0, 0, n - 1, 0), Spread(0, variance, 0, 0, n - 1)):
            assert spread.p_value(sample.mean()) == pytest.approx(oracle.pvalue, rel=1e-4)
            assert spread.half_width() == pytest.approx((high - low) / 2, rel=1e-4)


@pytest.mark.parametrize(("seeds", "prompts"), [(2, 5), (4, 40), (3, 400)])
def test_p_is_the_probability_of_the_pivot(seeds, prompts):
    spread = spread_of(seeds, prompts, 0.05, 0.3, 0.3)
    rng = np.random.default_rng(1)
    w = rng.chisquare(seeds - 1, 400_000) / (seeds - 1)
    u = rng.chisquare(prompts - 1, 400_000) / (prompts - 1)
    variance = np.maximum(spread.seeds / w - spread.noise, 0) + spread.prompts / u
    drawn = np.abs(rng.normal(size=400_000) * np.sqrt(variance))
    for alpha in (0.5, 0.05, 0.01):
        distance = spread.half_width(alpha)
        assert np.mean(drawn > distance) == pytest.approx(alpha, rel=0.07)
        assert spread.p_value(distance) == pytest.approx(alpha, rel=1e-9)
    total = integrate.quad(lambda x: spread.density(np.array([x]))[0], -np.inf, 0.05)[0]
    assert 2 * (1 - total) == pytest.approx(spread.p_value(0.05), rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    VARIANCES,
    VARIANCES,
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(1, 2000),
    st.floats(-4, 1),
)
def test_interval_and_p_value_never_disagree(
    seeds, prompts, share, seeds_df, prompts_df, log_alpha
):
    alpha = 10**log_alpha / 20
    spread = Spread(seeds, prompts, share * min(seeds, prompts), seeds_df, prompts_df)
    distance = spread.half_width(alpha)
    assert spread.p_value(0.999 * distance) > alpha > spread.p_value(1.001 * distance)
    assert spread.p_value(0) == pytest.approx(1)


@settings(deadline=None, max_examples=10)
@given(VARIANCES, VARIANCES, st.integers(2, 9), st.integers(2, 500), st.floats(0.01, 100))
def test_the_unit_does_not_matter(seeds, prompts, seeds_df, prompts_df, unit):
    one = Spread(seeds, prompts, 0, seeds_df, prompts_df)
    other = Spread(seeds * unit**2, prompts * unit**2, 0, seeds_df, prompts_df)
    assert other.half_width() == pytest.approx(unit * one.half_width(), rel=1e-9)
    assert other.smallest_found() == pytest.approx(unit * one.smallest_found(), rel=1e-9)


def test_more_seeds_or_prompts_find_smaller_differences():
    found = [
        spread_of(s, p, 0.01, 0.05, 0.25).smallest_found()
        for s, p in ((2, 400), (4, 400), (8, 400), (8, 4000))
    ]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 19, 199])
def test_the_smallest_difference_found_is_that_of_the_t_test(df):
    # The power given w = chi2(df) / df is that of a normal test; w is integrated out finely.
    ends = np.log(stats.chi2.ppf([1e-12, 1 - 1e-12], df) / df)
    logs = np.linspace(*ends, 100_001)
    weights = np.exp(df / 2 * (logs - np.exp(logs) + 1))
    needed = stats.t.isf(0.025, df) * np.exp(logs / 2)

    def missing(difference):
        found = stats.norm.cdf(difference - needed) + stats.norm.cdf(-difference - needed)
        return np.average(found, weights=weights) - 0.8

    oracle = optimize.brentq(missing, 1, 60)
    rel = 1e-4 if df < 30 else 0.01  # the estimate of many prompts' variance is taken as exact
    assert Spread(1, 0, 0, df, 0).smallest_found() == pytest.approx(oracle, rel=1e-4)
    assert Spread(0, 1, 0, 0, df).smallest_found() == pytest.approx(oracle, rel=rel)


@pytest.mark.parametrize("design", NORMAL)
@pytest.mark.parametrize("seeds", [3, 8])
def test_the_smallest_difference_found_is_found_with_eighty_percent(seeds, design):
    spread = spread_of(seeds, 400, *DESIGNS[design])
    found = rejections(spread, 0.05, spread.smallest_found())
    assert found == pytest.approx(0.8, abs=0.01)


def test_nothing_that_varies_has_no_width_and_finds_everything():
    still = Spread(0, 0, 0, 3, 9)
    assert still.half_width() == 0
    assert (still.p_value(0), still.p_value(0.1)) == (1, 0)
    assert np.isnan(still.smallest_found())


def test_the_bayes_factor_is_that_of_students_likelihood():
    spread, size = Spread(0.25, 0, 0, 3, 0), 0.8
    likelihood = stats.t(3, scale=0.5).pdf
    for value in (-1.0, 0.0, 0.8, 3.0):
        alternative = integrate.quad(
            lambda d, at=value: likelihood(at - d) * stats.halfnorm(scale=size).pdf(d), 0, 12
        )[0]
        factor = spread.bayes_factor(value, size)
        assert factor == pytest.approx(alternative / likelihood(value), rel=0.01)
        assert spread.bayes_factor(-value, -size) == pytest.approx(factor)
