//! A stop for HiGHS by what it has done, which is the same on every machine, as seconds are not.

#![expect(unsafe_code, reason = "HiGHS calls back through C")]

use std::ffi::{c_char, c_int, c_void};

use highs::Model;
use highs_sys::{
    Highs_setCallback, Highs_startCallback, HighsCallbackDataIn, HighsCallbackDataOut, STATUS_OK,
    kHighsCallbackMipInterrupt,
};

/// So much may be done: simplex iterations, of all programs that are solved on the way, and nodes of the tree.
#[derive(Debug)]
pub(super) struct Stop(i64);

impl Stop {
    /// After so many steps.
    pub(super) fn after(steps: u64) -> Self {
        Self(i64::try_from(steps).unwrap_or(i64::MAX))
    }

    /// Has a model's solver ask before it goes on, wherever it looks at its limits. The stop has to stay where it is for as long as the
    /// model, or what is made of it, is used.
    ///
    /// # Errors
    /// What HiGHS says instead.
    pub(super) fn watch(&self, model: &mut Model) -> Result<(), c_int> {
        let most = (&raw const self.0).cast_mut().cast::<c_void>();
        // SAFETY: the model is one that HiGHS made and nobody else uses. `look` has the type that HiGHS calls, and reads `most` alone.
        let set = unsafe { Highs_setCallback(model.as_mut_ptr(), Some(look), most) };
        // SAFETY: as above; the kind is one that HiGHS knows.
        let started = unsafe { Highs_startCallback(model.as_mut_ptr(), kHighsCallbackMipInterrupt) };
        [set, started].into_iter().find(|status| *status != STATUS_OK).map_or(Ok(()), Err)
    }
}

/// What HiGHS calls.
unsafe extern "C" fn look(
    _kind: c_int,
    _message: *const c_char,
    done: *const HighsCallbackDataOut,
    answer: *mut HighsCallbackDataIn,
    most: *mut c_void,
) {
    // SAFETY: HiGHS hands its own for the time of the call, or nothing; the last is a number of a stop that `watch` was called on.
    let (done, answer, most) =
        unsafe { (done.as_ref(), answer.as_mut(), most.cast_const().cast::<i64>().as_ref()) };
    if let (Some(done), Some(answer), Some(most)) = (done, answer, most) {
        let steps = done.mip_total_lp_iterations.saturating_add(done.mip_node_count);
        answer.user_interrupt = c_int::from(steps >= *most);
    }
}
