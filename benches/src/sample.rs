//! Series of measurements and what is told of them.

use std::time::Duration;

/// Measurements of one thing, in one unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Adds one.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds one in milliseconds.
    pub(crate) fn push_time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which this share (0 to 1) of all lies, between neighbours in proportion; 0 without any.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
        let place = share.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor())
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let mut series = Series::default();
        assert_eq!(series.median(), 0.0);
        for value in [4.0, 1.0, 3.0, 2.0] {
            series.push(value);
        }
        assert_eq!((series.median(), series.quantile(0.0), series.quantile(1.0)), (2.5, 1.0, 4.0));
        series.push(100.0);
        assert_eq!((series.median(), series.len()), (3.0, 5));
    }
}
