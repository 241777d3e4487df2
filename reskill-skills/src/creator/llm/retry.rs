//! When a call is tried again: exponential back-off with jitter, and what servers ask for.

use std::time::{Duration, SystemTime};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::creator::config::CreatorConfig;

/// Limits of retries.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts of one call, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt, before jitter.
    pub base: Duration,
    /// Longest wait.
    pub cap: Duration,
    /// Longest wait that a server may ask for.
    pub max_retry_after: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl RetryPolicy {
    /// The policy of a configuration.
    #[must_use]
    pub fn new(config: &CreatorConfig, seed: u64) -> Self {
        Self {
            max_attempts: config.max_attempts,
            base: Duration::from_secs_f64(config.retry_base_secs),
            cap: Duration::from_secs_f64(config.retry_cap_secs),
            max_retry_after: Duration::from_secs_f64(config.max_retry_after_secs),
            seed,
        }
    }

    /// The wait after attempt `attempt` (1, 2, ...) of a call: `min(cap, base * 2^(attempt - 1))` times a jitter in
    /// [0.5, 1) that depends on seed, call and attempt alone; or, if it is longer, what the server asked for. `None`: do
    /// not try again.
    #[must_use]
    pub fn delay(&self, call: &str, attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if attempt >= self.max_attempts || retry_after.is_some_and(|asked| asked > self.max_retry_after) {
            return None;
        }
        let doubled = self.base.saturating_mul(1_u32 << (attempt - 1).min(16)).min(self.cap);
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(attempt.to_le_bytes());
        hash.update(call.as_bytes());
        let jitter = ChaCha8Rng::from_seed(hash.finalize().into()).random_range(0.5..1.0);
        Some(doubled.mul_f64(jitter).max(retry_after.unwrap_or_default()))
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or an HTTP date (0 if it has passed).
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        let legal = seconds.is_finite() && (0.0..=1e9).contains(&seconds);
        return legal.then(|| Duration::from_secs_f64(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(3),
            max_retry_after: Duration::from_secs(60),
            seed: 7,
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_attempts_end() {
        let policy = policy();
        for (attempt, doubled) in [(1, 1.0), (2, 2.0), (3, 3.0)] {
            let wait = policy.delay("a", attempt, None).unwrap().as_secs_f64();
            assert!((doubled * 0.5..doubled).contains(&wait), "{attempt}: {wait}");
        }
        assert_eq!(policy.delay("a", 4, None), None);
    }

    #[test]
    fn jitter_is_the_same_for_the_same_call_and_differs_between_calls() {
        let policy = policy();
        assert_eq!(policy.delay("a", 1, None), policy.delay("a", 1, None));
        assert_ne!(policy.delay("a", 1, None), policy.delay("b", 1, None));
        assert_ne!(policy.delay("a", 1, None), RetryPolicy { seed: 8, ..policy.clone() }.delay("a", 1, None));
    }

    #[test]
    fn servers_are_waited_for_within_reason() {
        let policy = policy();
        assert_eq!(policy.delay("a", 1, Some(Duration::from_secs(20))), Some(Duration::from_secs(20)));
        assert_eq!(policy.delay("a", 1, Some(Duration::from_secs(61))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 784111777 seconds after 1970 is the example date of RFC 9110, section 5.6.7.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(90)),
            ("Sun Nov  6 08:49:37 1994", Some(90)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("-1", None),
            ("nan", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }
}
