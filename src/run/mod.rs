//! One run, from configuration to report (to come).
