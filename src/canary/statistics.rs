//! The tests themselves, on numbers that mean nothing here. Exact where that is possible; the chi-square test is as good as
//! its approximation, which wants five expected in each cell: rarer ones are put together.

/// The least number that a cell of a chi-square test has to be expected to hold.
const EXPECTED: f64 = 5.0;
/// Where a sum is as exact as it gets.
const NEGLIGIBLE: f64 = 1e-17;
/// Steps of a series or a continued fraction, of which a few dozen are enough.
const STEPS: u32 = 10_000;

/// What a test of homogeneity finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homogeneity {
    /// How often two samples of one distribution differ as much or more.
    pub p_value: f64,
    /// Cramér's V: 0 where the two are alike, 1 where no class is in both.
    pub association: f64,
}

/// Fisher's exact test, one-sided: how often chance would give the second of two samples, of which each is told as a number
/// of hits and its size, so many of the hits or more.
pub fn fisher([few, first]: [u64; 2], [many, second]: [u64; 2]) -> f64 {
    let (all, hits) = (first + second, few + many);
    let (all_f, hits_f, second_f) = (all as f64, hits as f64, second as f64);
    let most = hits.min(second);
    if all == 0 || hits == 0 || many == 0 {
        return 1.0;
    }
    let weight = |number: u64| (choose(hits, number) + choose(all - hits, second - number) - choose(all, second)).exp();
    let up = |number: f64| {
        (hits_f - number) * (second_f - number) / ((number + 1.0) * (all_f - hits_f - second_f + number + 1.0))
    };
    // The tail that is summed is the one beyond the middle: its first weight is its largest.
    if many as f64 > hits_f * second_f / all_f {
        sum(weight(many), many, most, up)
    } else {
        let least = (hits + second).saturating_sub(all);
        if many <= least {
            return 1.0;
        }
        let down = |number: f64| 1.0 / up(number - 1.0);
        1.0 - sum(weight(many - 1), many - 1, least, down)
    }
    .clamp(0.0, 1.0)
}

/// How often of `all` tosses of a fair coin `number` or fewer are heads.
pub fn at_most(number: u64, all: u64) -> f64 {
    let all_f = all as f64;
    let weight = |number: u64| (choose(all, number) - all_f * std::f64::consts::LN_2).exp();
    if number >= all {
        return 1.0;
    }
    if 2 * number < all {
        sum(weight(number), number, 0, |number| number / (all_f - number + 1.0))
    } else {
        1.0 - sum(weight(number + 1), number + 1, all, |number| {
            (all_f - number) / (number + 1.0)
        })
    }
    .clamp(0.0, 1.0)
}

/// The weights from `from` to `to`, of which the first is given, and each other one by its ratio to the one before it.
fn sum(first: f64, from: u64, to: u64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut total, mut weight, mut number) = (first, first, from);
    while number != to && weight > total * NEGLIGIBLE {
        weight *= ratio(number as f64);
        total += weight;
        number = if to > number { number + 1 } else { number - 1 };
    }
    total
}

/// The chi-square test of whether two samples are of one distribution; each row is a class, with its number in either.
pub fn homogeneity(rows: &[[u64; 2]]) -> Homogeneity {
    let alike = Homogeneity {
        p_value: 1.0,
        association: 0.0,
    };
    let totals = [0, 1].map(|side| rows.iter().map(|row| row[side]).sum::<u64>() as f64);
    let all = totals[0] + totals[1];
    if totals.contains(&0.0) {
        return alike;
    }
    let expected = |row: [f64; 2], side: usize| (row[0] + row[1]) * totals[side] / all;
    let is_rare = |row: [f64; 2]| expected(row, 0).min(expected(row, 1)) < EXPECTED;
    let mut cells: Vec<[f64; 2]> = rows.iter().map(|row| row.map(|number| number as f64)).collect();
    cells.sort_by(|one, other| (one[0] + one[1]).total_cmp(&(other[0] + other[1])));
    // The rarest go together until they are not rare any more.
    let mut kept: Vec<[f64; 2]> = Vec::new();
    let mut rest = [0.0; 2];
    for row in cells {
        if is_rare(rest) && rest != [0.0; 2] || is_rare(row) {
            rest = [rest[0] + row[0], rest[1] + row[1]];
        } else {
            kept.push(row);
        }
    }
    if rest != [0.0; 2] {
        match kept.first_mut().filter(|_| is_rare(rest)) {
            Some(row) => *row = [row[0] + rest[0], row[1] + rest[1]],
            None => kept.push(rest),
        }
    }
    if kept.len() < 2 {
        return alike;
    }
    let cell = |row: [f64; 2], side: usize| (row[side] - expected(row, side)).powi(2) / expected(row, side);
    let statistic: f64 = kept.iter().map(|row| cell(*row, 0) + cell(*row, 1)).sum();
    Homogeneity {
        p_value: upper_gamma((kept.len() - 1) as f64 / 2.0, statistic / 2.0),
        association: (statistic / all).sqrt(),
    }
}

/// The logarithm of the number of ways to choose `part` of `all`.
fn choose(all: u64, part: u64) -> f64 {
    let factorial = |number: u64| ln_gamma(number as f64 + 1.0);
    factorial(all) - factorial(part) - factorial(all - part)
}

/// The logarithm of the gamma function, above 0, by Lanczos' approximation with g = 7 and nine terms.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Its reflection, which the halves of small degrees of freedom need.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let series = (1..9).fold(TERMS[0], |sum, index| sum + TERMS[index] / (x + index as f64));
    let base = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + series.ln()
}

/// The upper regularised incomplete gamma function: a series below `a + 1`, a continued fraction (Lentz) above it.
fn upper_gamma(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (shape * x.ln() - x - ln_gamma(shape)).exp();
    if x < shape + 1.0 {
        let (mut term, mut total) = (1.0 / shape, 1.0 / shape);
        for step in 1..STEPS {
            term *= x / (shape + f64::from(step));
            total += term;
            if term < total * NEGLIGIBLE {
                break;
            }
        }
        return (1.0 - front * total).clamp(0.0, 1.0);
    }
    let mut part = x + 1.0 - shape;
    let mut below = 1.0 / part;
    let (mut above, mut value) = (f64::MAX, below);
    for step in 1..STEPS {
        let step = f64::from(step);
        let next = -step * (step - shape);
        part += 2.0;
        below = 1.0 / (next * below + part);
        above = part + next / above;
        value *= above * below;
        if (above * below - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (front * value).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        let off = (found - expected).abs() / expected.abs().max(1e-300);
        assert!(off < 1e-6, "{found} is not {expected}");
    }

    /// By counting: every way in which hits can fall on the second sample.
    fn fisher_by_counting([few, first]: [u64; 2], [many, second]: [u64; 2]) -> f64 {
        let ways = |all: u64, part: u64| (0..part).fold(1.0, |ways, n| ways * (all - n) as f64 / (n + 1) as f64);
        let (all, hits) = (first + second, few + many);
        (many..=hits.min(second))
            .filter(|number| second - number <= all - hits)
            .map(|number| ways(hits, number) * ways(all - hits, second - number) / ways(all, second))
            .sum()
    }

    #[test]
    fn fishers_test_is_exact() {
        // The lady tasting tea, with three and with four cups right: 17/70 and 1/70.
        near(fisher([1, 4], [3, 4]), 17.0 / 70.0);
        near(fisher([0, 4], [4, 4]), 1.0 / 70.0);
        for (first, second) in [(20, 30), (30, 20), (7, 7)] {
            for few in 0..=first.min(8) {
                for many in 0..=second.min(8) {
                    let found = fisher([few, first], [many, second]);
                    near(found, fisher_by_counting([few, first], [many, second]));
                }
            }
        }
        // None of ten against k of ten: only one way.
        near(fisher([0, 10], [10, 10]), 1.0 / 184_756.0);
    }

    #[test]
    fn it_holds_for_no_hits_nothing_at_all_and_millions() {
        for (one, other) in [([0, 0], [0, 0]), ([0, 9], [0, 9]), ([3, 9], [0, 9]), ([9, 9], [9, 9])] {
            near(fisher(one, other), 1.0);
        }
        let same = fisher([50_000, 1_000_000], [50_000, 1_000_000]);
        assert!((0.5..0.51).contains(&same), "{same}");
        assert!(fisher([50_000, 1_000_000], [52_000, 1_000_000]) < 1e-9);
        assert!(fisher([52_000, 1_000_000], [50_000, 1_000_000]) > 1.0 - 1e-9);
        // Three standard deviations, which the normal distribution gives 0.00135.
        let three = fisher([10_000, 1_000_000], [10_424, 1_000_000]);
        assert!((three - 0.001_35).abs() < 0.000_15, "{three}");
    }

    #[test]
    fn a_coin_is_fair() {
        near(at_most(0, 10), 1.0 / 1024.0);
        near(at_most(1, 10), 11.0 / 1024.0);
        near(at_most(5, 10), 638.0 / 1024.0);
        near(at_most(9, 10), 1023.0 / 1024.0);
        near(at_most(10, 10), 1.0);
        near(at_most(0, 0), 1.0);
        // 1.96 standard deviations below a half.
        let low = at_most(499_020, 1_000_000);
        assert!((low - 0.025).abs() < 0.0005, "{low}");
    }

    #[test]
    fn the_tails_of_chi_square_are_those_of_the_tables() {
        for (degrees, statistic, expected) in [
            (1.0, 3.841_458_820_694_124, 0.05),
            (1.0, 6.634_896_601_021_214, 0.01),
            (2.0, 5.991_464_547_107_979, 0.05),
            (9.0, 16.918_977_604_620_45, 0.05),
            (9.0, 27.877_164_871_256_57, 0.001),
            (100.0, 124.342_113_404_004_07, 0.05),
        ] {
            near(upper_gamma(degrees / 2.0, statistic / 2.0), expected);
        }
        near(upper_gamma(1.0, 400.0), (-400.0_f64).exp());
        near(upper_gamma(3.0, 0.0), 1.0);
    }

    #[test]
    fn the_gamma_function_is_that_of_factorials() {
        near(ln_gamma(11.0), 3_628_800.0_f64.ln());
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        near(ln_gamma(0.25), 3.625_609_908_221_908_f64.ln());
    }

    #[test]
    fn homogeneity_is_pearsons() {
        // By hand: expected 20 and 30 in each, (10² / 20 + 10² / 30) twice = 16.67.
        let found = homogeneity(&[[10, 30], [40, 20]]);
        near(found.association, (50.0_f64 / 3.0 / 100.0).sqrt());
        near(found.p_value, upper_gamma(0.5, 25.0 / 3.0));
        let apart = homogeneity(&[[50, 0], [0, 50]]);
        near(apart.association, 1.0);
        let alike = homogeneity(&[[500, 250], [300, 150], [200, 100]]);
        assert!(alike.association < 1e-9 && alike.p_value > 0.999, "{alike:?}");
    }

    #[test]
    fn rare_classes_go_together_and_nothing_says_nothing() {
        // Four rare classes, 2 in each sample, are one of 8.
        let rare = homogeneity(&[[50, 60], [2, 2], [2, 2], [2, 2], [2, 2]]);
        let one = homogeneity(&[[50, 60], [8, 8]]);
        assert_eq!(rare, one);
        // What is rare even together goes to the least of the others.
        assert_eq!(
            homogeneity(&[[50, 60], [30, 20], [1, 1]]),
            homogeneity(&[[50, 60], [31, 21]])
        );
        for rows in [&[][..], &[[0, 0]], &[[5, 0]], &[[100, 100]], &[[100, 100], [1, 0]]] {
            near(homogeneity(rows).p_value, 1.0);
        }
    }
}
