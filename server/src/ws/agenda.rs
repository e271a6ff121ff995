//! The request queue of a WebSocket: what a client waits for, in the order of responses. Every item gets one response.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::protocol::{Order, Wish, Word};
use bucket_streamer::OnDamage;
use bucket_streamer::pixels::Shape;

/// Number of items above which no more jobs are joined.
const JOINED: usize = 1024;

/// The frames of one message.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) wishes: VecDeque<Wish>,
    pub(super) order: Order,
    pub(super) shape: Shape,
    pub(super) quality: u8,
    pub(super) on_damage: OnDamage,
}

#[derive(Debug)]
enum Step {
    SetVideo(String),
    Job(Job),
}

/// The next step for the session.
#[derive(Debug)]
pub(super) enum Work {
    /// An item that gets no picture.
    Refuse(Wish, Word),
    SetVideo(String),
    /// A batch: items of one job.
    Portion(Portion),
    /// A message of the client was invalid.
    Complain(String),
    /// The queue is empty, and closed.
    End,
}

/// Items that are being answered.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) job: Job,
    cancels: u64,
    latest: u64,
}

/// The request queue; see the module.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    state: Mutex<State>,
    /// There is work.
    work: Notify,
    /// An item was answered, or work was taken.
    answered: Notify,
    /// The items in progress may be cancelled or superseded.
    turned: Notify,
}

#[derive(Debug, Default)]
struct State {
    steps: VecDeque<Step>,
    refused: VecDeque<(Wish, Word)>,
    complaints: VecDeque<String>,
    outstanding: usize,
    cancels: u64,
    latest: u64,
    is_closed: bool,
}

impl State {
    /// Refuses the items of queued jobs for which `is_meant` holds.
    fn refuse(&mut self, word: Word, is_meant: impl Fn(&Job) -> bool) {
        let State { steps, refused, .. } = self;
        for step in steps.iter_mut() {
            if let Step::Job(job) = step
                && is_meant(job)
            {
                refused.extend(job.wishes.drain(..).map(|wish| (wish, word)));
            }
        }
        steps.retain(|step| !matches!(step, Step::Job(job) if job.wishes.is_empty()));
    }

    /// The size of the queue, with items in progress and complaints.
    fn load(&self) -> usize {
        self.outstanding + self.steps.len() + self.complaints.len()
    }

    fn is_latest(step: &Step) -> bool {
        matches!(step, Step::Job(job) if job.order == Order::Latest)
    }

    /// Appends the next jobs to a job, if they are of the same kind: many clients send one frame in a message, and
    /// frames share decoding only within one batch.
    fn join(&mut self, job: &mut Job) {
        while job.wishes.len() < JOINED
            && let Some(Step::Job(next)) = self.steps.front_mut()
            && (job.order, next.order) == (Order::Fifo, Order::Fifo)
            && (next.shape, next.quality, next.on_damage) == (job.shape, job.quality, job.on_damage)
        {
            job.wishes.append(&mut next.wishes);
            self.steps.pop_front();
        }
    }

    fn behind_last_video(&self) -> usize {
        let last = self.steps.iter().rposition(|step| matches!(step, Step::SetVideo(_)));
        last.map_or(0, |last| last + 1)
    }
}

impl Agenda {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.work.notify_one();
    }

    pub(super) fn set_video(&self, path: String) {
        self.change(|state| state.steps.push_back(Step::SetVideo(path)));
    }

    pub(super) fn complain(&self, message: String) {
        self.change(|state| state.complaints.push_back(message));
    }

    /// Adds frames. Those of [`Order::Latest`] come first, but not before the video that they belong to.
    pub(super) fn ask(&self, job: Job) {
        self.change(|state| {
            state.outstanding += job.wishes.len();
            match job.order {
                Order::Fifo => state.steps.push_back(Step::Job(job)),
                Order::Latest => {
                    state.latest += 1;
                    state.refuse(Word::Superseded, |job| job.order == Order::Latest);
                    let place = state.behind_last_video();
                    state.steps.insert(place, Step::Job(job));
                }
            }
        });
        self.turned.notify_waiters();
    }

    /// Cancels all items.
    pub(super) fn cancel(&self) {
        self.change(|state| {
            state.cancels += 1;
            state.refuse(Word::Cancelled, |_| true);
        });
        self.turned.notify_waiters();
    }

    /// No more requests will come.
    pub(super) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    /// The next work; waits for it.
    pub(super) async fn next(&self) -> Work {
        loop {
            if let Some(work) = self.now() {
                self.answered.notify_one();
                return work;
            }
            self.work.notified().await;
        }
    }

    fn now(&self) -> Option<Work> {
        let mut state = self.lock();
        if let Some(message) = state.complaints.pop_front() {
            return Some(Work::Complain(message));
        }
        if let Some((wish, word)) = state.refused.pop_front() {
            return Some(Work::Refuse(wish, word));
        }
        let (cancels, latest) = (state.cancels, state.latest);
        match state.steps.pop_front() {
            Some(Step::SetVideo(path)) => Some(Work::SetVideo(path)),
            Some(Step::Job(mut job)) => {
                state.join(&mut job);
                Some(Work::Portion(Portion { job, cancels, latest }))
            }
            None => state.is_closed.then_some(Work::End),
        }
    }

    /// The reason why the rest of a batch is not wanted any more, if there is one.
    pub(super) fn stale(&self, portion: &Portion) -> Option<Word> {
        let state = self.lock();
        if state.cancels > portion.cancels {
            return Some(Word::Cancelled);
        }
        (portion.job.order == Order::Latest && state.latest > portion.latest).then_some(Word::Superseded)
    }

    /// Waits until a batch is cancelled.
    pub(super) async fn cancelled(&self, portion: &Portion) {
        loop {
            let turned = self.turned.notified();
            if self.stale(portion) == Some(Word::Cancelled) {
                return;
            }
            turned.await;
        }
    }

    /// Whether other work comes before the rest of a batch.
    pub(super) fn is_urgent(&self, portion: &Portion) -> bool {
        portion.job.order == Order::Fifo && self.lock().steps.front().is_some_and(State::is_latest)
    }

    /// Returns the rest of a batch to the queue, unless it is not wanted any more.
    pub(super) fn put_back(&self, portion: Portion) {
        let stale = self.stale(&portion);
        self.change(|state| match stale {
            _ if portion.job.wishes.is_empty() => {}
            Some(word) => state.refused.extend(portion.job.wishes.into_iter().map(|wish| (wish, word))),
            None => {
                let is_first = portion.job.order == Order::Latest;
                let urgent = state.steps.iter().take_while(|step| State::is_latest(step)).count();
                state.steps.insert(if is_first { 0 } else { urgent }, Step::Job(portion.job));
            }
        });
    }

    /// Notes that an item was answered.
    pub(super) fn answered(&self) {
        self.lock().outstanding -= 1;
        self.answered.notify_one();
    }

    /// Waits until the queue has fewer than `most` entries: unanswered items, and all others.
    pub(super) async fn has_room(&self, most: usize) {
        while self.lock().load() >= most.max(1) {
            self.answered.notified().await;
        }
    }

    /// The number of unanswered items.
    pub(super) fn outstanding(&self) -> usize {
        self.lock().outstanding
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Order, Wish};
    use super::{Agenda, Job, OnDamage, Word, Work};
    use crate::target::Target;
    use bucket_streamer::pixels::{Fit, Shape};

    fn job(order: Order, frames: std::ops::Range<u64>) -> Job {
        let wish = |frame: u64| Wish { index: frame as i64, offset: None, target: Ok(Target::Frame(frame)) };
        let shape = Shape { width: None, height: None, fit: Fit::Contain };
        Job { wishes: frames.map(wish).collect(), order, shape, quality: 80, on_damage: OnDamage::Flag }
    }

    /// All work in the queue, in short form.
    fn told(agenda: &Agenda) -> String {
        let mut told = Vec::new();
        while let Some(work) = agenda.now() {
            let names = |job: &Job| job.wishes.iter().map(|wish| wish.index.to_string()).collect::<Vec<_>>().join(",");
            told.push(match work {
                Work::Refuse(wish, word) => format!("{}:{}", wish.index, word.name()),
                Work::SetVideo(path) => format!("video {path}"),
                Work::Portion(portion) => format!("[{}]", names(&portion.job)),
                Work::Complain(message) => message,
                Work::End => break,
            });
        }
        told.join(" ")
    }

    #[test]
    fn in_the_order_of_asking() {
        let agenda = Agenda::default();
        agenda.ask(job(Order::Fifo, 0..3));
        agenda.set_video("b".into());
        agenda.ask(job(Order::Fifo, 3..4));
        agenda.ask(job(Order::Fifo, 4..6));
        agenda.ask(Job { quality: 10, ..job(Order::Fifo, 6..7) });
        agenda.ask(Job { on_damage: OnDamage::Error, ..job(Order::Fifo, 7..8) });
        agenda.ask(job(Order::Fifo, 8..9));
        assert_eq!((told(&agenda).as_str(), agenda.outstanding()), ("[0,1,2] video b [3,4,5] [6] [7] [8]", 9));
    }

    #[test]
    fn the_newest_first_and_what_it_replaces_is_answered() {
        let agenda = Agenda::default();
        agenda.ask(job(Order::Fifo, 0..1));
        agenda.ask(job(Order::Latest, 10..12));
        agenda.ask(job(Order::Latest, 20..21));
        assert_eq!(told(&agenda), "10:superseded 11:superseded [20] [0]");
        agenda.ask(job(Order::Fifo, 0..1));
        agenda.set_video("b".into());
        agenda.ask(job(Order::Fifo, 1..2));
        agenda.ask(job(Order::Latest, 30..31));
        assert_eq!(told(&agenda), "[0] video b [30] [1]", "not before its video");
    }

    #[test]
    fn what_is_at_work_becomes_stale() {
        let agenda = Agenda::default();
        agenda.ask(job(Order::Latest, 0..2));
        let Some(Work::Portion(portion)) = agenda.now() else { panic!("a portion") };
        assert_eq!(agenda.stale(&portion), None);
        agenda.ask(job(Order::Fifo, 5..6));
        assert_eq!(agenda.stale(&portion), None);
        agenda.ask(job(Order::Latest, 9..10));
        assert_eq!(agenda.stale(&portion), Some(Word::Superseded));
        agenda.put_back(portion);
        assert_eq!(told(&agenda), "0:superseded 1:superseded [9] [5]");
        agenda.ask(job(Order::Fifo, 0..2));
        let Some(Work::Portion(mut portion)) = agenda.now() else { panic!("a portion") };
        agenda.ask(job(Order::Fifo, 7..8));
        agenda.cancel();
        assert_eq!(agenda.stale(&portion), Some(Word::Cancelled));
        assert_eq!(told(&agenda), "7:cancelled");
        portion.job.wishes.clear();
        agenda.put_back(portion);
        assert_eq!(told(&agenda), "");
    }

    #[test]
    fn the_newest_waits_for_no_rest() {
        let agenda = Agenda::default();
        agenda.ask(job(Order::Fifo, 0..3));
        let Some(Work::Portion(mut portion)) = agenda.now() else { panic!("a portion") };
        portion.job.wishes.pop_front();
        assert!(!agenda.is_urgent(&portion));
        agenda.ask(job(Order::Latest, 9..10));
        assert!(agenda.is_urgent(&portion));
        agenda.put_back(portion);
        assert_eq!(told(&agenda), "[9] [1,2]");
    }

    #[tokio::test]
    async fn there_is_room_when_answers_have_gone_out() {
        let agenda = Agenda::default();
        agenda.ask(job(Order::Fifo, 0..2));
        // Two items and their job.
        let mut room = Box::pin(agenda.has_room(3));
        assert!(futures_util::poll!(&mut room).is_pending());
        agenda.answered();
        assert!(futures_util::poll!(&mut room).is_ready());
        drop(room);
        agenda.set_video(String::new());
        assert!(futures_util::poll!(Box::pin(agenda.has_room(3))).is_pending(), "videos count, too");
        agenda.close();
        assert!(matches!(agenda.next().await, Work::Portion(_)));
        assert!(matches!(agenda.next().await, Work::SetVideo(_)));
        assert!(matches!(agenda.next().await, Work::End));
    }
}
