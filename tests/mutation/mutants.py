"""The mutants of the library: each removes or weakens one protection.

source() names the file of the mutants behind it, and the tests that concern
them: the one that is likely to notice most comes first. mutant() replaces
`old`, which stands once in the file, or is meant where it stands first behind
`at`, by `new`. `tests` come before those of the file. `same` says why no test
can notice the mutant.

Each change stands for a mistake that somebody could make: a wake-up left out, a
look that is not repeated, a bound that is dropped, an error that is swallowed,
two steps in the wrong order.
"""

import collections

Mutant = collections.namedtuple(
    "Mutant", "name path old new what at tests same")

MUTANTS = []
_path = ""
_tests = ()


def source(path, *tests):
    global _path, _tests
    _path = "tcpip/" + path
    _tests = tests


def mutant(name, old, new, what, at="", tests=(), same=None):
    stem = _path.rsplit("/", 1)[1].split(".")[0]
    wanted = tuple(tests) + tuple(t for t in _tests if t not in tests)
    MUTANTS.append(
        Mutant(f"{stem}/{name}", _path, old, new, what, at, wanted, same))


# --- The queue of callbacks ---

source("callback_queue.cc", "callback_queue_test", "callback_thread_test",
       "base_client_or_server_test", "shutdown_test")
mutant("post_without_bound",
       "if (!may_post(owner) || posted_ >= max_size_) {",
       "if (!may_post(owner)) {",
       "the bound of the queue, in post()")
mutant("post_one_more",
       "posted_ >= max_size_) {", "posted_ > max_size_) {",
       "the bound of the queue is one too large")
mutant("post_after_cancel",
       "if (!may_post(owner) || posted_ >= max_size_)",
       "if (posted_ >= max_size_)",
       "the refusal of a cancelled owner's post()")
mutant("post_wait_after_cancel",
       "Waiter waiter{owner, !may_post(owner)};", "Waiter waiter{owner, false};",
       "the refusal of a cancelled owner's post_wait()")
mutant("waiter_is_not_known",
       "waiters_.push_back(&waiter);", "",
       "a waiting post_wait() is known to cancel()")
mutant("waiter_stays_known",
       "std::erase(waiters_, &waiter);", "",
       "a post_wait() that has ended is taken out of the list", same=
       "closing then writes to a stack frame that is gone, which is harmless "
       "here; the lane with ASan notices it")
mutant("post_wait_one_more",
       "return waiter.cancelled || posted_ < max_size_;",
       "return waiter.cancelled || posted_ <= max_size_;",
       "the bound of the queue, in post_wait(), is one too large")
mutant("cancelled_waiter_posts",
       "if (result == WaitResult::kReady && !waiter.cancelled) {",
       "if (result == WaitResult::kReady) {",
       "a cancelled post_wait() posts nothing")
mutant("post_wait_timeout_is_cancelled",
       'if (result == WaitResult::kTimeout) throw TimeoutError("post_wait");',
       "", "post_wait() tells a deadline from a stop")
mutant("events_count",
       "event.front().is_event = true;", "",
       "connection events do not count for the bound")
mutant("event_after_close",
       "if (closed_ || !owners_.contains(owner)) return false;",
       "if (!owners_.contains(owner)) return false;",
       "a closed queue takes no event")
mutant("event_after_cancel",
       "if (closed_ || !owners_.contains(owner)) return false;",
       "if (closed_) return false;",
       "a cancelled owner's events are refused")
mutant("run_pending_is_no_drainer",
       "drainer_ = this_thread_number();", "",
       "retire() knows the thread that calls run_pending()",
       at="std::size_t CallbackQueue::Impl::run_pending() {")
mutant("run_pending_without_end",
       "last = last_ticket_;", "last = kNoTicket;",
       "run_pending() leaves what its callbacks post",
       at="std::size_t CallbackQueue::Impl::run_pending() {")
mutant("run_pending_leaves_last",
       "queue_.front().ticket > last) return count",
       "queue_.front().ticket >= last) return count",
       "run_pending() runs the last callback too")
mutant("run_one_swallows_stop",
       'if (next == Next::kStopped) throw CancelledError("run_one");', "",
       "run_one() reports the stop")
mutant("run_until_forgets_what_was_queued",
       "last = last_ticket_;", "",
       "a late run_until() runs what was queued before",
       at="std::size_t CallbackQueue::Impl::run_until(")
mutant("run_until_past_deadline",
       "if (queue_.front().ticket > last && wait.deadline.has_passed()) {",
       "if (false) {",
       "run_until() ends at the deadline while callbacks come")
mutant("run_until_needs_no_deadline",
       "if (queue_.front().ticket > last && wait.deadline.has_passed()) {",
       "if (queue_.front().ticket > last) {",
       "run_until() runs what comes before the deadline")
mutant("run_next_not_woken_by_close",
       "return !queue_.empty() || closed_; });",
       "return !queue_.empty(); });",
       "a thread that waits for callbacks sees that the queue is closed")
mutant("run_next_ignores_stop",
       "if (result == WaitResult::kStopped) return Next::kStopped;", "",
       "the stop wins over what is queued")
mutant("run_next_on_empty_queue",
       "if (queue_.empty()) return Next::kNothing;", "",
       "a wait that ends without a callback runs none")
mutant("drainer_not_noted_before_wait",
       "drainer_ = this_thread_number();", "",
       "retire() knows a thread that waits for callbacks",
       at="CallbackQueue::Impl::Next CallbackQueue::Impl::run_next(")
mutant("drainer_not_noted_after_wait",
       "drainer_ = this_thread_number();\n    item", "item",
       "retire() knows the thread that has drained last",
       at="// Again: another thread may have drained")
mutant("throwing_callback_never_ends",
       "finish(item);\n    throw;", "throw;",
       "a callback that throws counts as ended")
mutant("callback_destroyed_late",
       "item->callback = nullptr;", "",
       "what a callback holds is destroyed without the lock",
       at="void CallbackQueue::Impl::finish(")
mutant("callback_destroyed_after_its_end",
       "item->callback = nullptr;\n  const MutexLock lock(mutex_);\n"
       "  if (cancelling_ > 0) ThreadWait::end(&*item);\n"
       "  running_.erase(item);\n  changed();",
       "Items gone; { const MutexLock lock(mutex_); "
       "if (cancelling_ > 0) ThreadWait::end(&*item); "
       "gone.splice(gone.end(), running_, item); changed(); }",
       "a callback counts as running until it is destroyed")
mutant("end_of_callback_not_in_table",
       "if (cancelling_ > 0) ThreadWait::end(&*item);", "",
       "the table of waits is told that a callback has ended")
mutant("end_of_callback_wakes_nobody",
       "running_.erase(item);\n  changed();", "running_.erase(item);",
       "cancel() is woken by the end of a callback")
mutant("cancel_does_not_wait",
       "wait_for_running(owner);", "",
       "cancel() waits for callbacks that run",
       at="void CallbackQueue::Impl::cancel(OwnerNumber owner) {")
mutant("cancel_waits_before_dropping",
       "drop(owner);\n  wait_for_running(owner);",
       "wait_for_running(owner);\n  drop(owner);",
       "cancel() first drops what is queued, then waits")
mutant("cancel_ignores_drop_all",
       "if (item->owner == owner || item->owner == kEverybody) {",
       "if (item->owner == owner) {",
       "cancel() waits for another thread's drop_all()")
mutant("cancel_waits_for_itself",
       "if (wait.is_allowed()) {\n        wait_until_finished",
       "if (true) {\n        wait_until_finished",
       "cancel() does not wait for a thread that waits for it")
mutant("cancel_waits_for_one",
       "item = running_.begin();\n        continue;", "break;",
       "cancel() waits for all callbacks that run")
mutant("drop_forgets_retiring",
       "dropped.swap(place->second.retiring);", "",
       "what a retire() has not run yet is dropped without the lock")
mutant("cancelled_owner_stays",
       "owners_.erase(place);", "",
       "a cancelled owner may post no more")
mutant("drop_leaves_waiters",
       "cancel_waiters(owner);\n    const auto place", "const auto place",
       "cancel() ends a waiting post_wait()")
mutant("drop_leaves_queued",
       "take_all_of(owner, place->second.queued, dropped);", "",
       "cancel() drops what the owner has queued")
mutant("dropping_wakes_nobody",
       "changed();\n  return mark_running(items, items.begin());",
       "return mark_running(items, items.begin());",
       "the room that cancel() makes wakes a post_wait(); wait_fd() tells")
mutant("drop_ends_before_destruction",
       "others.clear();\n  finish(first);", "finish(first);\n  others.clear();",
       "what cancel() drops counts as running until it is destroyed")
mutant("refuse_leaves_post",
       "if (place != owners_.end()) place->second.may_post = false;", "",
       "a closed server or client posts no more")
mutant("refuse_leaves_waiters",
       "place->second.may_post = false;\n  cancel_waiters(owner);",
       "place->second.may_post = false;",
       "close() ends a waiting post_wait()")
mutant("retire_in_any_thread",
       "drainer_ == self &&\n", "",
       "only the thread that drains runs callbacks in close()")
mutant("retire_inside_callback",
       "return i.owner == owner && i.thread == self;", "return false;",
       "close() in a callback runs no others")
mutant("retire_clears_no_fd",
       "place->second.retiring);\n      changed();",
       "place->second.retiring);",
       "wait_fd() tells that close() has emptied the queue")
mutant("retire_stops_at_failure",
       "if (!failure) failure = std::current_exception();",
       "if (!failure) failure = std::current_exception();\n      break;",
       "close() runs all callbacks, even if one throws")
mutant("retire_throws_last_failure",
       "if (!failure) failure = std::current_exception();",
       "failure = std::current_exception();",
       "the first exception reaches the caller")
mutant("retire_swallows_failure",
       "if (failure) std::rethrow_exception(failure);", "",
       "an exception in close()'s callbacks reaches the caller")
mutant("retire_does_not_cancel",
       "cancel(owner);\n  if (failure)", "if (failure)",
       "close() drops what is still queued and waits")
mutant("retire_does_not_refuse",
       "refuse_posts(owner);\n  bool may_run", "bool may_run",
       "close() refuses posts before it runs callbacks")
mutant("close_leaves_open",
       "closed_ = true;\n  for (Waiter", "for (Waiter",
       "a closed queue takes nothing")
mutant("close_leaves_waiters",
       "for (Waiter* const waiter : waiters_) waiter->cancelled = true;", "",
       "closing ends a waiting post_wait()")
mutant("close_wakes_nobody",
       "waiter->cancelled = true;\n  changed();",
       "waiter->cancelled = true;",
       "closing wakes the dispatcher and those that wait for room")
mutant("drop_all_leaves_count",
       "posted_ = 0;\n    for (auto&", "for (auto&",
       "drop_all() makes room", same=
       "drop_all() is called only for a queue that is closed: it takes nothing "
       "any more, so its room does not matter")
mutant("drop_all_is_nobodys",
       "dropped.front().owner = kEverybody;", "",
       "cancel() waits for another thread's drop_all()")
mutant("wait_fd_late",
       "if (readable_) waker_.signal();", "",
       "wait_fd() is readable if the queue was not empty before it was made")
mutant("events_fill_queue",
       "if (!item.front().is_event) ++posted_;", "++posted_;",
       "connection events do not count for the bound")
mutant("enqueue_wakes_nobody",
       "enqueue(item, owner);\n  changed_.notify_all();\n  return true;",
       "enqueue(item, owner);\n  return true;",
       "a posted callback wakes the thread that waits for it")
mutant("event_wakes_nobody",
       "void EventOwner::wake() noexcept { impl_->wake(); }",
       "void EventOwner::wake() noexcept {}",
       "an event wakes the thread that waits for it")
mutant("enqueue_is_not_readable",
       "queue_.size());\n  show_whether_readable();", "queue_.size());",
       "wait_fd() is readable when something is queued")
mutant("start_wakes_nobody",
       "taken.end());\n  changed();", "taken.end());",
       "a callback that is taken makes room and clears wait_fd()")
mutant("room_is_not_given_back",
       "if (!queued->is_event) --posted_;", "",
       "a callback that is taken out makes room")
mutant("events_make_room",
       "if (!queued->is_event) --posted_;", "--posted_;",
       "a connection event that is taken out makes no room")
mutant("thread_not_noted",
       "item->thread = this_thread_number();", "",
       "a running callback is known by its thread")
mutant("take_of_all_owners",
       "if (item->owner != owner) continue;", "",
       "cancel() drops only the owner's callbacks")
mutant("take_backwards",
       "unlink(found, taken, taken.begin());",
       "unlink(found, taken, taken.end());",
       "close() runs the object's callbacks in their order")
mutant("queued_is_not_counted_down",
       "if (queued->of_owner != nullptr) --*queued->of_owner;", "",
       "an owner does not look for callbacks that have run")
mutant("drop_all_leaves_queued",
       "for (auto& [number, state] : owners_) state.queued = 0;", "",
       "an owner does not look for callbacks that drop_all() has taken")
mutant("fd_stays_readable",
       "waker_.clear();\n    }", "}",
       "wait_fd() is not readable when the queue is empty")
mutant("fd_not_signalled",
       "waker_.signal();\n    } else {", "} else {",
       "wait_fd() is readable when something is queued")
mutant("changed_notifies_nobody",
       "show_whether_readable();\n  changed_.notify_all();\n}",
       "show_whether_readable();\n}",
       "every change wakes those that wait")
mutant("cancel_all_waiters",
       "if (waiter->owner == owner) waiter->cancelled",
       "waiter->cancelled",
       "cancel() ends only the owner's post_wait()")
mutant("cancel_waiters_wakes_nobody",
       "changed_.notify_all();\n}\n\nbool CallbackQueue::Impl::may_post",
       "}\n\nbool CallbackQueue::Impl::may_post",
       "a cancelled post_wait() is woken")
mutant("may_post_when_closed",
       "if (closed_) return false;\n  if (owner", "if (owner",
       "a closed queue refuses posts")
mutant("may_post_when_refused",
       "return place != owners_.end() && place->second.may_post;",
       "return place != owners_.end();",
       "an owner that refuses posts takes none")
mutant("destructor_leaves_open",
       "impl_->close();\n  impl_->drop_all();", "impl_->drop_all();",
       "an Owner that outlives the queue is as a cancelled one")
mutant("destructor_leaves_queued",
       "impl_->close();\n  impl_->drop_all();", "impl_->close();",
       "the queue's destructor drops what is queued")
mutant("child_cancels",
       "if (impl_->process.is_here()) {\n    impl_->cancel(number_);",
       "if (true) {\n    impl_->cancel(number_);",
       "an Owner's destructor does not wait in a forked child",
       tests=["fork_test"])
mutant("child_drops",
       "if (!impl_->process.is_here()) {\n    internal::keep_for_ever(impl_);\n"
       "    return;", "if (false) {\n    return;",
       "the queue's destructor takes no lock in a forked child",
       tests=["fork_test"])
mutant("post_in_child",
       'impl_->process.check("post");', "",
       "post() throws in a forked child", tests=["fork_test"],
       at="bool CallbackQueue::post(")
mutant("drain_ends_at_failure",
       "log_failure(log, internal::what_of(e));",
       "log_failure(log, internal::what_of(e));\n      return;",
       "the dispatcher goes on after a callback that throws")
mutant("drain_swallows_failure",
       "log_failure(log, internal::what_of(e));", "static_cast<void>(e);",
       "what a callback throws is logged")
mutant("empty_callback_is_taken",
       "if (callback) return;\n  throw", "return;\n  throw",
       "an empty callback is refused")

source("callback_thread.cc", "callback_thread_test", "shutdown_test")
mutant("close_does_not_close_queue",
       "internal::QueueThread::close(queue);", "",
       "close() ends the thread")
mutant("close_does_not_join",
       "if (!workers.join()) internal", "if (false) internal",
       "close() waits for the thread")
mutant("close_leaves_queued",
       "if (!workers.join()) internal::QueueThread::drop_all(queue);",
       "workers.join();",
       "close() in a callback drops the callbacks behind it")
mutant("child_closes",
       "if (impl->process.is_here()) {\n    impl->close();",
       "if (true) {\n    impl->close();",
       "the destructor does nothing in a forked child", tests=["fork_test"])

# --- The core of servers and clients ---

source("endpoint/endpoint_core.cc", "endpoint_core_test",
       "one_client_server_test", "base_client_or_server_test", "one_client_read_loop_server_test",
       "shutdown_test", "connection_test", "client_test", "link_test",
       "last_message_test")
mutant("number_stays",
       "*current_number_ = 0;", "", "a SendQueue sees that the connection has ended",
       tests=["send_queue_test"])
mutant("unread_without_kernel",
       "return receivable + static_cast<std::size_t>(link.receiver->unread());",
       "return static_cast<std::size_t>(link.receiver->unread());",
       "bytes in the kernel are unread too")
mutant("unread_without_buffer",
       "return receivable + static_cast<std::size_t>(link.receiver->unread());",
       "return receivable;", "buffered bytes are unread too")
mutant("drained_during_read",
       "!link.receiver->is_reading() && link.receiver->unread() == 0;",
       "link.receiver->unread() == 0;",
       "the connection does not end while a read takes its last bytes",
       tests=["last_message_test", "connection_test"])
mutant("drained_with_unread",
       "!link.receiver->is_reading() && link.receiver->unread() == 0;",
       "!link.receiver->is_reading();",
       "the connection does not end before its last bytes are read",
       tests=["last_message_test"])
mutant("drained_before_end",
       "return (link.receiver->has_ended() || link.socket->at_end()) &&",
       "return",
       "the connection does not end while the kernel holds bytes",
       tests=["last_message_test"])
mutant("drained_only_by_reads",
       "return (link.receiver->has_ended() || link.socket->at_end()) &&",
       "return link.receiver->has_ended() &&",
       "the connection of a peer that has gone ends without a read")
mutant("writes_forget_loss",
       "return error.value();\n  }\n  return reason", "}\n  return reason",
       "a blocked write reports what has broken the connection",
       at="int error_for_writes(")
mutant("writes_after_fin_say_closed_here",
       "return reason == DisconnectReason::kPeerClosed ? EPIPE : 0;",
       "return 0;", "a blocked write reports that the peer has closed")
mutant("stop_callback_not_counted",
       "++stop_callbacks;\n  stop.request_stop();\n  --stop_callbacks;",
       "stop.request_stop();",
       "close() in a stop callback does not wait",
       tests=["shutdown_test", "connection_test"])
mutant("refused_link_not_closed",
       "Link::~Link() { sender->close(); }", "Link::~Link() {}",
       "a Link that was never admitted closes its socket", same=
       "nothing else holds the socket of such a Link: the descriptor is closed "
       "with it")
mutant("event_stays_counted",
       "if (is_counted) core_->event_is_gone();", "",
       "an event that has run is counted no more",
       tests=["base_client_or_server_test"])
mutant("uncounted_event_is_gone",
       "if (is_counted) core_->event_is_gone();", "core_->event_is_gone();",
       "an event that was never queued is not counted")
mutant("no_stop_at_end",
       "request_stop(link->record->stop);", "",
       "the connection's stop token tells of its end")
mutant("end_notifies_nobody",
       "core.changed_.notify_all();\n    if (caller", "if (caller", "the end of a connection wakes those that wait")
mutant("end_wakes_nobody",
       "if (caller != Caller::kWatchingThread) core.waker_.signal();", "",
       "the end of a connection wakes the watching thread")
mutant("dropped_bytes_not_logged",
       "if (unread > 0) {", "if (false) {",
       "unread bytes that are dropped are logged")
mutant("worker_end_notifies_nobody",
       "const MutexLock lock(mutex_);\n        changed_.notify_all();", "",
       "wait_done() is woken by the end of a thread")
mutant("worker_end_without_lock",
       "const MutexLock lock(mutex_);\n        changed_.notify_all();",
       "changed_.notify_all();",
       "the end of a thread is told under the lock", same=
       "the window is between wait_done()'s look at the workers and its wait, "
       "which no test can stop in; the condition variable's own check has it "
       "in TSan only")
mutant("limit_of_zero",
       "if (config_.limit == 0) {", "if (false) {", "a limit of 0 is refused")
mutant("host_gone_is_reset",
       "return DisconnectReason::kTimedOut;", "return DisconnectReason::kReset;",
       "a time-out of the connection is told from a reset",
       tests=["connection_test"])
mutant("broken_pipe_is_reset",
       "case EPIPE:\n      return DisconnectReason::kPeerClosed;",
       "case EPIPE:\n      return DisconnectReason::kReset;",
       "a write after the peer's end is told from a reset")
mutant("start_after_close",
       'if (closing_) throw std::logic_error("start() called after close()");',
       "", "start() after close() is refused")
mutant("start_twice",
       'if (started_) throw std::logic_error("start() called twice");', "",
       "a second start() is refused")
mutant("dispatcher_after_close",
       "if (closing_) return;\n    own_queue_", "own_queue_",
       "close() during start() leaves no queue behind")
mutant("work_destroyed_late",
       "const auto once = std::exchange(work, nullptr);\n        once(*self);",
       "work(*self);",
       "what the work of a thread holds is destroyed before the thread has "
       "ended")
mutant("start_closed_says_nothing",
       'if (!started) throw_connection_error(ENOTCONN, "start", config_.name);',
       "static_cast<void>(started);", "start() reports that close() came first")
mutant("close_leaves_connection",
       "end_here(keep_should_be_connected, *ended);\n    closing_ = true;",
       "closing_ = true;", "close() ends the connection")
mutant("close_leaves_open",
       "closing_ = true;\n    // Set together", "// Set together",
       "close() says that the object is closing")
mutant("ending_not_noted",
       "if (waits) ending_ = true;", "",
       "wait_done() waits for a close() that waits")
mutant("close_leaves_posts",
       "if (callbacks) callbacks->refuse_posts();", "",
       "close() ends a post_wait() of the read handler")
mutant("close_leaves_queue",
       "if (own_queue != nullptr) QueueThread::close(*own_queue);", "",
       "close() ends the dispatcher")
mutant("close_starts_threads",
       "workers_.refuse();\n  waker_.signal();", "waker_.signal();",
       "no thread is started once close() was called")
mutant("close_wakes_no_thread",
       "waker_.signal();\n  changed_.notify_all();\n}\n\n"
       "void EndpointCore::wait_until_ended",
       "changed_.notify_all();\n}\n\nvoid EndpointCore::wait_until_ended",
       "close() wakes the accept thread or monitor thread")
mutant("close_notifies_nobody",
       "waker_.signal();\n  changed_.notify_all();\n}\n\n"
       "void EndpointCore::wait_until_ended",
       "waker_.signal();\n}\n\nvoid EndpointCore::wait_until_ended",
       "close() wakes wait_client() and wait_connected()", same=
       "the threads end at once, and the end of each wakes the same waiters; "
       "only a close() that lingers would let them wait, as long as it lingers")
mutant("queue_closed_before_event",
       "ended.reset();\n  // After the last event",
       "if (own_queue != nullptr) QueueThread::close(*own_queue);\n"
       "  ended.reset();\n  // After the last event",
       "the dispatcher runs the last event, then ends", same=
       "end_here() has queued the event already, under the lock; closing the "
       "queue any time after that loses nothing")
mutant("close_joins_in_stop_callback",
       "if (stop_callbacks == 0) workers_.join();", "workers_.join();",
       "the destructor in a stop callback does not wait for threads",
       tests=["shutdown_test"])
mutant("close_does_not_join",
       "if (stop_callbacks == 0) workers_.join();", "",
       "close() waits for the threads")
mutant("close_does_not_linger",
       "linger_for_ended();\n  retire_callbacks();", "retire_callbacks();",
       "close() of a client lingers for its last bytes",
       tests=["client_test", "shutdown_test"])
mutant("close_leaves_callbacks",
       "linger_for_ended();\n  retire_callbacks();", "linger_for_ended();",
       "no callback runs after close()")
mutant("end_for_good_not_noted",
       "ended_for_good_ = true;\n  changed_", "changed_",
       "wait_done() returns after close()")
mutant("end_for_good_wakes_nobody",
       "ended_for_good_ = true;\n  changed_.notify_all();",
       "ended_for_good_ = true;", "wait_done() is woken by the end of close()")
mutant("stop_callback_retires",
       "if (stop_callbacks > 0) {\n      owner->drop();", "if (false) {",
       "close() in a stop callback does not wait for callbacks",
       tests=["shutdown_test"])
mutant("close_waits_in_stop_callback",
       "const bool waits = stop_callbacks == 0 &&\n",
       "const bool waits =\n", "close() in a stop callback returns at once",
       tests=["shutdown_test"])
mutant("close_waits_in_worker",
       "(!workers_.is_current_thread() ||", "(true ||",
       "close() in a read handler returns at once")
mutant("close_returns_in_dispatcher",
       "workers_.is_current_thread(ThreadRole::kDispatch));", "false);",
       "close() in a connect_callback waits")
mutant("child_closes",
       "if (!process_.is_here()) {\n    close_descriptors_in_child();\n"
       "    return;\n  }\n  // A callback",
       "// A callback",
       "close() in a forked child touches no thread", tests=["fork_test"])
mutant("child_releases",
       "close_descriptors_in_child();\n    keep_for_ever(shared_from_this());\n"
       "    return;",
       "close_descriptors_in_child();",
       "the destructor in a forked child waits for no thread",
       tests=["fork_test"])
mutant("child_keeps_descriptors",
       "if (current_) current_->socket->close_descriptor();", "",
       "close() in a forked child closes the child's descriptor",
       tests=["fork_test"])
mutant("child_waits_for_lock",
       "if (!mutex_.try_lock()) return;", "mutex_.lock();",
       "a forked child does not wait for a lock of its parent",
       tests=["fork_test"])
mutant("pause_not_ended_by_close",
       "[this]() TCPIP_REQUIRES(mutex_) { return closing_; });",
       "[]() { return false; });", "close() ends the pause of a worker",
       at="void EndpointCore::pause(", tests=["fault_test"])
mutant("done_before_close",
       "return closing_ && (ended_for_good_ || !ending_) &&",
       "return (ended_for_good_ || !ending_) &&",
       "wait_done() waits for close()")
mutant("done_during_close",
       "return closing_ && (ended_for_good_ || !ending_) &&",
       "return closing_ &&", "wait_done() waits until close() has ended")
mutant("done_during_callback",
       "running_callbacks_ == 0 && workers_.all_ended();",
       "workers_.all_ended();", "wait_done() waits for a callback that runs")
mutant("done_during_work",
       "running_callbacks_ == 0 && workers_.all_ended();",
       "running_callbacks_ == 0;", "wait_done() waits for the threads")
mutant("wait_connected_in_close",
       "return current_ != nullptr || closing_;", "return current_ != nullptr;",
       "close() ends wait_connected()")
mutant("hand_out_twice",
       "if (link) handed_out_ = link->record->number;", "",
       "wait_client() returns each connection once")
mutant("wait_for_link_in_close",
       "return closing_ || is_there(); });", "return is_there(); });",
       "close() ends wait_client()")
mutant("link_after_close",
       "return !closing_ && is_there() ? current_ : nullptr;",
       "return is_there() ? current_ : nullptr;",
       "wait_client() returns nothing once closing", same=
       "close() takes the connection away when it sets closing_, under one lock")
mutant("told_without_callback",
       "return current_.get() != &link || !config_.on_event ||\n"
       "           told_ >= link.record->number;",
       "return true;", "a handler waits for connect_callback")
mutant("told_of_ended_link",
       "return current_.get() != &link || !config_.on_event ||\n",
       "return !config_.on_event ||\n",
       "the wait for connect_callback ends with the connection")
mutant("greeting_not_noted",
       "link->greeting = config_.reader.greets;", "",
       "`begin` may write to a peer that has sent FIN already",
       tests=["one_client_read_loop_server_test"])
mutant("observer_not_set",
       "link->receiver->set_observer(link);", "",
       "the core is told that a read has ended")
mutant("admit_when_closing",
       "if (closing_) return Admission::kClosing;", "",
       "no client is admitted once closing (first look)",
       at="EndpointCore::may_not_admit(", same=
       "admit() looks again under the lock that makes the client current")
mutant("admit_over_current",
       "if (is_live && !may_be_replaced(*current_)) return Admission::kRefused;",
       "", "a second client is turned away")
mutant("admit_only_after_note",
       "return link.hung_up || link.socket->peer_hung_up();",
       "return link.hung_up;",
       "a new client is admitted although the end of the old one was not seen "
       "yet", tests=["last_message_test", "wrong_client_test"])
mutant("events_without_bound",
       "if (waiting_events_ > kMaxWaitingEvents) return Admission::kEventsWaiting;",
       "", "the number of waiting events is bounded")
mutant("admit_during_handler",
       "if (!is_done) return Admission::kHandlerBusy;", "",
       "a new client waits until the handler has had the old one's messages",
       tests=["last_message_test", "one_client_read_loop_server_test"])
mutant("admit_message_in_hand",
       "is_drained(*current_) && !is_in_hand(*current_);",
       "is_drained(*current_);",
       "a new client waits for the message that the handler has in hand",
       tests=["last_message_test", "one_client_read_loop_server_test"])
mutant("admit_during_read",
       "if (current_->receiver->is_reading()) return Admission::kReadUnderWay;",
       "", "a new client waits for a read that takes the old one's last bytes",
       tests=["last_message_test"])
mutant("admit_ignores_force",
       "if (!current_ || is_live || force) return std::nullopt;",
       "if (!current_ || is_live) return std::nullopt;",
       "a new client waits for the handler for finish_time only",
       tests=["last_message_test", "one_client_read_loop_server_test"])
mutant("admit_looks_once",
       "if (const auto refusal = may_not_admit(force)) return *refusal;\n"
       "    if (current_)", "if (current_)",
       "admit() looks again after it has allocated", same=
       "between the two looks only an allocation happens; the accept thread "
       "alone admits, so current_ can only have ended, and closing_ is looked "
       "at once more")
mutant("replaced_link_is_said_drained",
       "if (unread == 0 && has_hung_up(*current_)) {", "if (true) {",
       "a connection that is replaced with unread bytes says so",
       tests=["last_message_test"])
mutant("drained_link_is_said_replaced",
       "if (unread == 0 && has_hung_up(*current_)) {", "if (false) {",
       "a connection whose bytes are all read says that the peer has closed",
       tests=["last_message_test"])
mutant("admit_after_close",
       "if (closing_) return Admission::kClosing;\n  link->record->number",
       "link->record->number", "no client is admitted once closing",
       tests=["last_message_test"])
mutant("heartbeats_from_accept",
       "link->heartbeats = Heartbeats(config_.heartbeats, now);", "",
       "the time of the heartbeats begins when the client is admitted",
       tests=["last_message_test"])
mutant("no_connected_event",
       "post_event(link->began, wake);", "", "the connected event is queued")
mutant("count_not_kept",
       "++count_;\n", "", "connections are numbered")
mutant("should_be_connected_not_set",
       "should_be_connected_ = true;\n  current_", "current_",
       "should_be_connected is true with a connection")
mutant("admit_notifies_nobody",
       "current_ = link;\n  note_change();\n  changed_.notify_all();",
       "current_ = link;\n  note_change();",
       "a new connection wakes those that wait for it")
mutant("record_not_over",
       "set_over();", "", "a Connection finds its connection ended",
       at="void EndpointCore::end_link(")
mutant("record_keeps_its_link",
       "link->record->forget();", "",
       "a Connection that is over keeps nothing of it")
mutant("core_keeps_its_link",
       "core.forget();", "", "the endpoint keeps nothing of an ended connection")
mutant("format_is_not_told",
       "format_ = std::move(format);\n  note_change();",
       "format_ = std::move(format);",
       "a new terminator is used by the next call",
       tests=["read_writer_test", "one_client_server_test", "client_test"])
mutant("format_is_not_told_to_the_connection",
       "if (current_) current_->record->note_change();", "",
       "a new terminator is used by the next call of a Connection",
       tests=["read_writer_test", "connection_test"])
mutant("new_connection_is_not_told",
       "current_ = link;\n  note_change();", "current_ = link;",
       "a call finds the new connection", same=
       "nothing of the old one is kept, so that each call asks")
mutant("no_disconnected_event",
       "post_event(current_->over, ended.event);", "", "the disconnected event is queued")
mutant("socket_not_closed",
       "counters_->unsent_bytes.add(current_->sender->close(\n"
       "      error_for_writes(reason, error), Socket::Wake::kWhenAcknowledged));", "",
       "the end of a connection closes its socket")
mutant("writes_not_told_why",
       "error_for_writes(reason, error), Socket::Wake", "0, Socket::Wake",
       "a blocked write is told why the connection has ended")
mutant("socket_not_lingered_for",
       "ended_.splice(ended_.end(), current_->ended);", "",
       "an ended connection's last bytes reach the peer",
       tests=["one_client_server_test", "shutdown_test"])
mutant("program_close_is_lost",
       "if (current_->socket->is_closed()) {", "if (false) {",
       "a writer's close() ends the connection from this side",
       tests=["connection_test"])
mutant("lose_another_link",
       "if (current_.get() == &link) end_lost_link(reason, error, ended);",
       "if (current_) end_lost_link(reason, error, ended);",
       "the loss of an old connection does not end the new one")
mutant("failed_write_ends_reading",
       "(!is_drained(link) || is_to_be_answered(link))) {", "false) {",
       "a reply that fails does not keep messages from the handler",
       at="void EndpointCore::write_failed(", tests=["last_message_test"])
mutant("failed_write_of_another_link",
       "if (current_.get() != &link) return;", "if (!current_) return;",
       "a failed write on an old connection does not end the new one",
       at="void EndpointCore::write_failed(")
mutant("in_hand_without_greeting",
       "(link.greeting || link.receiver->consumed() > link.consumed_before);",
       "(link.receiver->consumed() > link.consumed_before);",
       "a greeting is delivered to a peer that has sent FIN",
       tests=["one_client_read_loop_server_test", "last_message_test"])
mutant("in_hand_without_message",
       "(link.greeting || link.receiver->consumed() > link.consumed_before);",
       "link.greeting;", "the reply to the last message is delivered",
       tests=["last_message_test"])
mutant("answered_after_reset",
       "return is_in_hand(link) && link.socket->lost_error() == 0;",
       "return is_in_hand(link);",
       "a reset ends the connection although a message is in hand",
       tests=["last_message_test"])
mutant("hang_up_not_noted",
       "link.hung_up = true;\n  link.broken", "link.broken",
       "a read that takes the last byte finds the hang-up noted")
mutant("broken_not_noted",
       "link.broken = broken;", "",
       "a connection that is over in both directions is not polled again and "
       "again", tests=["last_message_test"])
mutant("hang_up_ends_nothing",
       "end_drained_link(ended, /*unread=*/0);", "",
       "the hang-up ends a connection without unread bytes")
mutant("hang_up_before_answer",
       "if (!is_drained(link) || is_to_be_answered(link)) return;",
       "if (!is_drained(link)) return;",
       "the hang-up leaves a connection whose reply is due",
       tests=["last_message_test"])
mutant("hang_up_of_another_link",
       "if (current_.get() != &link) return;\n  link.hung_up", "link.hung_up",
       "a late hang-up of an old connection does not end the new one")
mutant("lost_read_ends_nothing",
       "if (!is_to_be_answered(link)) end_drained_link(ended);\n    return;",
       "return;", "a read that finds the loss ends the connection")
mutant("last_read_ends_nothing",
       "if (is_drained(link) && !is_in_hand(link)) end_drained_link(ended);", "",
       "the read of the last byte ends the connection",
       tests=["last_message_test"])
mutant("last_read_before_answer",
       "if (is_drained(link) && !is_in_hand(link)) end_drained_link(ended);",
       "if (is_drained(link)) end_drained_link(ended);",
       "the read of the last message leaves the connection to its reply",
       tests=["last_message_test"])
mutant("greeting_never_ends",
       "link.greeting = false;", "",
       "a connection ends after its greeting", at="bool EndpointCore::go_on(",
       tests=["last_message_test"])
mutant("message_stays_in_hand",
       "link.consumed_before = link.receiver->consumed();", "",
       "a message that was handled is in hand no more",
       at="bool EndpointCore::go_on(", tests=["last_message_test"])
mutant("go_on_without_end",
       "if (!is_drained(link)) return true;\n  end_drained_link(ended);\n"
       "  return false;", "return true;",
       "the handled last message ends the connection",
       tests=["endpoint_core_test"])
mutant("failed_handler_leaves_connection",
       "end_here(/*keep_should_be_connected=*/false, ended,\n"
       "             DisconnectReason::kHandlerFailed);", "",
       "a handler that throws ends the connection")
mutant("greeting_is_overtaken",
       "if (!link->greeting) *current_number_ = link->record->number;",
       "*current_number_ = link->record->number;",
       "nothing is sent before begin has returned", tests=["send_queue_test"])
mutant("greeted_wakes_nobody",
       "*current_number_ = link.record->number;\n    changed_.notify_all();",
       "*current_number_ = link.record->number;",
       "a PeriodicSender begins when begin has returned",
       tests=["send_queue_test"])
mutant("heartbeat_after_fin",
       "if (link.hung_up) return {};", "",
       "a peer that has sent FIN is expected to send no heartbeats",
       tests=["last_message_test"])
mutant("lost_heartbeat_ends_nothing",
       "lose(link, DisconnectReason::kHeartbeatLost);", "",
       "a missing heartbeat ends the connection", tests=["heartbeat_test"])
mutant("heartbeats_pile_up",
       "if (link.sender->unsent() > config_.write_limit) return;", "",
       "heartbeats do not pile up for a peer that does not read",
       tests=["heartbeat_test"])
mutant("heartbeat_failure_unnoted",
       "note_hang_up(link, /*broken=*/false);\n    // The", "// The",
       "a heartbeat that cannot be sent tells of the loss",
       tests=["connection_test"])
mutant("unexpected_heartbeat_taken",
       "if (!expects_heartbeats()) {", "if (false) {",
       "an unexpected heartbeat is an error", tests=["heartbeat_test"])
mutant("heartbeat_not_heard",
       "link.heartbeats.heard(std::chrono::steady_clock::now(), position);", "",
       "a heartbeat keeps the connection", tests=["heartbeat_test"])
mutant("should_be_connected_stays",
       "if (!keep_should_be_connected) should_be_connected_ = false;", "",
       "should_be_connected is false once this side has closed")
mutant("record_should_be_connected_stays",
       "if (!keep_should_be_connected) current_->record->should_be_connected = "
       "false;", "", "a Connection tells that this side has ended it",
       tests=["connection_test"])
mutant("close_another_link",
       "if (current_.get() == &link) {\n    end_here", "if (current_) {\n    end_here",
       "close() of an old Connection does not end the new one",
       tests=["connection_test"])
mutant("callback_destroyed_uncounted",
       "const auto once = std::exchange(callback, nullptr);\n    try {\n"
       "      once();", "try {\n      callback();", "what a callback holds is destroyed before wait_done() "
       "returns")
mutant("callback_end_notifies_nobody",
       "--core_.running_callbacks_;\n    core_.changed_.notify_all();",
       "--core_.running_callbacks_;", "wait_done() is woken by the end of a "
       "callback")
mutant("event_counted_late",
       "event->is_counted = true;\n  ++waiting_events_;\n"
       "  if (callbacks_->post_event(link_event.callback)) {",
       "if (callbacks_->post_event(link_event.callback)) { "
       "event->is_counted = true; ++waiting_events_;",
       "an event is counted before another thread can run it",
       same="the window is the few instructions between two locks; a run of the "
       "event in it is too rare for a test")
mutant("accept_thread_not_woken_by_events",
       "waker_.signal();\n}\n\nvoid EndpointCore::run_event",
       "}\n\nvoid EndpointCore::run_event",
       "a client that waits for events is admitted when they have run")
mutant("close_is_not_requested",
       "close_requested_ = true;", "",
       "a signal handler closes a server", tests=["request_close_test"])
mutant("request_wakes_nobody",
       "close_requested_ = true;\n  waker_.signal();", "close_requested_ = true;",
       "a signal handler closes a server that is idle",
       tests=["request_close_test"])
mutant("request_spoils_errno",
       "errno = saved;", "errno = EINTR;", "a signal handler must keep errno",
       tests=["request_close_test"])
mutant("request_before_start_is_forgotten",
       "if (close_requested_) close();", "",
       "a close() that is requested before start()",
       tests=["request_close_test"])
mutant("tap_not_told_of_the_end",
       "if (current_->meter.tap) current_->meter.tap->ended();", "",
       "a tap shows the end of a connection", tests=["tap_test"])
mutant("unread_not_counted",
       "counters_->dropped_bytes.add(ended.unread);", "",
       "the statistics have what was dropped", tests=["stats_test"])
mutant("event_failure_swallowed",
       'return fmt::format("connect_callback failed: {}", what_of(e));\n    });',
       'return fmt::format("", what_of(e));\n    });',
       "what connect_callback throws is logged")
mutant("event_not_told",
       "if (event.connected) told_ = std::max(told_, event.connection.number());",
       "", "wait_until_told() ends when connect_callback has returned",
       tests=["one_client_read_loop_server_test"])
mutant("event_told_to_nobody",
       "event.connection.number());\n  changed_.notify_all();",
       "event.connection.number());",
       "wait_until_told() is woken when connect_callback has returned",
       tests=["one_client_read_loop_server_test"], same=
       "the CallbackRun of the same function wakes everybody right after this")
mutant("post_without_queue",
       "if (config_.callbacks == nullptr && !config_.on_event) {",
       "if (false) {", "post() without a queue is an error")

source("endpoint/link.h", "endpoint_core_test", "connection_test")
mutant("ended_link_is_found",
       "return over ? nullptr : live.lock();", "return live.lock();",
       "a Connection finds its connection ended")

source("endpoint/accept_loop.cc", "one_client_server_test", "fault_test",
       "wrong_client_test", "last_message_test", "shutdown_test",
       "one_client_read_loop_server_test")
mutant("hang_up_not_told",
       "if (hung_up_) core_.note_hang_up(*client, broken_);", "",
       "the accept thread tells of a hang-up")
mutant("ended_sockets_stay",
       "close_ended(false);\n      if (newcomer_)", "if (newcomer_)",
       "the sockets of ended connections are closed soon")
mutant("newcomer_not_admitted",
       "if (newcomer_) admit_newcomer();", "",
       "a client that waits is admitted in the end",
       tests=["last_message_test"])
mutant("exception_ends_thread",
       "} catch (const std::exception& e) {\n      rest(what_of(e));",
       "} catch (const std::exception& e) {\n      break;",
       "the accept thread lives on when memory is short",
       tests=["fault_test", "fail_nth_test"])
mutant("newcomer_not_turned_away",
       "if (newcomer_) turn_away(std::move(newcomer_->link->ended));", "",
       "close() lingers for a client that waits", same=
       "the destructor of its Link closes the socket too; only its lingering "
       "is lost, for a client that the server has never served")
mutant("listener_stays_open",
       "listener_->close();\n  close_ended(true);", "close_ended(true);",
       "a closed server listens no more", same=
       "the destructor closes it a moment later; the order decides only whether "
       "the kernel takes further clients while the loop lingers for the last one")
mutant("close_lingers_for_nobody",
       "close_ended(true);", "", "close() lingers for the last bytes")
mutant("rests_add_up",
       "rest_ = std::chrono::milliseconds(0);\n    } catch", "} catch",
       "one failure of poll() now and then does not make the server deaf",
       tests=["net_fault_test"])
mutant("lingering_stays_if_poll_fails",
       "close_ended(false);  // there may be too many for poll()", "",
       "what lingers is let go though poll() fails", tests=["net_fault_test"])
mutant("rest_without_pause",
       "core_.pause(Deadline::after(rest_));", "",
       "a lack of memory does not make a busy loop",
       tests=["fault_test", "fail_nth_test"])
mutant("broken_connection_polled",
       "const bool watch = client && !client->broken;",
       "const bool watch = client;",
       "a connection that is over in both directions is not polled",
       tests=["last_message_test"])
mutant("hung_up_connection_polled",
       "const short events = client->hung_up ? 0 : POLLRDHUP;",
       "const short events = POLLRDHUP;",
       "a FIN that was noted does not make a busy loop",
       tests=["last_message_test"])
mutant("hang_up_not_polled",
       "const short events = client->hung_up ? 0 : POLLRDHUP;",
       "const short events = 0;", "a FIN is noticed without a read")
mutant("accepting_never_again",
       "if (accept_again_ && accept_again_->has_passed()) accept_again_.reset();",
       "", "clients are accepted again after the pause", tests=["fault_test"])
mutant("accepting_during_pause",
       "if (!accept_again_ && !newcomer_) {", "if (!newcomer_) {",
       "a lack of descriptors does not make a busy loop", tests=["fault_test"])
mutant("accepting_during_wait",
       "if (!accept_again_ && !newcomer_) {", "if (!accept_again_) {",
       "a waiting client does not make a busy loop",
       tests=["last_message_test"])
mutant("pause_has_no_end",
       "std::min(accept_again_.value_or(Deadline()),\n"
       "                               core_.peer_log().write_due());",
       "core_.peer_log().write_due();",
       "the poll ends when the pause does", tests=["fault_test"])
mutant("held_lines_wait",
       "std::min(accept_again_.value_or(Deadline()),\n"
       "                               core_.peer_log().write_due());",
       "accept_again_.value_or(Deadline());",
       "log lines that are held back are written in time",
       tests=["one_client_server_test"])
mutant("no_heartbeats",
       "if (client) deadline = std::min(deadline, core_.tend_heartbeats(*client));",
       "", "a server sends heartbeats", tests=["heartbeat_test"])
mutant("newcomer_waits_for_ever",
       "if (newcomer_) {\n    deadline =", "if (false) {\n    deadline =",
       "a new client waits for finish_time only", tests=["last_message_test"])
mutant("linger_without_end",
       "if (!lingering_.empty()) {\n    deadline =",
       "if (false) {\n    deadline =",
       "a client that was turned away is closed in time",
       tests=["wrong_client_test", "one_client_server_test"])
mutant("signal_not_cleared",
       "if (fds.front().revents != 0) core_.waker().clear();", "",
       "a signal does not make a busy loop", tests=["bounds_test"])
mutant("signal_cleared_before_poll",
       "const IoResult polled = poll_until(fds, deadline);",
       "core_.waker().clear(); const IoResult polled = poll_until(fds, deadline);",
       "a signal before the poll is not lost", tests=["chaos_test"])
mutant("accept_error_not_paused",
       "if (attempt.error) back_off(attempt.error.value());", "",
       "a failing accept4() does not make a busy loop", tests=["fault_test"])
mutant("false_alarms_not_counted",
       "++false_alarms_ >= kFalseAlarms) {", "false) {",
       "a poll that is ready for nothing does not make a busy loop",
       tests=["fault_test", "net_fault_test"])
mutant("pause_never_shortens",
       "pause_ = std::chrono::milliseconds(0);", "",
       "the pause begins short again after a success", tests=["net_fault_test"])
mutant("accept_over_newcomer",
       "if (acceptable_[i] && !newcomer_) accept(i);",
       "if (acceptable_[i]) accept(i);",
       "no client is accepted while another waits", same=
       "it takes two listening sockets that are ready in the same turn, of "
       "which the first has brought the client that waits")
mutant("options_not_set",
       "if (!listener_->hands_options_on(index)) set_options(*socket);", "",
       "a client's socket has the options that it does not inherit",
       tests=["net_fault_test"])
mutant("inherited_options_set_again",
       "if (!listener_->hands_options_on(index)) set_options(*socket);",
       "set_options(*socket);",
       "options that a client's socket inherits are not set again",
       tests=["net_fault_test"])
mutant("replaced_client_not_lingered_for",
       "linger(core_.take_ended());\n      const", "const",
       "who is replaced is lingered for at once", tests=["admission_test"])
mutant("refused_late",
       "if (core_.would_refuse()) {", "if (false) {",
       "a client that is turned away needs no Link", same=
       "admit() refuses it too, only slower")
mutant("refused_client_stays",
       "  turn_away(std::move(client));\n}", "}",
       "a refused client is turned away gently",
       tests=["wrong_client_test", "one_client_server_test"])
mutant("turned_away_with_reset",
       "linger(std::move(client));", "",
       "a refused client that has sent bytes gets a FIN, no reset",
       tests=["wrong_client_test", "one_client_server_test"])
mutant("turned_away_open",
       "client.front().socket->close();\n  linger", "linger",
       "a refused client gets a FIN at once",
       tests=["wrong_client_test", "one_client_server_test"])
mutant("wait_never_forced",
       "const bool force = newcomer.deadline.has_passed();",
       "const bool force = false;",
       "a new client waits for finish_time only", tests=["last_message_test"])
mutant("wait_always_forced",
       "const bool force = newcomer.deadline.has_passed();",
       "const bool force = true;",
       "a new client waits for the handler", tests=["last_message_test"])
mutant("wait_begins_anew",
       "newcomer_->deadline = std::min(newcomer.deadline, newcomer_->deadline);",
       "", "a new client's time does not begin anew with each look", same=
       "it looks again only while a read is under way, and behind a FIN that "
       "lasts for an instant: only a thread that is held there would show it")
mutant("pause_does_not_grow",
       "pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);",
       "pause_ = kFirstPause;", "the pause after failures grows",
       tests=["fault_test"])
mutant("pause_without_bound",
       "pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);",
       "pause_ = std::max(2 * pause_, kFirstPause);",
       "the pause after failures is bounded", tests=["fault_test"], same=
       "a test would have to wait through ten pauses, two seconds of the last "
       "of them")
mutant("lingering_without_bound",
       "if (lingering_.size() == kMaxLingering) lingering_.pop_front();", "",
       "the number of lingering sockets is bounded",
       tests=["one_client_server_test"])
mutant("lingering_never_times_out",
       "while (!lingering_.empty() && lingering_.front().deadline.has_passed()) {",
       "while (false) {",
       "a client that was turned away and stays is closed in time",
       tests=["wrong_client_test"])

mutant("lingering_not_polled_at_first",
       "sockets.front().look_after = kFirstLook;", "",
       "a client that is turned away does not wake the accept thread at once",
       same="only slower")
mutant("lingering_spins",
       "ended.ready && step == Socket::LingerStep::kNothing;", "false;",
       "lingering does not spin if recv() fails although poll() is ready",
       tests=["net_fault_test"])

source("endpoint/read_loop.cc", "one_client_read_loop_server_test",
       "last_message_test", "shutdown_test")
mutant("loss_is_failure",
       "if (is_explained()) {", "if (false) {",
       "a handler goes on after a reply that fails",
       tests=["last_message_test"])
mutant("failures_not_logged",
       "if (is_explained()) {", "{",
       "a handler's ConnectionError is logged if nothing explains it")
mutant("unfinished_not_logged",
       "log_unfinished(e, core, link);", "",
       "the part of a message that a peer leaves behind is logged")
mutant("cancelled_always_logged",
       'if (!is_explained()) log_failure(": ", what_of(e));',
       'log_failure(": ", what_of(e));',
       "a handler that is stopped is not said to have failed")
mutant("endless_failing_handler",
       "(outcome == Outcome::kLost && link.receiver->consumed() > consumed);",
       "outcome == Outcome::kLost;",
       "a handler that reads nothing is not called for ever",
       tests=["last_message_test"])
mutant("lost_reply_ends",
       "(outcome == Outcome::kLost && link.receiver->consumed() > consumed);",
       "false;", "every message of a peer that has gone reaches the handler",
       tests=["last_message_test"])
mutant("failed_begin_goes_on",
       "served = outcome != Outcome::kFailed;", "",
       "no handler is called after a `begin` that throws")
mutant("lost_peer_is_a_failed_handler",
       "if (!served) core.finish_serving(link, outcome == Outcome::kFailed);",
       "if (!served) core.finish_serving(link, true);",
       "a peer that has gone is the reason, not the handler that met it",
       tests=["one_client_read_loop_server_test"])
mutant("failed_handler_keeps_connection",
       "if (!served) core.finish_serving(link, outcome == Outcome::kFailed);",
       "",
       "a handler that throws ends the connection")
mutant("handler_before_callback",
       "if (loop.read_after_callback) core.wait_until_told(*link);", "",
       "the handler waits for connect_callback")
mutant("same_link_again",
       "served = link->record->number;", "",
       "each connection is served once", same=
       "serve() returns when the connection has ended, so that it is not found "
       "again")

source("endpoint/heartbeats.cc", "heartbeats_test", "heartbeat_test")
mutant("bad_interval",
       "if (std::min(options.interval, options.max_interval).count() <= 0) {",
       "if (std::min(options.interval, options.max_interval).count() < 0) {",
       "an interval of 0 is refused")
mutant("interval_without_bound",
       "bound(options.max_interval);", "",
       "an interval that is too long for the clock is shortened")
mutant("beat_late",
       "if (now >= next_beat_) {", "if (now > next_beat_) {",
       "a heartbeat is sent when it is due")
mutant("beats_drift",
       "next_beat_ += options_.interval;", "next_beat_ = now + options_.interval;",
       "heartbeats are due at fixed times")
mutant("missed_beats_sent",
       "if (next_beat_ <= now) next_beat_ = now + options_.interval;", "",
       "missed heartbeats are not sent later")
mutant("lost_late",
       "if (now < heard_ + most) {", "if (now <= heard_ + most) {",
       "a heartbeat is overdue at its time")
mutant("doubt_stays",
       "doubt_.reset();\n", "",
       "a heartbeat that comes ends the doubt")
mutant("kernel_bytes_ignored",
       "doubt_ = {now, arrived_};", "doubt_ = {now, read};",
       "a heartbeat in the kernel counts")
mutant("doubt_ends_while_bytes_come",
       "now - std::max(doubt_->since, arrived_at_) >= most) {",
       "now - doubt_->since >= most) {", "bytes that come keep the connection")
mutant("lost_though_unread",
       "const bool all_read = read >= doubt_->suspect;",
       "const bool all_read = true;", "an unread heartbeat counts")
mutant("heard_when_read",
       "position <= arrived_ ? arrived_at_ : now", "now",
       "a peer that hangs does not live on what it has sent before")
mutant("never_lost_while_unread",
       "if (all_read || now - std::max(doubt_->since, arrived_at_) >= most) {",
       "if (all_read) {",
       "a peer is lost although its last bytes are unread")

# --- Patterns ---

source("transactor.cc", "transactor_test")
mutant("no_turns",
       "return !impl_.taken_;", "return true;", "requests are made one at a time")
mutant("turn_never_ends",
       "impl_.taken_ = false;", "", "the next thread has its turn")
mutant("turn_not_given_on",
       "impl_.changed_.notify_all();", "", "a thread is woken for its turn")
mutant("stale_not_dropped",
       "const std::size_t dropped = internal::discard_bytes(connection, kTransact);",
       "const std::size_t dropped = 0;", "what came before a request is dropped")
mutant("late_reply_answers",
       "if (due_ == 0) {", "if (true) {",
       "a late reply does not answer the next request")
mutant("late_reply_before_answers",
       "while (due_ > 0) {", "while (false) {",
       "a late reply that came before the request is not counted twice")
mutant("time_out_keeps_connection",
       "connection.close();\n  } else {", "} else {",
       "a time-out closes the connection")
mutant("late_reply_not_due",
       "++due_;", "", "a late reply is due after a time-out")
mutant("due_on_the_next_connection",
       "due_ = 0;\n  }\n  bool begun", "}\n  bool begun",
       "a new connection begins without late replies")
mutant("early_stop_closes",
       "} catch (const CancelledError& e) {\n    if (begun || e.queued()) fail(connection);",
       "} catch (const CancelledError& e) {\n    fail(connection);",
       "a stop before the request leaves the connection as it is")
mutant("long_reply_keeps_connection",
       "if (begun) connection.close();", "",
       "a reply over the limit closes the connection")
mutant("refused_request_closes",
       "if (begun) connection.close();", "connection.close();",
       "a request that was not sent leaves the connection as it is")

source("pending_replies.cc", "pending_replies_test")
mutant("expected_twice",
       "if (impl_->find(entry->connection(), key) != impl_->items.end()) return false;",
       "", "a key is expected once at a time")
mutant("fulfilled_twice",
       "item->state = State::kTaken;", "", "a second reply is nobody's")
mutant("any_connection",
       "item.entry->connection() == connection && item.entry->has_key(key);",
       "item.entry->has_key(key);", "a reply belongs to its connection")
mutant("end_wakes_nobody",
       "changed.notify_all();\n}\n\nstd::size_t PendingTable::fail_all",
       "changed;\n}\n\nstd::size_t PendingTable::fail_all",
       "the end of the connection ends its waits")
mutant("last_reply_too_late",
       "? Deadline::after(kLastReplyTime)", "? Wait::none().deadline",
       "a reply that comes together with the end counts")
mutant("given_up_stays",
       "if (item != impl_->items.end()) {\n    removed.splice", "if (false) {\n    removed.splice",
       "a reply that was given up is nobody's")
mutant("fail_all_fails_nobody",
       "item.state = State::kFailed;\n      ++failed;", "++failed;",
       "fail_all() ends the waits")
mutant("fail_all_connections",
       "if (connection != nullptr && item.entry->connection() != *connection) {",
       "if (false) {", "fail_all() of one connection leaves the others")

source("base/slot_ring.cc", "slot_ring_test", "send_queue_test")
mutant("one_more",
       "head_.load()) >=", "head_.load()) >", "no more messages wait than the limit")
mutant("outdated_stays",
       "const bool is_outdated = front.tag.load(std::memory_order_relaxed) != tag;",
       "const bool is_outdated = false;",
       "messages of an ended connection make room for new ones")
mutant("newest_drops_oldest",
       "if (!is_outdated && when_full == WhenFull::kRefuse) {", "if (false) {",
       "a full ring drops nothing unless it is told to")
mutant("dropped_twice",
       "if (!head_.compare_exchange_strong(position, position + 1)) {\n"
       "    return Dropped::kChanged;\n  }",
       "head_ = position + 1;",
       "a message is dropped by one thread, and not popped as well")
mutant("popped_twice",
       "if (!head_.compare_exchange_weak(position, position + 1)) continue;",
       "head_ = position + 1;", "a message that is popped is not dropped as well")
mutant("pushed_into_one_slot",
       "if (!tail_.compare_exchange_weak(position, position + 1,\n"
       "                                     std::memory_order_relaxed)) {\n"
       "      continue;\n    }",
       "tail_ = position + 1;", "two threads do not fill the same slot")
mutant("pops_what_is_being_pushed",
       "if (turn < 0) return std::nullopt;", "",
       "a message is popped once it is whole")
mutant("drops_what_is_being_pushed",
       "if (turn < 0) return Dropped::kNone;", "",
       "a message is dropped once it is whole")
mutant("too_many_slots",
       "if (limit > kMostBytes) throw std::bad_alloc();", "",
       "a number of slots that memory cannot hold is refused")
mutant("too_many_bytes",
       "if (max_size > kMostBytes / count) throw std::bad_alloc();", "",
       "a size that memory cannot hold is refused")

source("send_queue.cc", "send_queue_test", "send_queue_fault_test")
mutant("any_connection",
       "if (to_.number() != message.tag || !to_.connected()) return false;",
       "if (!to_.connected()) return false;",
       "a message reaches the connection of its post or none")
mutant("old_connection_stays",
       "to_ = link ? Connection(link->record) : Connection();", "",
       "the writer finds the new connection")
mutant("post_to_anybody",
       "const bool is_it = to == nullptr || to->number() == tag;",
       "const bool is_it = true;",
       "what is meant for one client does not reach the next")
mutant("post_to_another_server",
       "!internal::is_of(*to, core_)", "false",
       "a connection of another server is refused")
mutant("post_without_connection",
       "if (tag == 0 || !is_it || stop_.stop_requested()) {",
       "if (!is_it || stop_.stop_requested()) {",
       "nothing is taken while nobody is connected")
mutant("post_after_close",
       "if (tag == 0 || !is_it || stop_.stop_requested()) {",
       "if (tag == 0 || !is_it) {",
       "a closed queue takes nothing")
mutant("post_too_long",
       "if (size > options_.max_size) {", "if (false) {",
       "a message that is too long is refused")
mutant("post_wakes_nobody",
       "if (sleeps_ && sleeps_.exchange(false)) waker_.signal();", "",
       "a post wakes the writer")
mutant("post_always_wakes",
       "if (sleeps_ && sleeps_.exchange(false)) waker_.signal();",
       "waker_.signal();",
       "a post makes no system call while the writer is at work",
       tests=["send_queue_fault_test"])
mutant("sleeps_without_a_look",
       "if (!ring_.has_next() && !stop_.stop_requested()) {", "if (true) {",
       "the writer looks for messages after it has said that it sleeps")
mutant("overflow_not_noted",
       "if (options_.when_full == WhenFull::kClose) {\n"
       "      // Before", "if (false) {\n      // Before",
       "a full queue closes the connection if it is told to")
mutant("overflow_not_looked_for",
       "if (options_.when_full == WhenFull::kClose) {\n      wait", "if (false) {\n      wait",
       "a full queue closes a connection whose peer does not read")
mutant("time_out_keeps_connection",
       "if (deadline.has_passed()) {", "if (false) {",
       "a connection that takes no message in time is closed")
mutant("queued_twice",
       "queued = queued || e.queued();", "",
       "a message of which a part is sent is not written once more")
mutant("interrupted_is_dropped",
       "return queued || e.queued();", "return false;",
       "a message that stays queued in the connection counts as sent")
mutant("lost_without_memory",
       "// The connection has not taken the message, or has ended.", "return false;",
       "a message for which there is no memory is written later",
       tests=["send_queue_fault_test"])
mutant("done_not_told",
       "note_done(message->position + 1);", "",
       "flush() ends while messages come", same=
       "the writer tells it once the queue is empty, and a queue that never is "
       "empty would need a test that runs for ever")
mutant("flush_of_a_closed_queue_waits",
       "return done_ >= target || ended_;", "return done_ >= target;",
       "close() ends a flush()")
mutant("flush_of_a_closed_queue_returns",
       'if (done_ < target) throw CancelledError("flush", name_);', "",
       "flush() does not say that all is sent if it was dropped")
mutant("rest_not_counted",
       "while (ring_.pop(buffer_.get())) ++dropped_stale_;", "",
       "what waits when the queue is closed is counted")
mutant("close_waits_for_the_peer",
       "stop_.request_stop();\n  waker_", "waker_", "close() ends the writer thread")
mutant("close_wakes_nobody",
       "stop_.request_stop();\n  waker_.signal();", "stop_.request_stop();",
       "close() wakes a writer that sleeps")

source("periodic_sender.cc", "periodic_sender_test")
mutant("drifts",
       "next.when() + options_.period;", "Clock::now() + options_.period;",
       "the schedule does not drift")
mutant("burst",
       "if (due <= now) missed = (now - due) / options_.period + 1;", "",
       "times that have passed are left out and counted")
mutant("close_wakes_nobody",
       "Wait(next, stop_.get_token()));", "Wait(next));",
       "close() wakes a thread that waits for its time")
mutant("calls_unconnected",
       "if (!connection.connected()) {\n      next = Deadline();\n      continue;\n    }",
       "", "the function is not called without a connection")
mutant("busy_counts_as_sent",
       "case SendResult::kBusy:\n        ++busy_;", "case SendResult::kBusy:\n        ++sent_;",
       "what the peer does not take is counted apart")
mutant("any_period",
       "if (options.period.count() <= 0 || options.period > kLongestPeriod) {", "if (false) {",
       "a period out of range is refused")
source("frame_dispatcher.cc", "frame_dispatcher_test", "frame_fault_test")
mutant("otherwise_before_the_skip",
       "skip(receiver, wait);\n  if (otherwise_) otherwise_(connection_);",
       "if (otherwise_) otherwise_(connection_);\n  skip(receiver, wait);",
       "a skipped frame is told once, when it is skipped")
mutant("second_reader",
       "if (impl_.taken_.exchange(true, std::memory_order_acquire)) {",
       "if (impl_.taken_.exchange(true, std::memory_order_acquire) && false) {",
       "a second reader, and a handler that reads, are refused")
mutant("old_connections_frame",
       "connection_ = connection;\n    place_ = Place::kHeader;",
       "connection_ = connection;", "a new connection begins with a header")
mutant("header_read_again",
       "place_ = Place::kBody;\n  }", "}", "a header is read once")
mutant("place_after_handler",
       "place_ = Place::kHeader;\n      count(&FrameCounts::frames);\n"
       "      handler->call(connection_);",
       "count(&FrameCounts::frames);\n      handler->call(connection_);\n"
       "      place_ = Place::kHeader;",
       "behind a handler that throws the next frame is read")
mutant("any_length_fits",
       "frame.length.value_or(body.size()) == body.size()) {", "true) {",
       "a body of another length than its struct is skipped")
mutant("short_frame_fits",
       "if (handler != nullptr && frame.is_length_possible &&",
       "if (handler != nullptr &&",
       "a frame shorter than its header is an error")
mutant("empty_body_is_read",
       "if (!body.empty()) receiver.read_exactly(call, body);",
       "receiver.read_exactly(call, body);",
       "a frame without a body may be the last that comes", same=
       "the reader takes an empty body of what it has, which is nothing")
mutant("any_length_is_skipped",
       "if (frame.length && *frame.length > max_body_) {", "if (false) {",
       "a body beyond max_body is an error")
mutant("length_of_max_is_an_error",
       "*frame.length > max_body_) {", "*frame.length >= max_body_) {",
       "a body of max_body bytes is skipped")
mutant("nothing_is_flushed",
       "count(&FrameCounts::flushed_bytes, receiver.discard(kReadOne));", "",
       "without a length all that has come is dropped")
mutant("skip_is_one_read",
       "*to_skip_ -= dropped;", "to_skip_ = 0;",
       "a body that comes in pieces is skipped whole")
mutant("end_is_skipped",
       "if (dropped == 0) {", "if (false) {",
       "the end in a body that is skipped is an error")
mutant("last_lines_lost",
       "~Impl() { log_.write_rest(); }", "~Impl() {}",
       "what is held back of the log is written at the end")

# --- The streams ---

source("stream/sender.cc", "stream_writer_test", "stream_fault_test",
       "connection_test", "cancel_test")
mutant("drain_stopped_sends",
       "if (call.wait.stop.stop_requested()) {\n"
       "    throw CancelledError(call.operation, peer(), true);\n  }",
       "", "drain() with a requested stop throws")
mutant("write_stopped_queues",
       "if (call.wait.stop.stop_requested()) {\n"
       "    throw CancelledError(call.operation, peer());\n  }",
       "", "write_and_drain() with a requested stop takes nothing")
mutant("write_without_bound",
       "if (pending() > max_unsent) {\n      send_until",
       "if (false) {\n      send_until",
       "a write waits until little is unsent")
mutant("queued_twice",
       "give_up(kClosedHere);\n      closed_here_ = true;\n"
       "      socket_->close();\n      changed_.notify_all();\n    }\n    throw;",
       "}\n    throw;",
       "a message that is queued without being reported never arrives",
       at="void Sender::write_and_drain(", tests=["stream_fault_test", "fail_nth_test"])
mutant("try_write_behind_unsent",
       "if (pending() > max_unsent) return SendResult::kBusy;", "",
       "try_write() takes nothing behind unsent bytes",
       tests=["base_client_or_server_test"])
mutant("try_write_sends_beside",
       "if (!waiting_) send_now();\n  if (pending() > max_unsent) return SendResult::kBusy;",
       "if (pending() > max_unsent) return SendResult::kBusy;",
       "try_write() first sends what is unsent",
       tests=["base_client_or_server_test"])
mutant("eof_twice",
       "if (eof_wanted_) return;", "", "write_eof() is idempotent", same=
       "send_eof() sends one FIN only; what differs is a write_eof() after "
       "write_eof() and close(), and the header lets that one throw")
mutant("eof_after_close",
       "if (socket_->is_closed()) throw_ended(operation);\n  is_drained_", "is_drained_",
       "write_eof() after close() throws")
mutant("eof_before_unsent",
       "if (!eof_wanted_ || eof_sent_ || pending() > 0 || error_ != 0) return;",
       "if (!eof_wanted_ || eof_sent_ || error_ != 0) return;",
       "the FIN comes after the unsent bytes")
mutant("eof_only_at_once",
       "}\n  send_eof();\n}\n\n// Waits for changed_", "}\n}\n\n// Waits for changed_",
       "the FIN is sent when the last byte is")
mutant("close_sends_nothing",
       "while (error_ == 0 && !is_stuck_ && pending() > 0) send_now();", "",
       "close() sends what the kernel takes", at="std::size_t Sender::close(")
mutant("close_hides_loss",
       "} else if (error_ == 0) {\n        give_up(lost);", "} else if (false) {",
       "a blocked write is told of the loss")
mutant("close_is_loss",
       "if (lost == 0) {\n        closed_here_ = true;", "if (lost == 0) {",
       "a blocked write is told that this side has closed")
mutant("close_wakes_nobody",
       "socket_->close(wake);\n  changed_.notify_all();\n  return dropped;",
       "socket_->close(wake);\n  return dropped;", "close() wakes blocked writes", same=
       "the thread that waits for the socket is woken by the socket, and wakes "
       "the others; one that pauses for a kernel without memory looks again "
       "after 10 ms")
mutant("close_leaves_socket",
       "socket_->close(wake);\n  changed_.notify_all();\n  return dropped;",
       "changed_.notify_all();\n  return dropped;", "close() closes the socket")
mutant("close_forgets_freed",
       "dropped = dropped_ + pending();", "dropped = pending();",
       "close() counts what was freed unsent")
mutant("is_closing_without_loss",
       "return socket_->is_closed() || error_ != 0 || socket_->lost_error() != 0;",
       "return socket_->is_closed() || error_ != 0;",
       "is_closing() knows of a loss that a read has met")
mutant("is_closing_without_error",
       "return socket_->is_closed() || error_ != 0 || socket_->lost_error() != 0;",
       "return socket_->is_closed() || socket_->lost_error() != 0;",
       "is_closing() knows of a broken pipe")
mutant("ended_says_closed_here",
       "if (lost == 0) lost = socket_->lost_error();", "",
       "a write reports the loss that another call has met")
mutant("write_after_close",
       "if (socket_->is_closed() || error_ != 0) throw_ended(operation);",
       "if (error_ != 0) throw_ended(operation);",
       "a write after close() throws", at="void Sender::check_writable(")
mutant("write_after_eof",
       "error_ != 0 || eof_wanted_) [[unlikely]] {", "error_ != 0) {",
       "a write after write_eof() throws")
mutant("overtaking",
       "if (pending() > 0 || waiting_ || copying) {",
       "if (waiting_ || copying) {",
       "a message does not overtake unsent bytes")
mutant("sending_beside_waiter",
       "copy(parts, 0);\n    if (!waiting_) send_now();",
       "copy(parts, 0);\n    send_now();",
       "one thread sends while it waits for the socket", same=
       "the waiting thread then finds less to send; the order of the bytes is "
       "kept by the mutex, and a poll that is ready for nothing is tolerated")
mutant("gather_beside_waiter",
       "if (pending() > 0 || waiting_ || copying) {",
       "if (pending() > 0 || copying) {",
       "one thread sends while it waits for the socket", same=
       "a thread waits only while bytes are pending, so that pending() > 0 "
       "says the same, but for the instant after another thread has sent all")
mutant("loss_not_reported",
       "if (error_ != 0) throw_ended(operation);\n  meter_", "meter_", "write() reports a loss that it meets")
mutant("drain_misses_unsent",
       "is_drained_.store(false, std::memory_order_relaxed);\n"
       "  // All memory", "// All memory",
       "drain() waits for what another thread is writing")
mutant("drain_misses_error",
       "is_drained_.store(false, std::memory_order_relaxed);\n  error_ = ",
       "error_ = ", "drain() throws what has ended the connection", same=
       "what calls give_up() holds a Lock, whose end notes the error")
mutant("drain_always_done",
       "sender_.pending() == 0 && sender_.error_ == 0 &&\n                                  sender_.eof_wanted_ == sender_.eof_sent_,", "true,",
       "drain() waits for what is unsent")
mutant("drained_in_spite_of_error",
       "sender_.pending() == 0 && sender_.error_ == 0 &&",
       "sender_.pending() == 0 &&",
       "drain() throws what has ended the connection")
mutant("part_sent_twice",
       "skip -= skipped;", "", "a part that is sent is not queued")
mutant("empty_part_sent",
       "if (part.empty()) continue;", "",
       "empty parts are left out", at="void Sender::gather(", same=
       "the kernel takes an empty piece without harm; it only costs a place "
       "among the pieces")
mutant("short_send_goes_on",
       "if (result.count < size) break;", "",
       "a short send ends the gathering", same=
       "the next send finds the buffer full (kTimeout, count 0), and then the "
       "rest is copied; it costs a call. With count 0 the loop would not end "
       "if the kernel refused for ever: see short_send_of_nothing")
mutant("lost_but_lack_of_memory",
       "result.error_number != ENOBUFS && result.error_number != ENOMEM) {",
       "true) {", "a lack of memory does not end sending",
       tests=["stream_fault_test"])
mutant("reset_said_broken_pipe",
       "const int lost = is_stuck_ ? socket_->lost_error() : 0;",
       "const int lost = 0;",
       "queued bytes that meet a reset report it")
mutant("given_up_not_counted",
       "dropped_ += pending();", "",
       "bytes that are given up count as dropped")
mutant("given_up_kept",
       "buffer_.free();", "",
       "bytes that are given up are freed", at="void Sender::give_up(")
mutant("stop_after_sending",
       "if (wait.stop.stop_requested() && sent_ < target) {", "if (false) {",
       "a requested stop wins over sending", same=
       "each wait, and each call before its first, looks at the stop too; only "
       "a stop that comes between a wait and the send behind it could lose")
mutant("target_not_seen",
       "if (sent_ >= target) continue;\n    if (status == IoStatus::kTimeout)",
       "if (status == IoStatus::kTimeout)",
       "a write whose bytes another thread has sent does not time out", same=
       "another thread must send the last bytes between the end of this one's "
       "poll and its lock: no test can stop there")
mutant("closed_not_seen",
       "if (socket_->is_closed()) throw_ended(operation);\n    if (refused",
       "if (refused", "close() ends a blocked write")
mutant("flag_of_waiter_stays",
       "waiting_ = false;\n      ++refused;", "++refused;",
       "another thread sends when the first waits no more")
mutant("end_of_wait_wakes_nobody",
       "++refused;\n      changed_.notify_all();", "++refused;",
       "a thread that waits for another's sending takes over")
mutant("refused_socket_polled",
       "if (refused < 2) {", "if (true) {",
       "a socket that is ready but takes nothing does not make a busy loop",
       tests=["stream_fault_test"])
mutant("refused_past_deadline",
       "if (refused > 0 && wait.deadline.has_passed()) {", "if (false) {",
       "a socket that is ready but takes nothing does not outlast the deadline",
       tests=["stream_fault_test"])
mutant("refused_never_again",
       "if (sent_ != sent_before) refused = 0;", "",
       "the pause begins short again after a success", same=
       "it bounds how long a write may lag behind a kernel that lacks memory: "
       "10 ms instead of 2, which no test can tell from a busy machine")

source("stream/receiver.cc", "receiver_test", "stream_reader_test",
       "stream_fault_test", "connection_test", "cancel_test")
mutant("huge_size",
       "if (n <= static_cast<std::size_t>(PTRDIFF_MAX)) return;", "return;",
       "a negative size is refused")
mutant("bad_size_wins_over_stop",
       "if (!call.wait.stop.stop_requested()) throw_bad_size(n, call);",
       "throw_bad_size(n, call);", "a requested stop wins over a bad size")
mutant("buffered_wins_over_stop",
       "return !call.wait.stop.stop_requested();", "return true;",
       "a requested stop wins over buffered bytes",
       tests=["base_client_or_server_test"])
mutant("observer_not_told_of_loss",
       "!(lost_ || receiver_.buffer_.empty())) {",
       "!receiver_.buffer_.empty()) {",
       "the observer is told of a loss")
mutant("observer_not_told_of_end",
       "!(lost_ || receiver_.buffer_.empty())) {", "!lost_) {",
       "the observer is told that nothing is buffered")
mutant("observer_told_during_read",
       "receiver_.sole_reader_.end_before_look();\n"
       "    if (lost_ || receiver_.has_ended() ||\n"
       "        receiver_.end_is_expected_.load(std::memory_order_seq_cst)) {\n"
       "      receiver_.tell_observer(lost_);\n    }",
       "if (lost_ || receiver_.has_ended() ||\n"
       "        receiver_.end_is_expected_.load(std::memory_order_seq_cst)) {\n"
       "      receiver_.tell_observer(lost_);\n    }\n"
       "    receiver_.sole_reader_.end_before_look();",
       "no read is under way when the observer is told")
mutant("observer_always_told",
       "if (lost_ || receiver_.has_ended() ||\n"
       "        receiver_.end_is_expected_.load(std::memory_order_seq_cst)) {",
       "if (true) {", "a read costs no lock while no end is expected")
mutant("observer_not_told_of_met_end",
       "lost_ || receiver_.has_ended() ||", "lost_ ||",
       "the observer is told of a read that has met the end")
mutant("loss_not_noted",
       "lost_ = true;\n      throw;", "throw;", "an operation notes its loss")
mutant("message_taken_without_memory",
       "} catch (const std::bad_alloc&) {\n    throw;\n  } catch (...) {\n"
       "    take_message(n);", "} catch (...) {\n    take_message(n);",
       "a message stays if there is no memory for it",
       tests=["receiver_test", "stream_fault_test"])
mutant("bad_message_stays",
       "} catch (...) {\n    take_message(n);\n    throw;",
       "} catch (...) {\n    throw;",
       "a message that cannot be decoded is taken",
       tests=["receiver_test", "read_writer_test"])
mutant("incomplete_stays",
       "take(size);\n  if (attempt", "if (attempt",
       "the partial bytes are taken with their error")
mutant("error_forgotten",
       "if (error_number() != 0) {\n    throw_error(error_number()",
       "if (false) {\n    throw_error(error_number()",
       "a broken connection stays broken", same=
       "the socket gives the error again: see Socket::ended()")
mutant("eof_forgotten",
       "if (eof_.load(std::memory_order_relaxed)) return Fill::kEof;", "",
       "the end of the stream stays", at="Receiver::Fill Receiver::fill(", same=
       "the kernel reports the end again and again")
mutant("flood_without_end",
       "attempt.call.wait.deadline.has_passed()) {", "false) {",
       "a flooding peer does not keep a call past its deadline",
       at="Receiver::Fill Receiver::fill(", tests=["stream_fault_test"])
mutant("budget_not_taken",
       "attempt.budget = socket_->receivable();", "",
       "a call takes what is there at the deadline")
mutant("eof_past_budget",
       "if (attempt.expired && attempt.budget == 0 && !socket_->at_end()) {",
       "if (attempt.expired && attempt.budget == 0) {",
       "the end of the stream is taken at the deadline too")
mutant("budget_never_spent",
       "attempt.budget -= std::min(attempt.budget, result.count);", "",
       "a flooding peer does not keep a call past its deadline",
       tests=["stream_fault_test"])
mutant("closed_hides_loss",
       "if (const int lost = socket_->lost_error(); lost != 0) {\n"
       "        error_.store", "if (const int lost = 0; lost != 0) {\n"
       "        error_.store",
       "a read of a closed connection reports the loss",
       tests=["connection_test"])
mutant("lack_of_memory_is_kept",
       "if (result.error_number == socket_->lost_error()) {", "if (true) {",
       "a lack of memory passes", tests=["stream_fault_test"])
mutant("error_not_kept",
       "if (result.error_number == socket_->lost_error()) {", "if (false) {",
       "a broken connection stays broken")
mutant("eof_not_kept",
       "break;\n  }\n  eof_.store(true, std::memory_order_relaxed);",
       "break;\n  }", "has_ended() knows of the end of the stream",
       at="Receiver::Fill Receiver::nothing_came(")
mutant("lost_is_told_after_the_throw",
       "if (receiver_.has_observer_) receiver_.tell_observer(/*lost=*/true);", "",
       "the observer is told of a loss before the exception")
mutant("lost_is_told_twice",
       "if (has_ended_) [[unlikely]] {\n      return;\n    }", "",
       "an operation ends once", same=
       "the observer finds the connection ended when it is told again")
mutant("top_up_throws",
       "} catch (const ConnectionError&) {\n    return false;\n  }\n}",
       "} catch (const BrokenPipeError&) {\n    return false;\n  }\n}",
       "buffered bytes are read before the error", at="bool Receiver::top_up(")
mutant("top_up_with_error",
       "if (error_number() != 0) return false;", "",
       "buffered bytes are read after the error", at="bool Receiver::top_up(",
       same="fill() throws the error, and top_up() swallows it: the look saves "
       "the exception only")
mutant("top_up_left_out",
       "top_up(attempt.call.operation);", "",
       "read() also takes what the kernel holds")
mutant("limit_one_more",
       "if (match->start > limit_) {", "if (match->start > limit_ + 1) {",
       "a message of more than the limit is refused")
mutant("limit_one_less",
       "if (match->start > limit_) {", "if (match->start >= limit_) {",
       "a message of the limit is read")
mutant("flood_fills_memory",
       "if (size + 1 > longest && size + 1 - longest > limit_) {", "if (false) {",
       "bytes without a separator are bounded")
mutant("twice_the_limit_left_out",
       "if (size / 2 <= limit_ && top_up(operation)) continue;", "",
       "a message up to twice the limit is found before it is refused",
       tests=["stream_fault_test"])
mutant("twice_the_limit_without_end",
       "if (size / 2 <= limit_ && top_up(operation)) continue;",
       "if (top_up(operation)) continue;",
       "bytes without a separator are bounded by twice the limit")
mutant("rest_of_long_line_is_line",
       "in_dropped_line_ = true;", "",
       "the rest of a line that was too long is dropped")
mutant("rest_of_line_stays",
       "in_dropped_line_ = taken.find('\\n') == taken.npos;", "",
       "the line behind a dropped one is read")
mutant("direct_of_too_few",
       "if (socket_->receivable() < out.size() - begin) return false;", "",
       "a large read into the program's memory takes all or nothing")
mutant("direct_not_counted",
       "buffer_.count_past(out.size() - begin);", "",
       "bytes that were never buffered are counted")
mutant("direct_after_close",
       "while (!socket_->is_closed() && buffer_.size() < out.size() &&",
       "while (buffer_.size() < out.size() &&",
       "a large read of a closed connection is as a small one")
mutant("fast_line_in_dropped",
       "if (!in_dropped_line_) {\n    const std::size_t size", "{\n    const std::size_t size",
       "the rest of a dropped line is not read as a line")
mutant("fast_message_over_limit",
       "if (size > limit_) return 0;", "",
       "a buffered message of more than the limit is refused")
mutant("fast_message_in_spite_of_stop",
       "if (!may_take_at_once(call) || !search_.empty()) return 0;",
       "if (!search_.empty()) return 0;",
       "a requested stop wins over a buffered message")
mutant("fast_message_of_last_byte",
       "if (before > 0 && std::memcmp(start, separator.data(), before) != 0) return 0;",
       "", "a buffered message ends with all of its separator")
mutant("read_all_without_bound",
       "if (buffer_.size() > max) {", "if (false) {",
       "read_all() refuses more than its maximum")
mutant("read_all_one_less",
       "if (buffer_.size() > max) {", "if (buffer_.size() >= max) {",
       "read_all() takes its maximum")
mutant("wait_readable_blocks",
       "if (!buffer_.empty() || has_ended()) return true;",
       "if (has_ended()) return true;",
       "wait_readable() sees buffered bytes")
mutant("discard_once",
       "while (error_number() == 0 && fill(attempt) == Fill::kData) {",
       "if (error_number() == 0 && fill(attempt) == Fill::kData) {",
       "discard() drops all that has come")
mutant("discard_until_drops_separator",
       "dropped += take(buffer_.size() - (separator.size() - 1)).size();",
       "dropped += take(buffer_.size()).size();",
       "discard_until() finds a separator that is half received")
mutant("at_eof_with_error",
       "if (!buffer_.empty() || error_number() != 0) return false;",
       "if (!buffer_.empty()) return false;",
       "at_eof() is false on a broken connection", same=
       "the socket has the error too, and is asked behind it")
mutant("at_eof_after_reset",
       "return socket_->at_end() && socket_->lost_error() == 0;",
       "return socket_->at_end();", "at_eof() is false on a broken connection")

mutant("silence_without_end",
       "return end.has_passed() &&\n             (socket_->receivable() == 0 || is_next_message(end));",
       "return end.has_passed() && is_next_message(end);",
       "a message has ended when nothing has come for the silence")
mutant("silence_from_the_read",
       "arrival_.time -= std::max(last->age - LastSegment::kTick, milliseconds(0));",
       "", "the silence is counted from when the bytes came")
mutant("late_reader_merges",
       "return last && last->number == *arrival_.segment + 1 &&", "return false &&",
       "a late reader does not take two messages for one")
mutant("late_reader_tears",
       "return last && last->number == *arrival_.segment + 1 &&", "return last &&",
       "a late reader does not tear a message")
mutant("silence_ignores_max",
       "if (size >= max) return max;", "", "a message ends when the most has come")
mutant("silence_ignores_the_end",
       "if (has_ended()) return size;", "",
       "what came before the end of the stream is a message", same=
       "fill() finds the end again, and that returns the same")
mutant("silence_without_budget",
       "if (budget == 0 && !socket_->at_end()) return std::nullopt;",
       "",
       "a call whose deadline has passed ends while bytes come")
mutant("silence_loses_the_loss",
       "if (error_number() == 0) throw;\n    return Fill::kEof;", "throw;",
       "what came before a reset is returned first")
mutant("silence_forgets_when",
       "} else if (arrival_.position != buffer_.received()) {", "} else if (true) {",
       "a loop counts the silence from when the last byte came, not from its "
       "last look", tests=["stream_reader_test"])
mutant("silence_of_other_reads",
       "} else if (arrival_.position != buffer_.received()) {", "} else if (false) {",
       "what another read has left in the buffer counts from when it came")

source("stream/receive_buffer.cc", "receive_buffer_test", "stream_reader_test",
       "receiver_test")
mutant("large_buffer_kept",
       "if (capacity_ > kKeep) {", "if (false) {",
       "a large buffer is freed once it is empty")
mutant("small_buffer_stays",
       "const bool too_small = capacity_ < kUsual && filled_up_;",
       "const bool too_small = false;", "a buffer that was filled up grows")
mutant("bytes_not_moved",
       "std::memmove(memory_.get(), unread.data(), unread.size());", "",
       "unread bytes move to the front")
mutant("bytes_not_copied",
       "std::memcpy(memory.get(), unread.data(), unread.size());", "",
       "unread bytes go to the larger buffer")
mutant("moved_for_nothing",
       "const bool cheap_to_move = unread.size() <= capacity_ / 4;",
       "const bool cheap_to_move = true;",
       "bytes are not moved again and again", same=
       "it costs time only; the benchmarks look at that")
mutant("base_not_moved",
       "base_ = head();\n  return {memory_.get() + unread.size()",
       "return {memory_.get() + unread.size()",
       "positions follow the bytes that were moved")

source("stream/receive_buffer.h", "receive_buffer_test", "receiver_test")
mutant("filled_up_not_noted",
       "filled_up_ = n == capacity_ - static_cast<std::size_t>(tail() - base_);",
       "", "a buffer that was filled up grows")
mutant("filled_up_not_looked_at",
       "if (empty() && !filled_up_ &&", "if (empty() &&",
       "a buffer that was filled up grows")
mutant("large_buffer_kept_at_once",
       "capacity_ - 1 < kKeep)", "capacity_ > 0)",
       "a large buffer is freed when it is empty")
mutant("take_too_many",
       "std::min(n, static_cast<std::size_t>(tail() - head));", "n;",
       "no more is taken than there is")

source("stream/separator.cc", "separator_test", "stream_reader_test")
mutant("search_begins_anew",
       "scanned_ = found_ ? found_->end : data.size();",
       "scanned_ = 0;",
       "a search goes on where it has stopped", same=
       "it finds the same; only the time is quadratic, and the benchmark and "
       "the test of the time look at that where a machine is quiet")
mutant("other_separators_not_seen",
       "if (!is_for(separators)) begin(separators);",
       "if (sizes_.empty()) begin(separators);",
       "a search for other separators begins anew")
mutant("sizes_only_compared",
       "if (separators[i] != rest.substr(0, sizes_[i])) return false;", "",
       "a search for other separators of the same size begins anew")
mutant("taken_match_stays",
       "if (n >= scanned_ || (found_ && n > found_->start)) {",
       "if (n >= scanned_) {", "a match whose begin is taken is forgotten")
mutant("match_does_not_move",
       "found_ = Match{found_->start - n, found_->end - n};", "",
       "a match moves with the bytes that are taken")
mutant("long_prefix_stays",
       "each.matched = each.fallback[each.matched - 1];\n    }\n  }",
       "break;\n    }\n  }",
       "what began with a byte that is gone does not count",
       at="void SeparatorSearch::took(")
mutant("long_state_stays",
       "for (Long& each : long_) each.matched = 0;", "",
       "a search that begins anew forgets what it has seen")
mutant("no_fallback",
       "matched = fallback[matched - 1];", "matched = 0;",
       "a long separator is found behind a beginning of itself",
       at="SeparatorSearch::Long::find(")
mutant("later_match_wins",
       "if (!match || (best && !is_better(*match, *best))) continue;",
       "if (!match) continue;", "the separator that ends first is found",
       same="the data are cut behind each match, so that a later one ends no "
       "later; only of two that end at the same byte the longer could win, and "
       "for that see separator/longer_wins")

source("stream/separator.h", "separator_test", "stream_reader_test")
mutant("longer_wins",
       "(match.end == other.end && match.start > other.start);", "false;",
       "of two separators that end at the same byte the shorter is found")
mutant("half_received_missed",
       "std::size_t i = std::max(from, before);",
       "std::size_t i = from + before;",
       "a separator that was half received is found")

source("stream/sole_reader.h", "sole_reader_test", "receiver_test",
       "stream_reader_test")
mutant("second_reader",
       "if (reading_.exchange(true, std::memory_order_acquire)) {",
       "if (reading_.exchange(true, std::memory_order_acquire) && false) {",
       "a second reader is refused")

# --- The network ---

source("socket.cc", "socket_test", "net_fault_test", "stream_writer_test",
       "stream_reader_test", "open_connection_test", "cancel_test",
       "stream_fault_test")
mutant("any_socket_is_taken",
       'if (type != SOCK_STREAM) return {EPROTOTYPE, "not a stream socket"};', "",
       "a datagram socket is refused")
mutant("listening_socket_is_taken",
       "listens != 0) {", "false) {", "a listening socket is refused")
mutant("receive_after_stop",
       "if (wait.stop.stop_requested()) return {IoStatus::kStopped};\n"
       "  if (is_closed()", "if (is_closed()",
       "a requested stop wins over bytes")
mutant("receive_after_close",
       "if (is_closed()) return {IoStatus::kClosed};\n  using std",
       "using std", "nothing is received after close()")
mutant("plain_receive_for_ever",
       "if (timeout < limit / 2 || longest(timeout) > limit) {",
       "if (timeout < limit / 2) {",
       "an old SO_RCVTIMEO does not outlast the deadline")
mutant("timeout_kept_short",
       "if (timeout < limit / 2 || longest(timeout) > limit) {",
       "if (longest(timeout) > limit) {",
       "a short SO_RCVTIMEO is not kept", same=
       "the poll behind it waits for the rest of the time")
mutant("plain_timeout_ends_call",
       "if (result.status != IoStatus::kTimeout) return result;\n    }\n  }\n  // Nothing",
       "return result;\n    }\n  }\n  // Nothing",
       "the deadline is kept exactly: a poll follows the recv()")
mutant("false_ready_ends_call",
       "if (result.status != IoStatus::kTimeout) return result;\n"
       "    result = pause(refused, wait, *receive_waker_);",
       "return result;\n    result = pause(refused, wait, *receive_waker_);",
       "a poll that was wrong is repeated",
       tests=["stream_fault_test", "net_fault_test"])
mutant("error_of_another_not_awaited",
       "const int lost = error_of_another_call();", "const int lost = 0;",
       "a reset that a send has met is no end of the stream")
mutant("broken_pipe_not_explained",
       "await_error_of_another_call();\n    return {IoStatus::kError, 0, EPIPE};",
       "return {IoStatus::kError, 0, EPIPE};",
       "a send waits for the note of the reset that another call was given",
       tests=["stream_writer_test"], same=
       "only a send in the instant in which another call is given the "
       "reset can miss the note")
mutant("shortage_is_loss",
       "if (!is_shortage(error_number)) lost_error_ = error_number;",
       "lost_error_ = error_number;", "a lack of memory is no loss",
       tests=["stream_fault_test"])
mutant("loss_not_kept",
       "if (!is_shortage(error_number)) lost_error_ = error_number;", "",
       "lost_error() tells what has broken the connection")
mutant("signal_is_error",
       "if (got < 0 && error_number != EINTR && !would_block(error_number)) {",
       "if (got < 0 && !would_block(error_number)) {",
       "a signal is no error", at="IoResult Socket::receive_now(",
       tests=["short_io_test"])
mutant("refused_timeout_ignored",
       "return false;\n  }\n  receive_timeout_ = timeout;",
       "}\n  receive_timeout_ = timeout;",
       "a kernel that takes no SO_RCVTIMEO is polled",
       tests=["stream_fault_test", "net_fault_test"])
mutant("flag_after_look",
       "in_plain_receive_.store(true);\n    if (is_closed()) {",
       "const bool was_closed = is_closed();\n"
       "    in_plain_receive_.store(true);\n    if (was_closed) {",
       "close() wakes a recv() that begins in the same instant", same=
       "the window is between the look and the store: no test can stop there; "
       "the model of the closing protocol has the order")
mutant("flag_not_set",
       "in_plain_receive_.store(true);", "", "close() wakes a blocked recv()")
mutant("plain_eintr_repeated",
       "if (timeout.count() > 0) return {IoStatus::kTimeout};", "",
       "signals do not stretch the deadline",
       tests=["stream_fault_test", "socket_test"])
mutant("plain_eintr_ends",
       "if (error_number == EINTR) continue;\n    // The program", "// The program",
       "a signal does not end a recv() without a deadline", same=
       "the poll behind it waits, and the recv() is repeated")
mutant("closed_not_seen_by_plain",
       "const bool closed = is_closed();", "const bool closed = false;",
       "close() is told from the peer's end",
       at="IoResult Socket::receive_plain(")
mutant("waker_opened_late",
       "if (is_closed()) return {IoStatus::kClosed};\n"
       "    if (wait.stop.stop_requested()) return {IoStatus::kStopped};\n"
       "    const auto look_again",
       "const auto look_again",
       "a wait looks at closed_ before it polls",
       at="IoResult Socket::wait_for(")
mutant("closed_not_seen_after_poll",
       "if (is_closed()) return {IoStatus::kClosed};\n"
       "    if (wait.stop.stop_requested()) return {IoStatus::kStopped};\n"
       "    if (result.status", "if (result.status",
       "a wait that ends by close() says so",
       at="IoResult Socket::wait_for(")
mutant("no_descriptor_no_wait",
       "internal::sleep_until(look_again());\n      const bool ready",
       "const bool ready", "a wait that cannot poll does not make a busy loop",
       tests=["stream_fault_test"])
mutant("unready_without_poll",
       "const bool ready = events != POLLIN || has_something_to_receive();",
       "const bool ready = events != POLLIN;",
       "a wait that cannot poll sees that bytes have come",
       tests=["stream_fault_test"])
mutant("no_pause",
       "if (refused == 0) return {};", "return {};",
       "a socket that refuses, ready though it is, does not make a busy loop",
       at="IoResult Socket::pause(", tests=["stream_fault_test"])
mutant("pause_past_deadline",
       "if (wait.deadline.has_passed()) return {IoStatus::kTimeout};", "",
       "a socket that refuses, ready though it is, does not outlast the deadline",
       at="IoResult Socket::pause(", tests=["stream_fault_test"])
mutant("too_many_pieces",
       "const std::size_t count = std::min(pieces.size(), kMaxPieces);",
       "const std::size_t count = pieces.size();",
       "no more pieces are given than the kernel takes")
mutant("no_memory_for_pieces",
       "used = count;", "", "all pieces are given", same=
       "the caller sends the rest: only slower")
mutant("send_after_close",
       "if (is_closed()) return {IoStatus::kClosed};\n    {\n", "{\n",
       "nothing is sent after close()", same=
       "the kernel refuses it too, and the answer is the same",
       at="IoResult Socket::send_with(")
mutant("sigpipe",
       "piece.size,\n                  MSG_NOSIGNAL | MSG_DONTWAIT);",
       "piece.size,\n                  MSG_DONTWAIT);", "a send raises no SIGPIPE",
       tests=["stream_writer_test", "socket_test"])
mutant("sigpipe_of_pieces",
       "::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);",
       "::sendmsg(fd_.get(), &message, MSG_DONTWAIT);",
       "a send of several pieces raises no SIGPIPE",
       tests=["fault_test"])
mutant("send_blocks",
       "piece.size,\n                  MSG_NOSIGNAL | MSG_DONTWAIT);",
       "piece.size,\n                  MSG_NOSIGNAL);", "a send never blocks")
mutant("send_eintr_is_error",
       "if (error_number == EINTR) continue;\n      if (would_block",
       "if (would_block", "a signal does not end a send",
       tests=["short_io_test"])
mutant("close_twice",
       "if (closed_.exchange(true) || !process_.is_here()) return;",
       "if (closed_.exchange(true)) return;",
       "close() in a forked child sends no FIN", tests=["fork_test"])
mutant("close_sends_no_fin",
       "::shutdown(fd_.get(), SHUT_WR);\n  send_waker_", "send_waker_",
       "close() sends a FIN")
mutant("close_wakes_no_reader",
       "receive_waker_->signal();\n  const bool is_plain", "const bool is_plain",
       "close() wakes a read that polls")
mutant("close_wakes_no_writer",
       "send_waker_->signal();\n  // FIN", "// FIN",
       "close() wakes a write that polls")
mutant("close_wakes_no_plain_reader",
       "if (wake_pending_.exchange(false)) ::shutdown(fd_.get(), SHUT_RD);", "",
       "close() wakes a blocked recv()")
mutant("wakes_before_acknowledged",
       "if (unacknowledged() > 1 && !wake_at_.has_passed()) {", "if (false) {",
       "the last reply arrives though a thread is blocked in a read",
       tests=["one_client_server_test"])
mutant("waits_for_acknowledged",
       "if (unacknowledged() > 1 && !wake_at_.has_passed()) {",
       "if (unacknowledged() > 1) {",
       "a blocked read is woken though the client acknowledges nothing",
       tests=["one_client_server_test"])
mutant("linger_step_without_bound",
       "for (int i = 0; i < 16; ++i) {", "for (;;) {",
       "a flooding peer does not keep the one that lingers", same=
       "on loopback the sender and the one that drops share the CPU, so that "
       "the buffer runs empty sooner or later")
mutant("linger_ends_at_data",
       "if (got > 0 || (got < 0 && errno == EINTR)) continue;",
       "if (got < 0 && errno == EINTR) continue;",
       "lingering drops what the peer still sends")
mutant("linger_not_at_all",
       "if (step == LingerStep::kOver || unacknowledged() <= 1 ||",
       "if (true ||", "lingering waits until the last byte is acknowledged",
       tests=["socket_test", "last_message_test", "client_test"])
mutant("linger_past_deadline",
       "unacknowledged() <= 1 ||\n        deadline.has_passed()) {",
       "unacknowledged() <= 1) {", "lingering ends at the deadline",
       tests=["socket_test", "shutdown_test"])
mutant("linger_spins",
       "(ready && step == LingerStep::kNothing)) {", "false) {",
       "lingering does not spin if recv() fails although poll() is ready",
       tests=["stream_fault_test"])
mutant("child_receives",
       "if (!process_.is_here()) return {IoStatus::kClosed};\n  for (;;) {",
       "for (;;) {", "a forked child takes no byte of the parent's",
       tests=["fork_test"])
mutant("child_sends_fin",
       "if (!process_.is_here()) return internal::system_error(EBADF);", "",
       "a forked child sends no FIN for the parent", tests=["fork_test"])
mutant("child_lingers",
       "if (!process_.is_here()) return LingerStep::kOver;", "",
       "a forked child drops no byte of the parent's", tests=["fork_test"])
mutant("fin_put_aside",
       "receivable();\n  pollfd", "pollfd",
       "a FIN that comes during a call is seen", same=
       "whether the kernel puts the FIN aside depends on the instant at which "
       "it comes")
mutant("at_end_without_close",
       "if (is_closed()) return true;\n  const Counted", "const Counted",
       "a closed socket is at its end")
mutant("at_end_takes_shortage",
       "if (would_block(errno) || is_shortage(errno)) return false;",
       "if (would_block(errno)) return false;",
       "a lack of memory is no end", tests=["stream_fault_test"])

source("listener.cc", "listener_test", "net_fault_test", "fault_test",
       "one_client_server_test", "open_connection_test")
mutant("one_death_ends_accept",
       "case ECONNABORTED:\n", "", "a connection that died is passed over",
       tests=["net_fault_test", "fault_test"])
mutant("refused_option_ignored",
       "return {.error = error, .operation = option.text};", "static_cast<void>(error);",
       "an option that the kernel refuses is an error",
       tests=["net_fault_test", "fault_test"])
mutant("dual_stack_socket",
       'Option{six, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY"}',
       'Option{false, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY"}',
       "IPv4 and IPv6 have sockets of their own")
mutant("ports_differ",
       "if (any_port && !bound.addresses.empty()) {", "if (false) {",
       "all addresses have the same port")
mutant("missing_family_is_error",
       "if (no_family && !last_chance) continue;", "",
       "a machine without IPv6 is served on IPv4",
       tests=["net_fault_test"])
mutant("nothing_is_bound",
       "if (no_family && !last_chance) continue;", "if (no_family) continue;",
       "a listener without any socket is an error",
       tests=["listener_test", "net_fault_test"])
mutant("port_in_use_not_tried_again",
       "again = any_port && !bound.sockets.empty() &&",
       "again = false &&", "another port is tried if one is half in use",
       tests=["fault_test"])
mutant("bind_error_swallowed",
       "if (bound.error) {\n    throw_os_error", "if (false) {\n    throw_os_error",
       "a port in use is an error")
mutant("backlog_of_zero",
       "if (options.backlog < 1) {", "if (options.backlog < 0) {",
       "a backlog of 0 is refused")
mutant("inherited_sockets",
       "&size, SOCK_CLOEXEC));", "&size, 0));",
       "an accepted socket is not inherited",
       tests=["listener_test", "process_manners_test"])
mutant("closed_is_error",
       "if (error_number == EINVAL && closed_.load()) {", "if (false) {",
       "close() is no error of accept4()", same=
       "only a close() between the poll and accept4() comes here")
mutant("one_try",
       "if (!says_nothing_of_the_next(error_number)) break;", "break;",
       "the next connection is tried after one that died",
       tests=["net_fault_test", "fault_test"])
mutant("accept_ignores_stop",
       "if (wait.stop.stop_requested()) return {.status = IoStatus::kStopped};",
       "", "accept() ends at the stop")
mutant("accept_ignores_close",
       "if (closed_.load()) return {.status = IoStatus::kClosed};", "",
       "accept() ends at close()")
mutant("accept_past_deadline",
       "if (wait.deadline.has_passed()) return {.status = IoStatus::kTimeout};",
       "", "false alarms do not outlast the deadline", same=
       "the poll behind it ends at the deadline too; only a poll that is ready "
       "each time would go on", tests=["net_fault_test"])
mutant("stop_wakes_nobody",
       "[this]() noexcept { waker_->signal(); });", "[]() noexcept {});",
       "accept() is woken by the stop")
mutant("accept_busy_loop",
       "const bool pause = false_alarms >= kFalseAlarms;",
       "const bool pause = false;", "false alarms do not make a busy loop",
       tests=["listener_test", "net_fault_test"])
mutant("closed_signal_cleared",
       "if (!closed_.load()) waker_->clear();", "waker_->clear();",
       "close() wakes all threads in accept()", same=
       "the shutdown of the listening sockets wakes them too")
mutant("stop_signal_stays",
       "if (!closed_.load()) waker_->clear();", "",
       "a stop does not make the next accept() a busy loop")
mutant("close_leaves_port",
       "if (!is_adopted_) ::shutdown(socket.get(), SHUT_RDWR);",
       "static_cast<void>(socket);",
       "a closed listener refuses clients")
mutant("close_wakes_nobody",
       "waker_->signal();\n}\n\n}  // namespace tcpip", "}\n\n}  // namespace tcpip",
       "close() wakes accept()", same=
       "the shutdown of the listening sockets wakes it too")
mutant("absent_address_not_told",
       "if (absent) bound.absent.push_back(address);", "",
       "an address of the host that is not there is named in the log",
       tests=["connect_fault_test"])
mutant("does_not_wait_for_address",
       "while (options.wait_for_address &&", "while (false &&",
       "a listener waits for an address that is not there yet")
mutant("waits_for_address_past_deadline",
       "if (!wait.stop.stop_requested() && wait.deadline.has_passed()) {",
       "if (false) {", "waiting for an address ends at the deadline")
mutant("waiting_for_address_ignores_stop",
       "if (result.status == IoStatus::kStopped) {\n    throw Cancelled",
       "if (false) {\n    throw Cancelled", "a stop ends waiting for an address")
mutant("adopts_deaf_socket",
       "option_of(fd, SO_ACCEPTCONN, listens) != 0 || listens == 0", "false",
       "a socket that does not listen is refused")
mutant("adopts_datagrams",
       'if (type != SOCK_STREAM) refuse(EPROTOTYPE, "not a stream socket");', "",
       "a datagram socket is refused")
mutant("adopted_in_blocking_mode",
       "::fcntl(mine.get(), F_SETFL, flags | O_NONBLOCK) != 0", "false",
       "accepting from an adopted socket does not block")
mutant("adopted_socket_shut_down",
       "if (!is_adopted_) ::shutdown", "::shutdown",
       "an adopted socket goes on listening")
mutant("file_stays_at_close",
       "if (file_) file_->remove();", "", "close() removes a Unix-domain file",
       tests=["unix_socket_test"])
mutant("mode_not_set",
       "if (file && options.mode != 0 &&", "if (false &&",
       "a Unix-domain file has the permissions of the options",
       tests=["unix_socket_test"])
mutant("stale_file_stays",
       "if (*obstacle != '\\0') return {error, obstacle};", "return {error, obstacle};",
       "the file of a server that was killed is replaced",
       tests=["unix_socket_test"])
mutant("child_closes_parents",
       "if (!process_.is_here()) {\n    for (UniqueFd& socket : sockets_) "
       "socket.reset();\n    return;\n  }", "",
       "close() in a forked child leaves the parent's socket",
       tests=["fork_test"])

source("connect.cc", "connect_test", "net_fault_test", "open_connection_test",
       "client_test")
mutant("families_in_a_row",
       "if (other != order.end()) std::rotate(next, other, other + 1);", "",
       "IPv4 and IPv6 addresses are tried by turns")
mutant("next_begins_late",
       "kAttemptDelay, deadline.remaining() / left));",
       "deadline.remaining(), deadline.remaining() / left));",
       "a dead address costs a quarter of a second")
mutant("deadline_is_not_shared",
       "kAttemptDelay, deadline.remaining() / left));",
       "kAttemptDelay, deadline.remaining()));",
       "every address is tried before the deadline")
mutant("next_waits_for_its_turn",
       "attempt.error = error;\n  next_at_ = "
       "Deadline::after(std::chrono::seconds(0));",
       "attempt.error = error;", "an address that fails costs nothing")
mutant("pending_not_polled",
       "fds_.push_back({polls ? attempt.fd.get() : -1,",
       "fds_.push_back({polls && i + 1 == begun_ ? attempt.fd.get() : -1,",
       "an address that was tried first may still answer")
mutant("connect_ignores_stop",
       "if (wait.stop.stop_requested() || interrupt_.requested) {",
       "if (interrupt_.requested) {", "a stop ends connecting")
mutant("connect_ignores_the_request",
       "if (wait.stop.stop_requested() || interrupt_.requested) {",
       "if (wait.stop.stop_requested()) {",
       "request_close() ends connecting", tests=["request_close_test"])
mutant("interrupt_not_taken_back",
       "if (fds_.back().revents != 0) interrupt_.waker.clear();", "",
       "a wake-up for another reason does not make connecting spin",
       tests=["reconnecting_client_test", "request_close_test"])
mutant("passed_deadline_gets_no_look",
       "const bool is_last_look = all_have_begun && wait.deadline.has_passed();",
       "if (all_have_begun && wait.deadline.has_passed()) raise(peer);\n"
       "    const bool is_last_look = false;",
       "with a deadline that has passed an address is tried all the same")
mutant("poll_failure_ignored",
       "if (ready.status == IoStatus::kError) {\n      for (Attempt",
       "if (false) {\n      for (Attempt",
       "a poll that fails is an error, not a busy loop",
       tests=["net_fault_test"])
mutant("error_not_fetched",
       "if (error_number != 0) {\n    fail(attempt,", "if (false) {\n    fail(attempt,",
       "an address that refuses is not connected")
mutant("connects_without_bound",
       "if (attempt.connects == kMaxConnects) {", "if (false) {",
       "a connect() that is always interrupted is no busy loop",
       tests=["net_fault_test"])
mutant("connected_to_itself",
       "if (connected == local) {", "if (false) {",
       "a socket that is connected to itself is refused")
mutant("self_connect_at_once_final",
       "if (++attempt.self_connects == kMaxSelfConnects) {", "if (true) {",
       "one that has met itself is tried from another port")
mutant("stays_non_blocking",
       "::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0", "false",
       "a connected socket is in blocking mode")
mutant("local_family_ignored",
       "if (local.family() == peer.family()) return local;", "return local;",
       "each address is bound to a local one of its family")
mutant("local_port_not_shared",
       "::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);",
       "static_cast<void>(on);", "all addresses may be tried from one local port")
mutant("answers_left_out",
       "if (attempts_.size() == 1 || !differ) answers.clear();", "answers.clear();",
       "the error says what each address said")

mutant("full_unix_queue_is_error",
       "case EAGAIN:\n", "case ENOTUNIQ:\n",
       "a client waits for a Unix-domain server whose queue is full",
       tests=["unix_socket_test"])
mutant("full_unix_queue_busy_loop",
       "const bool polls = attempt.connect_at.is_never();", "const bool polls = true;",
       "waiting for room in a Unix-domain queue is no busy loop",
       tests=["unix_socket_test"])
mutant("unix_local_host",
       'if (connect.local_host.starts_with("unix:")) {', "if (false) {",
       "a client makes no Unix-domain file", tests=["unix_socket_test"])

source("net/socket_file.cc", "socket_file_test", "unix_socket_test")
mutant("regular_file_removed",
       'if (!S_ISSOCK(file.st_mode)) return "the file is not a socket";', "",
       "a file that is not a socket stays")
mutant("live_file_removed",
       'if (is_bound(address)) return "a process is listening there";', "",
       "a server that listens keeps its file")
mutant("probe_connects",
       "SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK", "SOCK_STREAM | SOCK_CLOEXEC",
       "a server does not notice that it is looked for")
mutant("abstract_name_has_file",
       "if (path[0] == '\\0') return", "if (false) return",
       "an abstract name has no file")
mutant("replaced_meanwhile",
       "(again.st_dev != file.st_dev || again.st_ino != file.st_ino)", "false",
       "a file that another server has just made stays", same=
       "only a server that starts between two system calls comes here")
mutant("successor_loses_file",
       "file.st_dev == device_ &&\n      file.st_ino == inode_", "true",
       "the file of a successor stays")
mutant("child_removes_file",
       "if (!process_.is_here() || ", "if (", "a child leaves its parent's file")
mutant("removed_twice",
       "!std::exchange(exists_, false)", "!exists_",
       "a file is removed once")

source("base/poller.cc", "poller_test", "socket_test", "wait_test",
       "stream_reader_test")
mutant("waker_opened_twice",
       "if (fd_.compare_exchange_strong(none, made.get())) made.release();",
       "fd_ = made.release();",
       "two threads that open a waker share one descriptor",
       tests=["poller_test"])
mutant("waker_opened_again",
       "if (none >= 0) return {};", "",
       "an open waker is not opened again", same=
       "the exchange behind it keeps the first descriptor: only slower")
mutant("waker_leaks",
       "if (fd >= 0) ::close(fd);", "", "a waker closes its descriptor")
mutant("poll_ends_early",
       "if (is_last) return {IoStatus::kTimeout};",
       "return {IoStatus::kTimeout};", "a long poll lasts until its deadline")
mutant("long_poll_in_one_piece",
       "is_last = left <= kLongestPoll;\n"
       "      timeout = timespec_of(std::min<nanoseconds>(left, kLongestPoll));",
       "timeout = timespec_of(left);",
       "a deadline holds though the process was stopped meanwhile",
       tests=["process_manners_test"])
mutant("signal_ends_poll",
       "} else if (errno != EINTR) {", "} else {",
       "a signal does not end a poll")
mutant("wait_ready_after_stop",
       "if (wait.stop.stop_requested()) return {IoStatus::kStopped};\n"
       "  if (const", "if (const", "a requested stop wins over what is ready", same=
       "the stop callback is then called at once, and the look behind the poll "
       "finds the stop; without the first look a call costs a poll more")
mutant("stop_does_not_signal",
       "[&waker]() noexcept { waker.signal(); });", "[]() noexcept {});",
       "the stop wakes a poll")
mutant("stop_signal_stays",
       "waker.clear();\n    return {IoStatus::kStopped};",
       "return {IoStatus::kStopped};", "a stop does not end the next wait")
mutant("stop_not_told",
       "waker.clear();\n    return {IoStatus::kStopped};", "waker.clear();",
       "a stop is told from a signal")

source("net/lookup.cc", "lookup_test", "fork_test", "connect_test",
       "address_test", "process_manners_test")
mutant("same_name_twice",
       "if (auto running = find(request)) return running;\n  if (find_place()",
       "if (find_place()", "one look-up serves all who ask for the same")
mutant("same_name_after_wait",
       "wait_for_place(request, wait, peer);\n"
       "    if (auto running = find(request)) return running;",
       "wait_for_place(request, wait, peer);",
       "one that has waited for a place joins a look-up for the same name",
       same="then find_place() may be null, and that is a crash: but only if "
       "another thread has taken the place between, for which a test needs 33 "
       "threads in one order")
mutant("callers_not_woken",
       "lookup.done = true;\n  lookup.changed.notify_all();",
       "lookup.done = true;", "the answer wakes all who wait for it")
mutant("place_not_freed",
       "std::replace(lookups.running.begin(), lookups.running.end(), &lookup,\n"
       "               static_cast<Lookup*>(nullptr));", "",
       "a look-up that is done frees its place")
mutant("waiting_not_woken",
       "i->changed.notify_all();", "", "a free place wakes those that wait for one")
mutant("waiting_stays_in_table",
       "*link = waiting.next;\n  check", "check",
       "a caller that waits no more leaves the table")
mutant("stop_ignored",
       'case WaitResult::kStopped:\n      throw CancelledError("resolve", peer);',
       "case WaitResult::kStopped:\n      break;",
       "a look-up ends at the stop")
mutant("deadline_ignored",
       'throw TimeoutError("resolve", peer, /*queued=*/false, detail);', "break;",
       "a look-up ends at the deadline")
mutant("failed_answer_wakes_nobody",
       "} catch (...) {\n    answer.status = EAI_MEMORY;  // wakes the callers in "
       "any case\n  }",
       "} catch (const std::logic_error&) {\n  }",
       "a look-up that lacks memory wakes its callers", tests=["fault_test", "fail_nth_test"])
mutant("same_address_twice",
       "if (std::find(known.begin(), known.end(), address) == known.end()) {",
       "if (true) {", "each address is tried once")
mutant("no_address_is_answer",
       "if (answer.addresses.empty()) answer.status = EAI_NONAME;", "",
       "an answer without addresses is an error")
mutant("list_leaks",
       "list, &::freeaddrinfo);", "nullptr, &::freeaddrinfo);",
       "the answer of the system is freed", same=
       "only the lane with leak detection can notice it, and it does")
mutant("child_has_parents_lookups",
       "renew_in_children<lookups>();\n  std::shared_ptr<Lookup> lookup;",
       "std::shared_ptr<Lookup> lookup;",
       "a forked child has none of its parent's look-ups", tests=["fork_test"])
mutant("thread_not_awaited",
       "return lookup->begun;\n  });", "return true;\n  });",
       "a look-up's thread keeps the module loaded before the caller goes",
       same="the thread must not have begun when the caller unloads the module: "
       "no test can hold it there")

# --- Threads and processes ---

source("base/workers.cc", "workers_test", "shutdown_test", "callback_thread_test",
       "process_manners_test")
mutant("signals_not_blocked",
       "::pthread_sigmask(SIG_SETMASK, &blocked, &saved_);",
       "::pthread_sigmask(SIG_BLOCK, nullptr, &saved_);",
       "a thread has all signals blocked that others send")
mutant("crash_signals_blocked",
       "::sigdelset(&blocked, caused);", "static_cast<void>(caused);",
       "the program's crash handler runs in a thread of ours",
       tests=["workers_test", "process_manners_test"])
mutant("signals_stay_blocked",
       "~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }",
       "~SignalsBlocked() {}", "the thread that starts another keeps its mask")
mutant("failed_hook_ends_process",
       'if (options.hook) run_hook(options, result.get());',
       "if (options.hook) options.hook(options.role);\n"
       "    if (result) result->set_done();", "a hook that throws is logged")
mutant("every_hook_awaited",
       "const bool is_required = options.hook.target<RequiredHook>() != nullptr;",
       "const bool is_required = options.hook != nullptr;",
       "start() does not wait for a hook that is not required",
       tests=["callback_thread_test"])
mutant("hook_not_awaited",
       "[this]() TCPIP_REQUIRES(mutex_) { return done_; });",
       "[this]() TCPIP_REQUIRES(mutex_) { return true; });",
       "start() waits for a required hook")
mutant("hook_wait_not_in_table",
       "if (wait.is_allowed()) {\n        changed_.wait", "if (true) {\n        changed_.wait",
       "start() does not wait for a hook that waits for it",
       at="std::optional<ThreadStartError> wait(ThreadNumber thread)")
mutant("hook_still_waited_for",
       "ThreadWait::end(this);", "",
       "a thread whose hook has returned may wait for the one that has started it")
mutant("refusal_ignored",
       "throw *refusal;", "", "start() throws what a hook refuses")
mutant("refused_thread_works",
       "if (!result || !result->is_refused()) {", "if (true) {",
       "a thread that its hook refuses does not work")
mutant("refused_thread_left",
       "join_one(number);\n    throw *refusal;", "throw *refusal;",
       "nothing is left of a refused thread when start() throws")
mutant("refusal_lost",
       "if (!is_awaited_) return false;", "",
       "a refusal that nobody waits for is logged, and the thread works")
mutant("number_not_adopted",
       "adopt_thread_number(number);", "", "a thread has the number it was given")
mutant("module_not_kept",
       "keep_module_loaded();", "", "a thread keeps its module loaded",
       tests=["process_manners_test"], same=
       "the plugin of the test is a file of its own, which is not built "
       "anew for a mutant")
mutant("name_not_set",
       "::pthread_setname_np(::pthread_self(), name.data());", "",
       "a thread has a name")
mutant("work_destroyed_late",
       "work = nullptr;", "", "a thread destroys its work itself", same=
       "std::thread destroys the function in the same thread, right after")
mutant("start_error_not_translated",
       'throw Error(e.code(), "start thread", name);', "throw;",
       "a thread that cannot be started is an Error",
       tests=["workers_test", "fault_test"])
mutant("start_after_refuse",
       "if (refuses_) return false;", "", "no thread is started after refuse()")
mutant("failed_start_stays",
       "remove(number);\n    throw;", "throw;",
       "join() does not wait for a thread that could not be started",
       tests=["fault_test", "fail_nth_test"])
mutant("start_wakes_no_join",
       "place->thread = std::move(thread);\n    changed_.notify_all();",
       "place->thread = std::move(thread);",
       "a join() that came before the jthread was stored is woken")
mutant("end_not_noted",
       "find(number)->ended = true;", "", "all_ended() knows that a thread has ended")
mutant("end_not_told",
       "if (on_end_) on_end_();", "", "on_end is called")
mutant("join_one_thread",
       "join_one(number);\n    last = number;", "join_one(number);\n    return all_ended();",
       "join() waits for all threads")
mutant("join_itself",
       "if (!wait.is_allowed()) return;\n  std::jthread", "std::jthread",
       "a thread does not join itself")
mutant("join_before_start",
       "return entry == entries_.end() || entry->thread.joinable();",
       "return true;",
       "a second join() waits until the first has joined")
mutant("join_not_entered",
       "const ThreadWait wait(number);\n  if (!wait.is_allowed()) return;", "",
       "a join() is entered into the table of waits")
mutant("remove_wakes_nobody",
       "gone.splice(gone.end(), entries_, find(number));\n  changed_.notify_all();",
       "gone.splice(gone.end(), entries_, find(number));",
       "a join() by two threads wakes both")
mutant("not_let_go",
       "if (entry.thread.joinable()) entry.thread.detach();", "",
       "the destructor detaches a thread that it cannot join", same=
       "a std::jthread joins when it is destroyed, here with the shared State, "
       "by the last thread: that is the thread itself, and the mutant crashes; "
       "a test notices")
mutant("ended_thread_is_current",
       "return e.number == self && !e.ended &&", "return e.number == self &&",
       "a thread whose work has returned is no worker any more")
mutant("destructor_does_not_join",
       "refuse();\n  join();\n  state_->let_go();", "refuse();\n  state_->let_go();",
       "the destructor waits for the threads")
mutant("child_joins",
       "if (!process_.is_here()) {\n    keep_for_ever(state_);\n    return;\n  }\n"
       "  refuse();", "refuse();",
       "the destructor joins nothing in a forked child",
       tests=["fork_test", "workers_test"], same=
       "its owners are never destroyed in a child: they are kept")
mutant("join_without_reference",
       "const std::shared_ptr<State> state = state_;\n  return state->join();",
       "return state_->join();",
       "join() survives the destruction of its object", same=
       "a use after free; the lane with ASan notices it")

source("realtime.cc", "realtime_test")
mutant("priority_not_checked",
       "if (priority_ < lowest || priority_ > highest) {", "if (false) {",
       "a priority that the policy does not have is refused")
mutant("cpu_not_checked",
       "if (cpu < 0 || cpu >= CPU_SETSIZE) {", "if (false) {",
       "a CPU that there cannot be is refused")
mutant("roles_ignored",
       "if (!roles.empty() &&", "if (false &&",
       "threads of other roles are left alone")
mutant("affinity_refusal_ignored",
       "if (::sched_setaffinity(0, sizeof cpus_, &cpus_) != 0) {",
       "if (::sched_setaffinity(0, sizeof cpus_, &cpus_) != 0 && false) {",
       "refused CPUs are an error", same=
       "the look at what the kernel has set finds it too")
mutant("some_cpus_are_enough",
       "if (!CPU_EQUAL(&got, &cpus_)) {", "if (false) {",
       "CPUs that the kernel has left out are an error")
mutant("scheduler_refusal_ignored",
       "if (::sched_setscheduler(0, policy_.value, &parameters) == 0) return;",
       "::sched_setscheduler(0, policy_.value, &parameters);\n    return;",
       "a refused priority is an error")

source("base/thread_number.cc", "thread_number_test", "workers_test",
       "callback_queue_test", "shutdown_test")
mutant("number_zero",
       "return ++last;", "return last++;", "no thread has the number 0")
mutant("number_given_twice",
       "return ++last;", "return last + 1;", "no two threads have one number")
mutant("wait_for_itself",
       "if (at == waiter_) return;", "if (at == waiter_ && at != other) return;",
       "a thread does not wait for itself")
mutant("chain_not_followed",
       "at = next;", "at = 0;", "a circle of three threads is found")
mutant("wait_not_entered",
       "next_ = waits.first;\n  waits.first = this;\n}", "next_ = nullptr;\n}",
       "a wait is entered into the table")
mutant("wait_not_left",
       "*link = next_;", "static_cast<void>(link);",
       "a wait that has ended leaves the table")
mutant("end_of_all",
       "if (wait->what_ == what) wait->other_ = 0;", "wait->other_ = 0;",
       "the end of one work ends the waits for it alone")
mutant("end_ignored",
       "if (wait->what_ == what) wait->other_ = 0;", "static_cast<void>(what);",
       "the end of a work ends the waits for it")
mutant("child_has_parents_waits",
       "renew_in_children<waits>();\n  const MutexLock", "const MutexLock",
       "a forked child has none of its parent's waits", tests=["fork_test"], same=
       "a child that fork() makes while another thread has the lock of "
       "the table, for some nanoseconds, would hang; no test can time that")

source("base/process.cc", "fork_test")
mutant("child_not_counted",
       "::pthread_atfork(nullptr, nullptr, &count_child);", "0;",
       "a forked child knows that it is one")
mutant("kept_object_destroyed",
       "while (!kept.compare_exchange_weak(node->next, node)) {\n  }",
       "delete node;", "an object that a child must not destroy is kept", same=
       "the parts of such an object look for themselves, and do nothing "
       "in a child")

source("process_mark.h", "fork_test")
mutant("child_is_here",
       "return number_ == process_number.load(std::memory_order_relaxed);",
       "return true;", "a forked child may only destroy objects")

source("base/mutex.h", "wait_test", "callback_queue_test")
mutant("stop_looked_at_late",
       "if (wait.stop.stop_requested()) return WaitResult::kStopped;\n"
       "    if (done())", "if (done())",
       "a requested stop wins over what is ready")
mutant("stop_during_wait",
       "if (wait.stop.stop_requested()) return WaitResult::kStopped;\n"
       "    return ready", "return ready",
       "a stop that ends a wait is told from its deadline")
mutant("deadline_before_ready",
       "if (done()) return WaitResult::kReady;\n"
       "    if (wait.deadline.has_passed()) return WaitResult::kTimeout;",
       "if (wait.deadline.has_passed()) return WaitResult::kTimeout;\n"
       "    if (done()) return WaitResult::kReady;",
       "what is ready is taken after the deadline too")

source("base/rate_limit.h", "rate_limit_test", "peer_log_test")
mutant("held_back_forgotten",
       "return std::exchange(held_, 0);\n  }\n  // An event may", "held_ = 0; return 1;\n  }\n  // An event may",
       "what is held back is counted")
mutant("burst_one_more",
       "return (burst_ - 1) * interval_;", "return burst_ * interval_;",
       "no more than the burst passes at once")
mutant("quiet_time_saved",
       "if (free_at_ < now) free_at_ = now;", "",
       "a quiet time does not allow more than the burst")

# --- The client that stays connected ---

source("endpoint/connect_loop.cc", "reconnecting_client_test",
       "reconnect_fault_test", "client_test")
mutant("bytes_are_silence",
       "if (arrived != arrived_) {", "if (false) {",
       "what comes ends the silence")
mutant("silence_never_ends",
       "return now - since_ >= limit_;", "return false;",
       "a silent server is left")
mutant("silence_is_looked_at_late",
       "return Deadline::after(std::max(limit_ / 8, milliseconds(1)));",
       "return Deadline();", "the silence is looked at in time")
mutant("refused_option_each_time",
       "if (refused_options_.insert(option.name).second) {", "if (true) {",
       "a refused option is logged once")
mutant("outage_is_not_over",
       "    failed_ = 0;\n    told_ = false;", "    failed_ = 0;",
       "each outage is told")
mutant("failures_add_up",
       "    failed_ = 0;\n    told_ = false;", "    told_ = false;",
       "the tries in a row count")
mutant("each_failure_is_told",
       "if (gives_up || !told_) {", "if (true) {",
       "an outage is told once")
mutant("gives_up_without_closing",
       "if (gives_up) core_.close();", "", "the last try closes the client")
mutant("request_during_a_look_up",
       'if (core.close_requested()) throw CancelledError("resolve", target.name());',
       "", "request_close() ends the wait for a name server", same=
       "The tests have no name server that is silent; the try then ends at its "
       "deadline")
mutant("request_ends_no_pause",
       "if (is_over(core) || done() || deadline.has_passed()) return;",
       "if (core.is_closing() || done() || deadline.has_passed()) return;",
       "request_close() ends a pause", tests=["request_close_test"])
mutant("request_is_lost_before_the_poll",
       "core.waker().clear();\n    if (is_over(core) ||",
       "if (is_over(core)) return;\n    core.waker().clear();\n    if (",
       "the waker is cleared before the state is looked at", same=
       "Only a request between the two lines is lost: no test can hit that")
mutant("request_ends_no_watch",
       "while (core.is_current(link) && !core.close_requested()) {",
       "while (core.is_current(link)) {",
       "request_close() ends a client that is connected",
       tests=["request_close_test"])
mutant("requested_close_says_peer_closed",
       "if (is_over(core_)) return;\n  core_.finish_hung_up(link);",
       "core_.finish_hung_up(link);",
       "a requested close() is the reason of the end, not the server's",
       tests=["request_close_test"])
mutant("requested_close_is_not_done",
       "if (core.close_requested()) core.close();", "",
       "request_close() closes a client", tests=["request_close_test"])
mutant("finish_time_is_for_ever",
       "wait_until(core_, Deadline::after(options_.finish_time),",
       "wait_until(core_, {},",
       "unread bytes do not keep a client from connecting anew")
mutant("finish_time_is_none",
       "wait_until(core_, Deadline::after(options_.finish_time),\n"
       "             [&] { return !core_.is_current(link); });", "",
       "what the server sent before it went can be read")
mutant("pause_never_begins_anew",
       "    pause_ = milliseconds(0);\n", "",
       "the pause begins anew after a connection of use")
mutant("pause_begins_anew_for_a_word",
       "has_spoken ? std::max(pause_, options_.first) : options_.longest;",
       "has_spoken ? milliseconds(0) : options_.longest;",
       "the pause grows while the server greets and ends",
       tests=["reconnecting_client_test"])
mutant("pause_always_begins_anew",
       "if (std::chrono::floor<milliseconds>(lasted) >= enough) {", "if (true) {",
       "the pause grows while nothing comes from the server")
mutant("pause_has_no_bound",
       "pause_ = pause_ > options_.longest / 2", "pause_ = false",
       "the pause has a bound")
mutant("no_lingering",
       "  core_.linger_for_ended();\n}\n\nvoid ConnectLoop::note_failure",
       "}\n\nvoid ConnectLoop::note_failure",
       "sockets of ended connections are closed")

# --- What the fuzzers must find by themselves ---

source("stream/separator.cc", "reader_fuzz_test")
mutant("fuzz_other_separators",
       "if (!is_for(separators)) begin(separators);",
       "if (sizes_.empty()) begin(separators);",
       "the reader's fuzzer calls with one separator after another")

source("endpoint/text.cc", "text_fuzz_test")
mutant("fuzz_low_surrogate",
       "if (!is_low_surrogate(low)) return {};", "",
       "the text's fuzzer makes broken pairs of surrogates")

source("endpoint/heartbeats.cc", "heartbeat_fuzz_test")
mutant("fuzz_beat_late",
       "if (now >= next_beat_) {", "if (now > next_beat_) {",
       "the heartbeats' fuzzer has a clock that meets each time exactly")

source("byte_order.h", "struct_fuzz_test")
mutant("fuzz_two_bytes",
       "return __builtin_bswap16(x);", "return x;",
       "the structs' fuzzer compares what the bytes mean")
# --- Who may connect ---

source("network.cc", "network_test", "admission_test")
mutant("ipv4_in_all_of_ipv6",
       "return is_mapped(*bytes) == is_ipv4 && agree(*bytes, bytes_, bits_);",
       "return agree(*bytes, bytes_, bits_);",
       "::/0 does not let IPv4 in")
mutant("last_bits_do_not_count",
       "return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;",
       "return true;", "the bits in the last byte count")
mutant("bits_behind_are_taken",
       'if (without_last_bits(bytes_, bits_) != bytes_) {', "if (false) {",
       "a host with the bits of a network is a mistake")
mutant("nul_is_cut_off",
       """if (host.find('\\0') != std::string::npos) refuse(text, "it contains a NUL");""",
       "", "a NUL ends no address")

source("endpoint/endpoint_core.cc", "admission_test", "one_client_server_test")
mutant("everybody_takes_over",
       "case WhenBusy::kReject:\n      return false;",
       "case WhenBusy::kReject:\n      return true;",
       "a second client is turned away")
mutant("take_over_waits",
       "if (!current_ || is_live || force) return std::nullopt;",
       "if (!current_ || force) return std::nullopt;",
       "a take-over does not wait for a read of the old connection")
mutant("nobody_is_silent",
       "return silent_for && *silent_for >= config_.admission.silent_for;",
       "return false;", "a silent client is replaced")
mutant("everybody_is_silent",
       "return silent_for && *silent_for >= config_.admission.silent_for;",
       "return true;", "a client that sends keeps its place")
mutant("take_over_is_peer_closed",
       "if (unread == 0 && has_hung_up(*current_)) {", "if (unread == 0) {",
       "the event of the one that is replaced says so")

source("endpoint/accept_loop.cc", "admission_test")
mutant("allow_is_not_asked",
       "if (!allowed.empty() && std::ranges::none_of(allowed, has_peer)) {",
       "if (false) {", "who is not allowed is closed")
mutant("program_is_not_asked",
       "return !asked || asked(peer);", "return true;",
       "may_connect decides")
mutant("failure_lets_in",
       "what_of(e));\n    });\n  } catch (...) {\n    core_.counters()",
       "what_of(e));\n    });\n    return true;\n  } catch (...) {\n    core_.counters()",
       "an exception of may_connect lets nobody in")

# --- The testing kit's proxy, recordings and replay ---

source("testing/fault.cc", "faulty_proxy_test")
mutant("no_longest_time",
       "time < microseconds(0) || time > std::chrono::hours(24)",
       "time < microseconds(0)",
       "a time that the clock could not add is refused")
mutant("nothing_behind_a_reset",
       "(before->kind() == Kind::kReset ||", "(false ||",
       "a step behind reset() is refused")

source("testing/forwarder.cc", "faulty_proxy_test", "recorder_test",
       "proxy_fault_test")
mutant("step_comes_late",
       "if (at > line.passed)", "if (false)",
       "a step is taken behind exactly so many bytes")
mutant("end_without_delay",
       "const Time due = due_after(line, line.end_came);",
       "const Time due = line.end_came;",
       "a delay holds for the end of the stream too")
mutant("reset_becomes_fin",
       "if (!line.was_reset) {", "if (true) {",
       "a reset is passed on as a reset")
mutant("stall_never_ends",
       "if (line.stalled_until != Time::max()) wake_at(line.stalled_until);", "",
       "the thread wakes up when a stall for a time ends")
mutant("holds_any_amount",
       "line.held_bytes < kMostHeld && !line.held_up", "!line.held_up",
       "a direction holds back a bounded number of bytes",
       at="static bool wants_to_read(")
mutant("reset_behind_fin_is_missed",
       "from.got_end && !to.sent_end && !to.broken;", "false;",
       "a side that has sent FIN is watched for a reset")
mutant("sender_is_not_told",
       "if (lines_[d].broken && (back.is_over() || back.broken)) {",
       "if (false) {",
       "who sends to a peer that has closed is reset")
mutant("shortage_is_a_loss",
       "if (tcpip::internal::is_shortage(result.error_number)) {",
       "if (false) {",
       "a read that the kernel refuses for lack of memory is repeated",
       at="  void read(std::size_t d, Time now) {", tests=("proxy_fault_test",))
mutant("shortage_breaks_a_line",
       "if (tcpip::internal::is_shortage(result.error_number)) {",
       "if (false) {",
       "a write that the kernel refuses for lack of memory is repeated",
       at="  bool pass_piece(std::size_t d, Time now) {",
       tests=("proxy_fault_test",))
mutant("drop_lasts_for_ever",
       "if (over_at_.is_never()) over_at_ = Deadline(now + kDropTime);", "",
       "drop() closes the connection, whatever the peers do")
mutant("old_pace_stays",
       "line.next_piece = Time::min();  // not", "// not",
       "a new pace does not wait for the old one's next piece")
mutant("pieces_without_gap",
       "if (line.piece > 0) line.next_piece = Clock::now() + line.gap;", "",
       "pieces are apart")
mutant("resume_does_not_wake",
       "waker_.signal();", "", "resume() wakes the thread",
       at="void Forwarder::resume(")
mutant("close_does_not_wake",
       "waker_.signal();", "", "close() wakes the thread",
       at="void Forwarder::close() {")
mutant("accept_failure_is_repeated",
       "accept_fails_ = true;", "", "a failure to accept is logged once",
       tests=("proxy_fault_test",))

source("testing/recording.cc", "recording_test")
mutant("time_runs_back",
       "if (piece.time < time_) {", "if (false) {",
       "a time before the one before is refused")
mutant("goes_on_behind_the_end",
       'if (ended) return "that side has ended before";', "",
       "nothing comes behind a side's end")
mutant("quote_stays_open",
       'if (rest_.empty()) throw Malformed{"the bytes have no closing \\""};', "",
       "bytes without a closing quote are refused")
mutant("control_characters_pass",
       "if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {",
       "if (false) {", "control characters are refused")

source("testing/replay_server.cc", "replay_server_test", "proxy_fault_test")
mutant("differs_unseen",
       "if (same == got.size()) return std::nullopt;", "return std::nullopt;",
       "a byte that differs is a mismatch")
mutant("may_close_early",
       "if (play.received < expected.size()) {", "if (false) {",
       "a client that closes too early is a mismatch")
mutant("forgets_what_was_required",
       "play.required += piece.bytes.size();", "",
       "an answer waits for all requests before it")
mutant("answers_part_of_a_request",
       "play.received < play.required + piece.bytes.size()",
       "play.received <= play.required",
       "an answer waits for the whole request")
mutant("times_do_not_add_up",
       "play.last_done = due;", "", "recorded times are counted one after another")
mutant("close_does_not_wake",
       "waker_.signal();", "", "close() wakes the thread",
       at="void ReplayServer::Impl::close() {")
mutant("mismatch_without_a_reset",
       "internal::close_with_reset(state.socket);", "",
       "the client is reset after a mismatch")

# --- The tap and the statistics ---

source("tap.cc", "tap_test")
mutant("answer_before_question",
       "{ const MutexLock lock(sending_); }", "",
       "what is received during a send is shown behind it")
mutant("buffer_without_bound",
       "const std::size_t most = is_event ? buffer_ + kForEvents : buffer_;",
       "const std::size_t most = buffer_ + kForEvents;",
       "the memory of a tap leaves room for beginnings and ends")
mutant("skipped_not_counted",
       "skipped.fetch_add(count - header.size, std::memory_order_relaxed);", "",
       "what a tap does not show is counted")
mutant("gap_not_told",
       "direction.skipped += count - shown;", "",
       "a record tells what is missing before it")
mutant("gap_told_twice",
       "if (shown > 0) direction.skipped = 0;", "",
       "a record tells of a gap once")
mutant("add_after_close", "if (closed_) return 0;", "",
       "what passes after close() is not shown", same=
       "The thread has ended: nothing shows it, the memory fills up")
mutant("adding_wakes_nobody",
       "++added_;\n  changed_.notify_all();", "++added_;",
       "the thread of a tap wakes up for a record")
mutant("flush_waits_for_nothing",
       "return shown_ >= target || ended_;", "return true;",
       "flush() waits for the sink")
mutant("sink_called_after_close",
       "if (!workers_.join()) stop_ = true;", "workers_.join();",
       "a sink that has closed its tap is not called again")
mutant("close_drops_the_rest",
       "if (filling_.used == 0) break;", "if (filling_.used == 0 || closed_) break;",
       "close() shows what has passed")
mutant("sink_ends_the_thread",
       "} catch (...) {\n    note(\"an unknown exception\");", "} catch (int*) {",
       "a tap goes on when its sink throws")

source("tap_sink.cc", "tap_test")
mutant("file_overwritten", "O_CREAT | O_APPEND", "O_CREAT | O_TRUNC",
       "the file of a tap is appended to")
mutant("write_error_ignored", "throw_os_error(error, \"write\", path_);", "return;",
       "a file that cannot be written is an error")
mutant("backslash_not_escaped", "to += \"\\\\\\\\\";", "to += '\\\\';",
       "the text of a tap can be told from its escapes")
mutant("packets_too_long",
       "constexpr std::size_t kMost = 65'000;",
       "constexpr std::size_t kMost = 66'000;",
       "a packet is no longer than IP allows")
mutant("streams_begin_alike",
       "ends.first = static_cast<std::uint32_t>(mixed >> 32);", "ends.first = 1;",
       "a second connection with the same ports is another stream")
mutant("gap_closed",
       "from.next = ends.first + static_cast<std::uint32_t>(record.position);", "",
       "what is missing is missing in the packets too")

source("stream/send_buffer.h", "send_buffer_test", "stream_writer_test",
       "connection_test")
mutant("big_buffer_kept",
       "|| (empty() && capacity_ > kKeep))", ")",
       "a large buffer is freed before the next message")
mutant("big_buffer_kept_after_gather",
       "if (empty() && capacity_ > kKeep) free();", "",
       "a message that needs no buffer frees a large one")
mutant("buffer_never_moved",
       "if (needed > capacity_ || unsent.size() > capacity_ / 2) {",
       "if (true) {", "sent bytes are freed while others are queued")
mutant("room_without_the_unsent",
       "std::memmove(memory_.get(), unsent.data(), unsent.size());", "",
       "what is unsent moves to the beginning")
mutant("grown_without_the_unsent",
       "std::memcpy(memory.get(), unsent.data(), unsent.size());", "",
       "what is unsent moves to the larger memory")

# --- What a call finds its connection in ---

source("endpoint/link_source.h", "link_source_test", "read_writer_test",
       "connection_test")
mutant("cache_shared_by_two",
       "if (cache.in_use.exchange(true)) [[unlikely]] {", "if (false) {",
       "two calls at a time do not share a cache")
mutant("version_ignored",
       "if (cache.version != version_) [[unlikely]] {",
       "if (cache.version == 0) {",
       "a call finds the connection of this moment")
mutant("end_during_a_call_ignored",
       "if (source_->version_.load() != version_) [[unlikely]] {\n    source_->clear",
       "if (false) {\n    source_->clear",
       "a call clears the cache if the connection ends as it lets go", same=
       "between a look and the next instruction, which only the model meets")
mutant("child_is_not_told",
       "source->process_.check(operation);", "",
       "a child of fork() gets an error whatever was kept",
       tests=["fork_test"])
mutant("changed_source_is_touched",
       "cache_->drop();\n    return;", "",
       "a call that keeps its source does not touch it after letting go", same=
       "only another thread that clears the cache at the same moment shows it")
source("endpoint/link_source.cc", "link_source_test")
mutant("clear_forgets_the_kept",
       "const TextLink dropped = std::exchange(kept, {});", "",
       "clear() drops what is kept")
mutant("clear_keeps_the_version",
       "version = 0;", "", "a cleared cache asks again", same=
       "the version of the source has changed")
mutant("clear_keeps_the_cache",
       "in_use.store(false);", "",
       "a cleared cache can be used again", at="void LinkSource::Cache::drop(")
mutant("no_connection_is_remembered",
       "found.link ? version_ : 0;", "version_;",
       "without a connection each call asks for the format")
mutant("throwing_source_keeps_the_cache",
       "cache_->in_use.store(false);\n    throw;", "throw;",
       "a source that throws leaves the cache to the next call")

source("stream/sender.cc", "stats_test")
mutant("looks_are_timeouts",
       "if (!call.is_piece) meter_", "meter_",
       "the looks of a SendQueue are no time-outs")
