// What a child that fork() makes needs beside process_mark.h.
//
// Threads: every function may be called from any thread.
#ifndef TCPIP_BASE_PROCESS_H_
#define TCPIP_BASE_PROCESS_H_

#include <memory>

#include "tcpip/process_mark.h"

namespace tcpip::internal {

// Calls `reset` in every child, before the child goes on: for a table of the
// process whose lock another thread may hold at a fork(). To be called once for
// each `reset`.
void reset_in_children(void (*reset)()) noexcept;

// For destructors in a child: keeps the object for ever, since destroying it
// could wait for a thread that does not exist.
void keep_for_ever(std::shared_ptr<const void> object) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_PROCESS_H_
