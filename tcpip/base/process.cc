#include "tcpip/base/process.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <new>
#include <stdexcept>
#include <utility>

namespace tcpip::internal {
namespace {

void count_child() noexcept { ++process_number; }

// Reachable, so that no leak checker complains.
struct Kept {
  std::shared_ptr<const void> object;
  Kept* next;
};
constinit std::atomic<Kept*> kept{nullptr};
// Never destroyed.
union LastResort {
  constexpr LastResort() : none(0) {}
  ~LastResort() {}
  char none;
  std::shared_ptr<const void> object;
} last_resort;

}  // namespace

constinit std::atomic<unsigned> process_number{0};

ProcessMark::ProcessMark() noexcept : number_(process_number.load()) {
  // glibc takes the handler back if the module that has this code is unloaded.
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, &count_child);
}

void ProcessMark::fail(const char* operation) {
  throw std::logic_error(fmt::format(
      "{}: the object belongs to the process that made it; a child that fork() "
      "has made may only destroy it",
      operation));
}

void keep_for_ever(std::shared_ptr<const void> object) noexcept {
  if (!object) return;
  Kept* const node = new (std::nothrow) Kept{object, kept.load()};
  if (node == nullptr) {
    // The last way to keep a reference.
    new (&last_resort) std::shared_ptr<const void>(std::move(object));
    return;
  }
  while (!kept.compare_exchange_weak(node->next, node)) {
  }
}

}  // namespace tcpip::internal
