/* A model of how the calls that use a cache of a LinkSource and the thread that
 * ends the connection agree who clears the cache
 * (tcpip/endpoint/link_source.h). No lock is around it: in_use and the version
 * are sequentially consistent, and the steps below are theirs.
 * tests/model/close_test.cc runs Spin on it.
 *
 * Spin verifies, over all interleavings of two callers and an end: nobody
 * touches what is kept but who has set in_use; a call that begins after the end
 * finds no connection; and when all are done, none is kept.
 *
 * Configurations:
 *   (none)
 *   -DBAD_LOOK_FIRST    a call looks at the version before it lets go
 *   -DBAD_CLEAR_FIRST   the end clears the cache before it changes the version
 *   -DBAD_KEEP_ALL      a call that finds no version of its own keeps the cache
 *                       as of the latest version
 */

#define CALLS 2

bool current = true; /* the connection, guarded by the mutex */
bool mutex;
byte version = 1;
bool in_use;
bool kept;         /* Cache::kept.link */
byte kept_version; /* Cache::version */
bool touched;      /* kept and kept_version are being used */
bool over;         /* note_change() of the end has returned */
byte done;

inline touch() { assert(!touched); touched = true }
inline leave() { touched = false }

/* LinkSource::clear() */
inline clear() {
  atomic { was_taken = in_use; in_use = true }
  if
  :: was_taken
  :: else ->
    touch();
    kept = false;
    kept_version = 0;
    leave();
    in_use = false
  fi
}

proctype Caller() {
  byte calls, v;
  bool taken, was_taken, began_over, found;
  do
  :: calls == CALLS -> break
  :: calls < CALLS ->
    calls++;
    began_over = over;
    atomic { taken = in_use; in_use = true }
    if
    :: taken -> /* use_own() */
      atomic { !mutex -> found = current };
      assert(!(began_over && found))
    :: else ->
      touch();
      v = version;
      if
      :: kept_version != v -> /* refresh() */
        atomic { !mutex -> found = current };
        kept = found;
#ifdef BAD_KEEP_ALL
        kept_version = version;
        v = version
#else
        kept_version = (found -> v : 0)
#endif
      :: else
      fi;
      assert(!(began_over && kept));
      leave();
      if
      :: version != v -> /* Cache::drop() */
        touch();
        kept = false;
        kept_version = 0;
        leave();
        in_use = false;
        goto next
      :: else
      fi;
#ifdef BAD_LOOK_FIRST
      if
      :: version != v -> in_use = false; clear()
      :: else -> in_use = false
      fi
#else
      in_use = false;
      if
      :: version != v -> clear()
      :: else
      fi
#endif
    fi;
next: skip
  od;
  done++
}

active proctype Ender() {
  bool was_taken;
#ifdef BAD_CLEAR_FIRST
  clear();
#endif
  atomic { !mutex -> mutex = true };
  version++;
  over = true; /* who asks for the connection waits for the lock */
  current = false;
  mutex = false;
#ifndef BAD_CLEAR_FIRST
  clear();
#endif
  done++
}

init {
  atomic { run Caller(); run Caller() };
  done == 3;
  assert(!kept)
}
