//! Accuracy, loss, calibration, and what each class gets, from probabilities and labels. Pure.

use serde::Serialize;

use crate::predict::argmax;

/// Bins of the calibration error.
const CALIBRATION_BINS: usize = 15;
/// A probability of 0 for the right class would make the loss infinite.
const LEAST_PROBABILITY: f64 = 1e-12;

/// What a set of answers is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// Samples measured.
    pub samples: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error: how far confidence and accuracy are apart, over 15 bins of confidence, weighted by
    /// their samples (Naeini et al. 2015).
    pub calibration_error: f64,
    /// Mean F1 of the classes that have samples.
    pub macro_f1: f64,
    /// Each class.
    pub classes: Vec<ClassMetrics>,
    /// `confusion[actual][answered]`, in samples.
    pub confusion: Vec<Vec<usize>>,
}

/// What one class gets. A share is `null` where it has nothing to be a share of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// The class.
    pub class: String,
    /// Samples of the class.
    pub samples: usize,
    /// Share of the samples answered with this class that are of it.
    pub precision: Option<f64>,
    /// Share of the samples of this class that were answered with it.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
}

impl Measures {
    /// Of `probabilities`, `classes.len()` for each sample, and the class index of each sample.
    pub fn new(probabilities: &[f32], labels: &[u32], classes: &[String]) -> Self {
        let count = classes.len();
        let mut confusion = vec![vec![0_usize; count]; count];
        let mut loss = 0.0;
        let mut bins = vec![Bin::default(); CALIBRATION_BINS];
        for (answer, label) in probabilities.chunks_exact(count).zip(labels) {
            let actual = *label as usize;
            let answered = argmax(answer);
            confusion[actual][answered] += 1;
            loss -= f64::from(answer[actual]).max(LEAST_PROBABILITY).ln();
            let confidence = f64::from(answer[answered]);
            let bin = ((confidence * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
            bins[bin].samples += 1;
            bins[bin].confidence += confidence;
            bins[bin].correct += usize::from(answered == actual);
        }
        let samples = labels.len();
        let correct: usize = (0..count).map(|class| confusion[class][class]).sum();
        let calibration_error = bins
            .iter()
            .map(|bin| (bin.correct as f64 - bin.confidence).abs())
            .sum::<f64>()
            / samples as f64;
        let classes: Vec<ClassMetrics> = classes
            .iter()
            .enumerate()
            .map(|(index, class)| ClassMetrics::new(class, index, &confusion))
            .collect();
        let with_samples: Vec<f64> = classes
            .iter()
            .filter(|class| class.samples > 0)
            .map(|class| class.f1.unwrap_or(0.0))
            .collect();
        Self {
            samples,
            accuracy: correct as f64 / samples as f64,
            loss: loss / samples as f64,
            calibration_error,
            macro_f1: with_samples.iter().sum::<f64>() / with_samples.len() as f64,
            classes,
            confusion,
        }
    }

    /// The lowest recall of a class that has samples, with its name.
    pub fn worst_class(&self) -> Option<(&str, f64)> {
        self.classes
            .iter()
            .filter_map(|class| Some((class.class.as_str(), class.recall?)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl ClassMetrics {
    fn new(class: &str, index: usize, confusion: &[Vec<usize>]) -> Self {
        let right = confusion[index][index];
        let samples: usize = confusion[index].iter().sum();
        let answered: usize = confusion.iter().map(|row| row[index]).sum();
        let share = |of: usize| (of > 0).then(|| right as f64 / of as f64);
        Self {
            class: class.to_owned(),
            samples,
            precision: share(answered),
            recall: share(samples),
            f1: (samples + answered > 0).then(|| 2.0 * right as f64 / (samples + answered) as f64),
        }
    }
}

#[derive(Clone, Default)]
struct Bin {
    samples: usize,
    correct: usize,
    confidence: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn by_hand() {
        let classes = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        // Two of a (one taken for b), one of b.
        let probabilities = [0.8, 0.2, 0.0, 0.4, 0.6, 0.0, 0.1, 0.9, 0.0];
        let measures = Measures::new(&probabilities, &[0, 0, 1], &classes);
        close(measures.accuracy, 2.0 / 3.0);
        close(measures.loss, -(0.8_f64.ln() + 0.4_f64.ln() + 0.9_f64.ln()) / 3.0);
        // Each answer is alone in its bin: |1 - 0.8|, |0 - 0.6|, |1 - 0.9|.
        close(measures.calibration_error, (0.2 + 0.6 + 0.1) / 3.0);
        assert_eq!(measures.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert_eq!(measures.classes[0].precision, Some(1.0));
        assert_eq!(measures.classes[0].recall, Some(0.5));
        assert_eq!(measures.classes[1].precision, Some(0.5));
        assert_eq!(measures.classes[2].recall, None);
        close(measures.macro_f1, 2.0 / 3.0);
        assert_eq!(measures.worst_class(), Some(("a", 0.5)));
    }

    #[test]
    fn an_impossible_class_costs_much_and_not_everything() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let measures = Measures::new(&[0.0, 1.0], &[0], &classes);
        assert!(measures.loss > 20.0 && measures.loss.is_finite());
    }
}
