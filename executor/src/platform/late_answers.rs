//! Questions whose answer may come late: who asks waits for a while, and has it when they ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long one is waited for who was slow the last time, or of whom an earlier answer will do.
pub const BRIEFLY: Duration = Duration::from_secs(2);

/// What is asked of each place and not answered yet.
#[derive(Debug)]
pub struct LateAnswers<P, A>(Mutex<State<P, A>>);

#[derive(Debug)]
struct State<P, A> {
    /// Questions that are open; their answers, and how long these took.
    open: BTreeMap<P, JoinHandle<(A, Duration)>>,
    slow: BTreeSet<P>,
}

impl<P, A> Default for LateAnswers<P, A> {
    fn default() -> Self {
        Self(Mutex::new(State { open: BTreeMap::new(), slow: BTreeSet::new() }))
    }
}

impl<P: Ord + Clone, A: Send + 'static> LateAnswers<P, A> {
    fn state(&self) -> MutexGuard<'_, State<P, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a place answers to this question, or to the one before where that is still open. Waits until it does, but only
    /// [`BRIEFLY`] where an earlier answer will do or the place was slow the last time; `None` when it has not answered by then.
    pub async fn ask(
        &self,
        place: P,
        earlier_will_do: bool,
        question: impl Future<Output = A> + Send + 'static,
    ) -> Option<A> {
        let (open, slow) = {
            let mut state = self.state();
            (state.open.remove(&place), state.slow.contains(&place))
        };
        let mut asked = open.unwrap_or_else(|| {
            tokio::spawn(async move {
                let began = Instant::now();
                (question.await, began.elapsed())
            })
        });
        let most = if earlier_will_do || slow { BRIEFLY } else { Duration::MAX };
        let answered = timeout(most, &mut asked).await;
        let mut state = self.state();
        let (answer, took) = match answered {
            Ok(Ok((answer, took))) => (Some(answer), took),
            // It panicked, or the runtime ends.
            Ok(Err(_)) => (None, Duration::MAX),
            Err(_) => {
                state.open.insert(place.clone(), asked);
                (None, Duration::MAX)
            }
        };
        match took > BRIEFLY {
            true => state.slow.insert(place),
            false => state.slow.remove(&place),
        };
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::sleep;

    /// Asks a place that takes so long and answers with how often it was asked; gives that, and how long it was waited for.
    async fn ask(
        answers: &LateAnswers<&'static str, u32>,
        times: &Arc<AtomicU32>,
        takes: u64,
        will_do: bool,
    ) -> (Option<u32>, u64) {
        let (began, times) = (Instant::now(), Arc::clone(times));
        let question = async move {
            let number = times.fetch_add(1, Ordering::Relaxed) + 1;
            sleep(Duration::from_secs(takes)).await;
            number
        };
        let answer = answers.ask("here", will_do, question).await;
        (answer, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_is_slow_is_waited_for_once_and_then_only_briefly() {
        let (answers, times) = (LateAnswers::default(), Arc::default());
        assert_eq!(ask(&answers, &times, 10, false).await, (Some(1), 10));
        assert_eq!(ask(&answers, &times, 10, false).await, (None, 2));
        // The same question is still open, and is not asked again.
        assert_eq!(ask(&answers, &times, 10, false).await, (None, 2));
        sleep(Duration::from_secs(10)).await;
        assert_eq!(ask(&answers, &times, 10, false).await, (Some(2), 0));
        // What came late does not make it quick.
        assert_eq!(ask(&answers, &times, 0, false).await, (Some(3), 0));
        assert_eq!(ask(&answers, &times, 5, false).await, (Some(4), 5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_whom_an_earlier_answer_will_do_is_waited_for_briefly() {
        let (answers, times) = (LateAnswers::default(), Arc::default());
        assert_eq!(ask(&answers, &times, 0, true).await, (Some(1), 0));
        assert_eq!(ask(&answers, &times, 3, true).await, (None, 2));
        assert_eq!(ask(&answers, &times, 3, true).await, (Some(2), 1));
        assert_eq!(ask(&answers, &times, 1, true).await, (Some(3), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn places_do_not_wait_for_one_another() {
        let answers = LateAnswers::<u8, u8>::default();
        let never = answers.ask(1, true, std::future::pending());
        let at_once = answers.ask(2, false, async { 7 });
        let began = Instant::now();
        let (none, seven) = tokio::join!(never, async { (at_once.await, began.elapsed()) });
        assert_eq!((none, seven), (None, (Some(7), Duration::ZERO)));
    }
}
