/* A model of how clients and servers are closed and destroyed, from every kind
 * of thread, while their callbacks and read handlers do the same.
 *
 * ARCHITECTURE.md ("Closing") describes the protocol, and what this model leaves
 * out. Each step names the function that it stands for; what happens under one
 * mutex is one atomic step. tests/model/close_test.py runs Spin on it.
 *
 * Spin verifies, over all interleavings:
 *  - Every call of close() and every thread comes to an end (no deadlock).
 *  - After close() no callback of that object begins. After a close() in a
 *    thread that is not ours and is inside no callback, no callback runs, and
 *    threads and descriptors of the object are gone.
 *  - The events of an object alternate: connected, disconnected, connected ...
 *  - Each descriptor is closed once, and never while a thread is in recv().
 *  - A thread does not wait for another one only if that one really waits for
 *    it.
 *
 * Configurations:
 *   (none)     two objects with a dispatcher each, both connected
 *   -DDRAINED  the callbacks of both run in the thread that drains the
 *              program's queue
 *   -DMIXED    object 0 has a dispatcher, object 1 the program's queue
 *   -DLIFE     one object, with the thread that lets clients in and sees them
 *              hang up, and a second thread that closes it. With -DDRAINED or
 *              without.
 *   -DREAD_AFTER_CALLBACK  as the option of that name
 *   -DBUDGET=n how many times callbacks and read handlers close or destroy
 *              something
 *   -DBAD_...  without one protection, which Spin must miss
 */

#ifndef BUDGET
#define BUDGET 2
#endif
#ifdef LIFE
#define CONNECTIONS 2 /* of each object, one after the other */
#define HAS_WATCHER true
#else
#define CONNECTIONS 1
#define HAS_WATCHER false
#endif
#define NONE 9

/* --- Threads: see tcpip/base/thread_number.h. No thread has the number 0. --- */

#define READER(o) (1 + (o))     /* runs the read handler */
#define DISPATCHER(o) (3 + (o)) /* runs callbacks if the program has no queue */
#define DRAINER 5               /* drains the program's queue */
#define PROGRAM 6               /* any other thread of the program */
#define OTHER 7                 /* and another one */
#define WATCHER(o) (8 + (o))    /* the accept or monitor thread */
#define THREADS 10

#if defined(DRAINED)
#define HAS_DISPATCHER(o) false
#define RUNS_CALLBACKS(o) DRAINER
#elif defined(MIXED)
#define HAS_DISPATCHER(o) ((o) == 0)
#define RUNS_CALLBACKS(o) (3 + 2 * (o)) /* DISPATCHER(0), DRAINER */
#else
#define HAS_DISPATCHER(o) true
#define RUNS_CALLBACKS(o) DISPATCHER(o)
#endif

bool ended[THREADS];  /* the thread's function has returned */
bool taken[THREADS];  /* somebody has taken its std::jthread, to join it */
bool joined[THREADS]; /* Workers has no entry of it any more */

/* ThreadWait: whom a thread waits for; 0: nobody. For which callback of theirs:
 * that of object wait_item - 1; 0: for the end of the thread. */
byte waits_for[THREADS];
byte wait_item[THREADS];

/* --- EndpointCore --- */

bool closing[2];
bool stop[2];    /* Workers: the stop is requested */
byte current[2]; /* the number of the current connection, or 0 */
byte told[2];    /* the newest whose connected event was delivered */

/* --- Connections: number n of object o is C(o, n) --- */

#define C(o, n) ((o) * CONNECTIONS + (n) - 1)

byte references[2 * CONNECTIONS]; /* shared_ptrs to its Socket */
byte closes[2 * CONNECTIONS];     /* close(2) of its descriptor */
bool shut[2 * CONNECTIONS];       /* Socket::close(): wakes who is in recv() */
bool peer_gone[2 * CONNECTIONS];  /* the peer has sent FIN or a reset */
bool lingering[2 * CONNECTIONS];  /* it is in EndpointCore::ended_ */

/* --- CallbackQueue: a chan for each Owner --- */

mtype = { connected, disconnected };
chan queue[2] = [2 * CONNECTIONS] of { mtype, byte };
bool queue_closed[2];
bool cancelled[2]; /* the Owner is not in owners_ any more */
bool running[2];   /* running_: the thread RUNS_CALLBACKS runs a callback */

/* --- What is verified, and what the program may still do --- */

mtype last_event[2]; /* that was delivered */
bool closed[2];      /* a close() that waits has returned */
bool destroyed[2];   /* the program has begun to destroy it, or there is none */
byte budget = BUDGET;

/* --- Connections and events ----------------------------------------------- */

/* A shared_ptr to the Socket goes; the last one closes the descriptor. */
inline let_go(c) {
  assert(references[c] > 0);
  references[c]--;
  if
  :: references[c] == 0 -> closes[c]++; assert(closes[c] == 1)
  :: else
  fi
}

/* CallbackQueue::Impl::post_event() */
inline post_event(o, kind, number) {
  if
  :: !queue_closed[o] && !cancelled[o] -> queue[o]!kind, number
  :: else
  fi
}

/* EndpointCore::admit(), in part: a Link becomes current. */
inline make_current(o, number) {
  references[C(o, number)]++;
  current[o] = number;
#ifndef BAD_POST_LATER /* the event is queued after the mutex is released */
  post_event(o, connected, number)
#endif
}

/* EndpointCore::end_link(). ended_ gets the reference that current_ had. */
inline end_link(o) {
  post_event(o, disconnected, current[o]);
  shut[C(o, current[o])] = true;
#ifdef BAD_CLOSE_AT_ONCE /* close(2) while others may be in recv() */
  closes[C(o, current[o])]++;
#endif
  lingering[C(o, current[o])] = true;
  current[o] = 0
}

/* EndpointCore::take_ended(), Socket::linger() */
inline linger_for_ended(o) {
  atomic {
    n = 1;
    do
    :: n <= CONNECTIONS ->
       if
       :: lingering[C(o, n)] -> lingering[C(o, n)] = false; let_go(C(o, n))
       :: else
       fi;
       n++
    :: else -> break
    od;
    n = 0
  }
}

/* --- Waiting for threads -------------------------------------------------- */

/* ThreadWait::ThreadWait(): not `allowed` if `other` waits for this thread. */
inline enter_wait(other, item) {
  d_step {
    allowed = true;
    at = other;
    do
    :: at == me -> allowed = false; break
#ifdef BAD_NO_TABLE /* a thread knows only that it cannot wait for itself */
    :: else -> break
#else
    :: at == 0 -> break
    :: else -> at = waits_for[at]
#endif
    od;
    /* If this thread does not wait, the waits that stop it are real: the
     * callbacks that they are for still run. */
    at = (allowed -> 0 : other);
    do
    :: at == 0 || at == me -> break
    :: else ->
       assert(wait_item[at] == 0 || running[wait_item[at] - 1]);
       at = waits_for[at]
    od;
    at = 0;
    if
    :: allowed -> waits_for[me] = other; wait_item[me] = item
    :: else
    fi
  }
}

/* ThreadWait::~ThreadWait() */
inline leave_wait() {
  waits_for[me] = 0;
  wait_item[me] = 0;
  allowed = false
}

/* Workers::State::join_one(): one thread joins, others wait until it has. */
inline join_one(w) {
  atomic {
    enter_wait(w, 0);
    if
    :: !allowed
    :: allowed && joined[w] -> leave_wait()
    :: allowed && taken[w] && !joined[w] -> joined[w]; leave_wait()
    :: allowed && !taken[w] -> taken[w] = true;
       ended[w]; /* std::jthread::join() */
       joined[w] = true;
       leave_wait()
    fi
  }
}

/* CallbackQueue::Impl::drop() */
inline drop(x) {
#ifndef BAD_NO_DROP
  d_step {
    cancelled[x] = true;
    do
    :: nempty(queue[x]) -> queue[x]?_, _
    :: empty(queue[x]) -> break
    od
  }
#else
  skip
#endif
}

/* CallbackQueue::Impl::wait_for_running() */
inline wait_for_running(x) {
#ifndef BAD_NO_WAIT_FOR_CALLBACK
  atomic {
    if
    :: !running[x]
    :: else ->
       enter_wait(RUNS_CALLBACKS(x), x + 1);
       if
       :: !allowed
       :: else -> !running[x]; leave_wait()
       fi
    fi
  }
#else
  skip
#endif
}

/* --- Closing -------------------------------------------------------------- */

/* EndpointCore::tell_all_to_end() */
inline tell_all_to_end(x) {
  atomic {
    if
    :: current[x] != 0 -> end_link(x)
    :: else
    fi;
    closing[x] = true
  };
  atomic {
    queue_closed[x] = HAS_DISPATCHER(x); /* QueueThread::close() */
    stop[x] = true                       /* Workers::request_stop() */
  }
}

/* EndpointCore::wait_until_ended(), up to the callbacks */
inline join_and_linger(x) {
  if
  :: HAS_WATCHER -> join_one(WATCHER(x))
  :: else
  fi;
  join_one(READER(x));
  if
  :: HAS_DISPATCHER(x) -> join_one(DISPATCHER(x))
  :: else
  fi;
  linger_for_ended(x)
}

/* EndpointCore::close(), or release() if this thread destroys the object. For
 * the threads in which EventOwner::retire() has nothing to run. */
inline close(x, releases) {
  tell_all_to_end(x);
  if
  :: !releases && me == READER(x) /* somebody else does the rest */
  :: else ->
     join_and_linger(x);
     drop(x);
     wait_for_running(x);
     closed[x] = true
  fi
}

/* What a callback or a read handler may do: nothing, or close or destroy any
 * object that the program has not yet begun to destroy. */
inline choose(x, releases) {
  if
  :: skip
  :: atomic { budget > 0 && !destroyed[0] -> budget--; x = 0 }
  :: atomic { budget > 0 && !destroyed[1] -> budget--; x = 1 }
  :: atomic { budget > 0 && !destroyed[0] ->
              budget--; x = 0; releases = true; destroyed[0] = true }
  :: atomic { budget > 0 && !destroyed[1] ->
              budget--; x = 1; releases = true; destroyed[1] = true }
  fi
}

inline code_of_program(x, releases) {
  choose(x, releases);
  if
  :: x != NONE -> close(x, releases)
  :: else
  fi;
  atomic { x = NONE; releases = false }
}

/* --- Callbacks ------------------------------------------------------------ */

/* CallbackQueue::Impl::start(), EndpointCore::run_event() */
inline begin_event(o, kind, number) {
  atomic {
    nempty(queue[o]) -> queue[o]?kind, number;
    running[o] = true;
    assert(!closed[o]);
    assert(kind == (last_event[o] == connected -> disconnected : connected));
    last_event[o] = kind
  }
}

/* CallbackQueue::Impl::finish(), with ThreadWait::end() */
inline finish_event(o, kind, number) {
  atomic {
    if
    :: kind == connected -> told[o] = number
    :: else
    fi;
    running[o] = false;
#ifndef BAD_NO_END
    at = 1;
    do
    :: at < THREADS ->
       if
       :: wait_item[at] == o + 1 -> waits_for[at] = 0
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0;
#endif
    kind = 0;
    number = 0
  }
}

/* --- The threads ---------------------------------------------------------- */

#define LOCALS          \
  byte at = 0;          \
  byte x = NONE;        \
  byte n = 0;           \
  bool allowed = false; \
  bool releases = false

/* AcceptLoop::run(): lets clients in, sees that they hang up, lingers. */
proctype Watcher(byte o) {
  byte me = WATCHER(o);
  byte accepted = 0;
  byte n = 0;
  do
  :: stop[o] -> break
  :: atomic { !stop[o] && current[o] == 0 && accepted < CONNECTIONS ->
              accepted++ };
     /* admit(). A Link that is refused goes at once. */
     atomic {
       references[C(o, accepted)]++;
       if
       :: peer_gone[C(o, accepted)] = true
       :: skip
       fi;
       if
#ifndef BAD_ADMIT_WHILE_CLOSING
       :: closing[o]
#endif
       :: else -> make_current(o, accepted)
       fi;
       let_go(C(o, accepted))
     };
#ifdef BAD_POST_LATER
     atomic { post_event(o, connected, accepted) };
#endif
  :: atomic { current[o] != 0 && peer_gone[C(o, current[o])] ->
              end_link(o) } /* note_hang_up() */
  :: atomic { lingering[C(o, 1)] || lingering[C(o, CONNECTIONS)] ->
              linger_for_ended(o) }
  od;
  linger_for_ended(o);
  ended[me] = true
}

/* ReadLoop: calls the read handler, for one connection after the other. */
proctype Reader(byte o) {
  byte me = READER(o);
  byte served = 0;
  LOCALS;
  do
  :: atomic { closing[o] -> break } /* wait_for_link() */
  :: atomic { !closing[o] && current[o] > served ->
              served = current[o];
              references[C(o, served)]++ };
#ifdef READ_AFTER_CALLBACK
     (told[o] >= served || current[o] != served); /* wait_until_told() */
#endif
     code_of_program(x, releases);
     /* recv(): until Socket::close() or the peer ends it; read_ended() */
     atomic {
       shut[C(o, served)] || peer_gone[C(o, served)];
       assert(closes[C(o, served)] == 0);
       if
       :: current[o] == served -> end_link(o)
       :: else
       fi;
       let_go(C(o, served))
     }
  od;
  atomic { served = 0; ended[me] = true }
}

/* QueueThread::drain() */
proctype Dispatcher(byte o) {
  byte me = DISPATCHER(o);
  byte number = 0;
  mtype kind = 0;
  LOCALS;
  do
  :: begin_event(o, kind, number);
     code_of_program(x, releases);
     finish_event(o, kind, number)
  :: atomic { empty(queue[o]) && queue_closed[o] -> break }
  od;
  ended[me] = true
}

/* A callback in the thread that drains the program's queue. If it closes an
 * object, EventOwner::retire() runs what that object has queued. */
#define MAY_RUN(x) (!HAS_DISPATCHER(x) && !running[x])
inline rest_of_callback(o) {
  choose(x, releases);
  if
  :: x != NONE ->
     tell_all_to_end(x);
     join_and_linger(x);
     do
     :: atomic { MAY_RUN(x) && nempty(queue[x]) ->
                 begin_event(x, kind2, number2) };
        code_of_program(x2, releases2);
        finish_event(x, kind2, number2)
     :: atomic { !MAY_RUN(x) || empty(queue[x]) -> break }
     od;
     drop(x);
     wait_for_running(x);
     closed[x] = true
  :: else
  fi;
  atomic { x = NONE; releases = false };
  finish_event(o, kind, number)
}

/* CallbackQueue::run_until() */
proctype Drainer() {
  byte me = DRAINER;
  byte number = 0, number2 = 0, x2 = NONE;
  mtype kind = 0, kind2 = 0;
  bool releases2 = false;
  LOCALS;
  do
#ifdef DRAINED
  :: begin_event(0, kind, number);
     rest_of_callback(0)
#endif
#ifndef LIFE
  :: begin_event(1, kind, number);
     rest_of_callback(1)
#endif
  :: closing[0] && closing[1] -> break
  od
}

/* Nothing of the object is left. */
inline expect_nothing_left(x) {
  d_step {
    assert(!running[x]);
    assert(empty(queue[x]));
    assert(current[x] == 0);
    assert(ended[READER(x)]);
    assert(ended[WATCHER(x)] || !HAS_WATCHER);
    assert(ended[DISPATCHER(x)] || !HAS_DISPATCHER(x));
    assert(references[C(x, 1)] == 0 && references[C(x, CONNECTIONS)] == 0)
  }
}

/* A thread of the program, inside no callback. */
proctype Program(byte me) {
  LOCALS;
#ifdef LIFE
  if
  :: me == OTHER ->
     if
     :: atomic { !destroyed[0] -> x = 0 };
        close(x, false);
        expect_nothing_left(0)
     :: skip
     fi
  :: else
  fi;
#endif
  do
  :: atomic { !destroyed[0] -> destroyed[0] = true; x = 0 };
     close(x, true);
     expect_nothing_left(0)
  :: atomic { !destroyed[1] -> destroyed[1] = true; x = 1 };
     close(x, true);
     expect_nothing_left(1)
  :: destroyed[0] && destroyed[1] -> break
  od;
  x = NONE
}

init {
  atomic {
#ifdef LIFE
    destroyed[1] = true;
    closing[1] = true;
    run Watcher(0);
    run Reader(0);
    run Program(OTHER);
#else
    make_current(0, 1);
    peer_gone[C(0, 1)] = true;
    make_current(1, 1);
    peer_gone[C(1, 1)] = true;
    run Reader(0);
    run Reader(1);
    if
    :: HAS_DISPATCHER(1) -> run Dispatcher(1)
    :: else
    fi;
#endif
    if
    :: HAS_DISPATCHER(0) -> run Dispatcher(0)
    :: else
    fi;
#if defined(DRAINED) || defined(MIXED)
    run Drainer();
#endif
    run Program(PROGRAM)
  }
}
