// What a child that fork() makes needs beside process_mark.h.
//
// Threads: every function may be called from any thread.
#ifndef TCPIP_BASE_PROCESS_H_
#define TCPIP_BASE_PROCESS_H_

#include <pthread.h>

#include <memory>
#include <new>
#include <type_traits>

#include "tcpip/process_mark.h"

namespace tcpip::internal {

// Makes `table` new in every child, before the child goes on: for a table of
// the process whose lock another thread may hold at a fork(), and whose entries
// belong to threads that the child does not have. A second call does nothing.
template <auto& table>
void renew_in_children() noexcept {
  using Table = std::remove_reference_t<decltype(table)>;
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { new (&table) Table; });
}

// For destructors in a child: keeps the object for ever, since destroying it
// could wait for a thread that does not exist.
void keep_for_ever(std::shared_ptr<const void> object) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_PROCESS_H_
