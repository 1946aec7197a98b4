/* A model of how the thread that watches a connection and the thread that reads
 * from it agree who ends it once its peer has gone.
 *
 * The last of two events ends the connection: the watching thread has seen the
 * hang-up, and the read that takes the last byte has ended. No lock is around
 * both (see Receiver::expect_end(), SoleReader::end_before_look() and
 * EndpointCore::note_hang_up()). The steps below are sequentially consistent, as
 * their atomics are. tests/model/close_test.cc runs Spin on it.
 *
 * Spin verifies, over all interleavings: when both threads are done, the
 * connection has ended; and it never ends while a byte is unread.
 *
 * Configurations:
 *   (none)
 *   -DBAD_LOOK_FIRST    the read looks for expect_end() before it has ended
 *   -DBAD_EXPECT_LAST   the watching thread looks for a read before it calls
 *                       expect_end()
 */

#define BYTES 2

byte kernel;   /* bytes in the socket */
bool fin;      /* the peer's FIN is behind them */
byte buffer;   /* bytes in the Receiver */
bool reading;  /* SoleReader */
bool expected; /* Receiver::end_is_expected_ */
bool hung_up;  /* Link */
bool current = true;
bool mutex; /* of EndpointCore */
bool reader_done, watcher_done;

#define LOCK atomic { !mutex -> mutex = true }
#define UNLOCK mutex = false

inline end_link() {
  assert(kernel == 0 && buffer == 0);
  current = false
}

active proctype Peer() {
  byte sent;
  do
  :: sent < BYTES -> atomic { kernel++; sent++ }
  :: sent == BYTES -> break
  od;
  fin = true
}

active proctype Reader() {
  byte taken;
  bool drained, look;
  do
  :: taken == BYTES -> break
  :: taken < BYTES ->
    /* An operation that takes a byte. */
    reading = true;
    if
    :: buffer > 0
    :: buffer == 0 -> atomic { kernel > 0 -> buffer = kernel; kernel = 0 }
    fi;
    buffer--;
    taken++;
    /* ~Operation() */
    drained = buffer == 0;
#ifdef BAD_LOOK_FIRST
    look = expected;
    reading = false;
#else
    reading = false;
    look = expected;
#endif
    if
    :: drained && look -> /* EndpointCore::read_ended() */
      LOCK;
      if
      :: current && hung_up && kernel == 0 && fin && buffer == 0 -> end_link()
      :: else
      fi;
      UNLOCK
    :: else
    fi
  od;
  reader_done = true
}

/* EndpointCore::note_hang_up(), once poll() has told of the hang-up. */
active proctype Watcher() {
  bool at_end, was_reading, unread;
  fin;
  LOCK;
  hung_up = true;
#ifndef BAD_EXPECT_LAST
  expected = true;
#endif
  at_end = kernel == 0;
  was_reading = reading;
  unread = buffer > 0;
#ifdef BAD_EXPECT_LAST
  expected = true;
#endif
  if
  :: current && at_end && !was_reading && !unread -> end_link()
  :: else
  fi;
  UNLOCK;
  watcher_done = true
}

active proctype Check() {
  reader_done && watcher_done;
  assert(!current)
}
