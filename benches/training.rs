//! The training loop against a plain burn-flex loop over the same batches: forward, loss, backward, Adam, nothing else.
//!
//! The two take turns in one process, so that a machine that slows down slows down both, and the median of the ratios is
//! what counts. Ours also reads loss and answers of every batch, and reports each; the look at the validation
//! split, which the plain loop does not have, is not counted. It fails when ours takes more than `MOST` times the plain
//! loop.
//!
//! `EMBERLINE_BENCH=short` runs fewer and smaller passes, to see that it runs at all: too few to judge by.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use emberline::bundle::Schedule;
use emberline::data::{Dataset, digits};
use emberline::model::{Architecture, ModelConfig, batch};
use emberline::preprocess::{Missing, Normalise, Preprocessing, Scaling, Schema};
use emberline::train::{Encoded, Order, Settings, fit};

const BATCH: usize = 128;
/// Slower than the plain loop by more than this, which is about what two runs of the same code differ by, is a failure.
const MOST: f64 = 1.05;

fn main() {
    let short = std::env::var("EMBERLINE_BENCH").is_ok_and(|form| form == "short");
    let (samples, validation, pairs) = if short { (12_800, 3_200, 3) } else { (48_000, 12_000, 9) };
    let training = encoded(samples, 1);
    let validation = encoded(validation, 2);
    let architecture = Architecture {
        model: ModelConfig::Mlp {
            hidden: vec![64, 64],
            dropout: 0.2,
        },
        input: vec![28, 28, 1],
        classes: 10,
    };
    let mut ratios: Vec<f64> = Vec::new();
    let (mut ours_best, mut plain_best) = (f64::MAX, f64::MAX);
    for pair in 0..=pairs {
        let ours = ours(&architecture, &training, &validation);
        let plain = time(|| plain(&architecture, &training));
        // The first pair fills caches and starts threads.
        if pair > 0 {
            ratios.push(ours / plain);
            ours_best = ours_best.min(ours);
            plain_best = plain_best.min(plain);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    report(&format!(
        "training, one pass of {samples}: ours {ours_best:.3} s, plain {plain_best:.3} s at best; ratio {median:.3} \
         (median of {pairs}, {:.3} to {:.3}), at most {MOST}",
        ratios[0],
        ratios[ratios.len() - 1]
    ));
    assert!(
        short || median <= MOST,
        "the training loop takes {median:.3} times the plain one"
    );
}

fn encoded(count: usize, seed: u64) -> Encoded {
    let digits = digits::draw(count, seed);
    let schema = Schema::Image {
        height: digits::SIDE,
        width: digits::SIDE,
        channels: 1,
    };
    let data = Dataset {
        schema: schema.clone(),
        values: digits.pixels.iter().map(|pixel| f32::from(*pixel)).collect(),
        labels: digits.labels.iter().map(|label| u32::from(*label)).collect(),
        classes: (0..10).map(|class| class.to_string()).collect(),
    };
    let preprocessing = Preprocessing {
        normalise: Normalise::Unit,
        missing: Missing::Error,
        scaling: vec![Scaling {
            scale: 1.0 / 255.0,
            ..Scaling::IDENTITY
        }],
    };
    Encoded::new(&data, &schema, &preprocessing).expect("digits are images")
}

/// Seconds of a pass, validation not counted.
fn ours(architecture: &Architecture, training: &Encoded, validation: &Encoded) -> f64 {
    let settings = Settings {
        epochs: 1,
        batch_size: BATCH,
        learning_rate: 0.001,
        schedule: Schedule::Constant,
        seed: 1,
    };
    let outcome = fit(
        architecture,
        training,
        validation,
        &settings,
        &Device::flex(),
        &mut |_| {},
        &AtomicBool::new(false),
    );
    let epoch = &outcome.expect("trained").expect("a whole pass").epochs[0];
    training.len() as f64 / epoch.samples_per_second
}

/// As one would write it by the book.
fn plain(architecture: &Architecture, training: &Encoded) {
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut model = architecture.init(&device);
    let mut optimiser = AdamConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    for rows in Order::new(training.len(), 1).batches(BATCH) {
        let inputs = batch(training.gather(rows), training.width(), &device);
        let labels = training.gather_labels(rows);
        let targets = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows.len()]), &device);
        let loss = loss.forward(model.forward(inputs), targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimiser.step(0.001, model, gradients);
    }
    assert!(model.num_params() > 0);
}

fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

#[allow(clippy::print_stdout)] // a bench reports on stdout
fn report(line: &str) {
    println!("{line}");
}
