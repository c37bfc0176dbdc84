#![allow(clippy::unwrap_used)]

use super::super::ingest::SPLITS_PER_WORKER;
use super::*;

const SPLITS: u32 = 1000;

/// Log-normal costs, the same in each run: the largest is some fifteen means.
fn mixed_costs(seed: u64, sigma: f64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut normal = || {
        let (a, b) = (1.0 - rng.f64(), rng.f64());
        (-2.0 * f64::ln(a)).sqrt() * f64::cos(std::f64::consts::TAU * b)
    };
    (0..SPLITS).map(|_| (sigma * normal()).exp()).collect()
}

/// Hands the splits out to workers that take as long for each as it costs, in
/// virtual time; the largest worker's share of the cost over the mean.
fn largest_share(
    splits: &[Assignment],
    costs: &[f64],
    workers: usize,
    capability: Capability<Epoch>,
) -> f64 {
    let plan = Assign {
        splits: splits.to_vec(),
        epoch_bytes: u64::MAX,
        epoch_duration: Duration::from_secs(3600),
        cancelled: Arc::default(),
    };
    let mut done = vec![0.0; workers];
    let mut in_hand: Vec<VecDeque<f64>> = vec![VecDeque::new(); workers];
    let mut hand_out = HandOut::new(plan, Some(capability));
    for worker in 0..workers {
        for _ in 0..SPLITS_PER_WORKER {
            hand_out.ask(Request::Next { worker });
        }
    }
    loop {
        hand_out.step(|_, worker, split| in_hand[worker].push_back(costs[split.split as usize]));
        // No worker is idle before its end, so what it has done is its clock.
        let ends = |worker: &usize| done[*worker] + in_hand[*worker][0];
        let busy = (0..workers).filter(|worker| !in_hand[*worker].is_empty());
        let Some(worker) = busy.min_by(|a, b| ends(a).total_cmp(&ends(b))) else {
            break;
        };
        done[worker] += in_hand[worker].pop_front().unwrap();
        hand_out.ask(Request::Next { worker });
    }
    let sum: f64 = done.iter().sum();
    assert!((sum - costs.iter().sum::<f64>()).abs() < 1e-6 * sum);
    done.iter().copied().fold(0.0, f64::max) / (sum / workers as f64)
}

/// Runs `test` with capabilities such as the operator is given.
fn with_capability(test: impl FnOnce(Capability<Epoch>) + Send + Sync + 'static) {
    timely::execute_directly(move |worker| {
        worker.dataflow::<Epoch, _, _>(|scope| {
            let mut builder = OperatorBuilder::new("test".to_owned(), scope);
            let (_output, _stream) = builder.new_output::<Vec<()>>();
            builder.build(|mut capabilities| {
                test(capabilities.pop().unwrap());
                |_| {}
            });
        });
    });
}

/// 1,000 splits of mixed cost, known only by estimates that are wrong by a third:
/// the longest first, no worker has more than 1.05 of the mean. In the plan's
/// order, the control, a large split that comes last spoils it.
#[test]
fn shares_of_mixed_splits_are_even() {
    with_capability(|capability| {
        let (mut worst_longest, mut worst_planned) = (0.0_f64, 0.0_f64);
        for workers in [2, 4, 8, 16] {
            let (mut longest, mut planned) = (0.0_f64, 0.0_f64);
            for seed in 0..10 {
                let costs = mixed_costs(seed, 1.0);
                let errors = mixed_costs(seed + 100, 0.3);
                let estimates = costs.iter().zip(errors).map(|(cost, error)| cost * error);
                let mut splits: Vec<Assignment> = estimates
                    .zip(0..)
                    .map(|(estimate, split)| Assignment {
                        table: 0,
                        split,
                        estimated_bytes: (estimate * 1e6) as u64,
                    })
                    .collect();
                planned = planned.max(largest_share(&splits, &costs, workers, capability.clone()));
                longest_first(&mut splits);
                longest = longest.max(largest_share(&splits, &costs, workers, capability.clone()));
            }
            println!("{workers} workers: {planned:.3} in order, {longest:.3} longest first");
            worst_longest = worst_longest.max(longest);
            worst_planned = worst_planned.max(planned);
        }
        assert!(worst_longest <= 1.05, "{worst_longest}");
        assert!(worst_planned > 1.05, "{worst_planned}");
    });
}
